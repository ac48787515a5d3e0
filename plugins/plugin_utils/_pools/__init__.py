# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mining pools: lists of names, their addresses, and what changes from one day to the next. PRIVATE to the collection."""
