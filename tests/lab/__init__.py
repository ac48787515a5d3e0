# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small provider in network namespaces: real guests on real libvirt hosts, a controller and an internet.

``python -m tests.lab`` starts one to play with; tests and the demo use :class:`tests.lab.lab.Lab`.
"""

from __future__ import annotations
