# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program on a KVM host that keeps its desired state without controller and ledger. PRIVATE to the collection.

It is packed with the node's half of the collection into one file (`plugin_utils/_zipapp.py`), so that
keeper, hook and module run the same code with the same lock and the same files.
"""
