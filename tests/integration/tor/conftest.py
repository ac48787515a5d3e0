# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets these tests import what stands beside them."""
from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
