# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Proxmox VE cluster is to look like and what to change to get there. Pure. PRIVATE to the collection.

`_desired` adds to `resolve` what a cluster needs, `_firewall` says which groups, sets and rules that means, `_guest` plans
one guest, `_nics` and `_units` know how the server writes things.
"""
