# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tor on customers' guests: configurations that can't exit, and who in our prefixes can. PRIVATE to the collection."""
