# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of these tests; they live in a module with a name of its own so that tests can import from it."""
from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))

from filter_lab import bare, lab, wired
from traffic_lab import traffic

__all__ = ["bare", "lab", "traffic", "wired"]
