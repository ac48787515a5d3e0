# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""For all tests: property tests are about what holds, not about how fast this machine is today."""
from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("aup", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("aup")
