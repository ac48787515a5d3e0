# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices to customers: what they say, and how they get there. PRIVATE to the collection."""

from __future__ import annotations
