# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routers over SSH, from the controller: sessions, platforms, converging. PRIVATE to the collection.

A platform is one file: a class with `name`, `GRAMMAR` (every line it may ever send), `observe`, `commands`, `undo`, `apply`,
`confirm` and `save`, listed in `_platforms`. Those of vendors are subclasses of `_driver.VendorDriver`.
"""
from __future__ import annotations
