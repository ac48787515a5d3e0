# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that take `site` run on any cluster: that which PROXMOX_URL names (docs/proxmox.md), else the stand-in in a process of
its own. All others make or look into the stand-in themselves, and stay with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger

from .site import Site, environment

_HERE = Path(__file__).parent


def pytest_configure(config):
    config.addinivalue_line("markers", "standin: needs what only the stand-in for a cluster does; not run with PROXMOX_URL")


def pytest_collection_modifyitems(items):
    for item in items:
        if _HERE in item.path.parents and "_made" not in getattr(item, "fixturenames", ()):
            item.add_marker("standin")
            if environment():
                item.add_marker(pytest.mark.skip(reason="needs faults that only the stand-in makes"))


@pytest.fixture(scope="session")
def _environ(tmp_path_factory):
    """What is known of the cluster; of the stand-in, which must be as it was found at the end."""
    given = environment()
    if given:
        yield given
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.proxmox.alone", str(tmp_path_factory.mktemp("alone"))], cwd=_HERE.parents[2],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        assert process.wait(20) == 0, "the stand-in is not as it was found"


@pytest.fixture(scope="session")
def _made(_environ, tmp_path_factory):
    """`(site, what was said while its guests were made)`; they are deleted at the end."""
    place = tmp_path_factory.mktemp("site")
    made = Site(_environ)
    with open_ledger(str(place / "ledger.sqlite3"), create=True) as ledger:
        made.begin(ledger, place)
        made.refuse()
        try:
            yield made, made.make()
        finally:
            made.leave()


@pytest.fixture
def site(_made, tmp_path):
    """A provider with a new ledger, and guests as they were made; the test's end has them so again."""
    made = _made[0]
    with open_ledger(str(tmp_path / "ledger.sqlite3"), create=True) as ledger:
        made.begin(ledger, tmp_path)
        try:
            yield made
        finally:
            made.end()


@pytest.fixture
def told(site, _made):
    """What was said and seen while the guests were made."""
    return _made[1]
