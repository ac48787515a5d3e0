# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routers over SSH, from the controller: sessions, platforms, converging. PRIVATE to the collection.

A platform is one file: a class with `NAME`, `GRAMMAR` (every line it may ever send), `connect`, `observe`,
`commands`, `apply`, `save`. It is listed in `_platforms` and tested by one file of its own.
"""
from __future__ import annotations
