# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The platforms there are: one file each, listed here. PRIVATE to the collection.

Junos, EOS, IOS-XE, RouterOS and VyOS have no driver yet, IOS-XR and NX-OS come after them.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._router._frr import Frr
from ansible_collections.hosting.aup.plugins.plugin_utils._router._linux import Linux

PLATFORMS = {driver.name: driver for driver in (Frr, Linux)}
ANNOUNCING = frozenset(name for name, driver in PLATFORMS.items() if driver.announces)
"""Platforms that announce a null route to upstreams by themselves."""
