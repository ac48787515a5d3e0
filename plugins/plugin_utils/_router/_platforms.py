# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The platforms there are: one file each, listed here. PRIVATE to the collection.

IOS-XR and NX-OS have no driver yet. Both have candidate and confirmation: each is one more subclass of
`_driver.VendorDriver` in a file of its own (`_iosxr`, `_nxos`), a fake in tests/integration/routers/devices, and a line here.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._router._eos import Eos
from ansible_collections.hosting.aup.plugins.plugin_utils._router._frr import Frr
from ansible_collections.hosting.aup.plugins.plugin_utils._router._iosxe import IosXe
from ansible_collections.hosting.aup.plugins.plugin_utils._router._junos import Junos
from ansible_collections.hosting.aup.plugins.plugin_utils._router._linux import Linux
from ansible_collections.hosting.aup.plugins.plugin_utils._router._routeros import RouterOs
from ansible_collections.hosting.aup.plugins.plugin_utils._router._vyos import Vyos

PLATFORMS = {driver.name: driver for driver in (Eos, Frr, IosXe, Junos, Linux, RouterOs, Vyos)}
ANNOUNCING = frozenset(name for name, driver in PLATFORMS.items() if driver.announces)
"""Platforms that announce a null route to upstreams by themselves."""
