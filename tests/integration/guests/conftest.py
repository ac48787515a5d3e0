# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS / "unit" / "guests")]

from libvirt_node import LibvirtNode, missing


@pytest.fixture(scope="module")
def node():
    lacking = missing()
    if lacking:
        pytest.skip("needs " + ", ".join(lacking))
    with LibvirtNode() as running:
        yield running


@pytest.fixture
def host(node):
    connected = _libvirt.connect(node.uri)
    yield connected
    connected.close()
