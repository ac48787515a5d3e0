# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from tests.integration.routers.provider import Provider
from tests.integration.routers.router_lab import ROUTER, RouterLab


@pytest.fixture(scope="session")
def built():
    with RouterLab() as lab:
        yield lab


@pytest.fixture
def lab(built):
    """The routers, the edge as it was built."""
    built.reset()
    yield built
    built.reset()


@pytest.fixture
def provider(lab, tmp_path):
    """A provider whose edge is the lab's."""
    with Provider(tmp_path, lab.sshd.target(), ROUTER) as made:
        made.provision()
        yield made
