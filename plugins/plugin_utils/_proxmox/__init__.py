# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Proxmox VE cluster over its API: the client, what is seen, what is done. PRIVATE to the collection."""
