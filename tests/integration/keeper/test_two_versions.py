# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of an older and a newer release beside this one's module, files and program, on a real host. Needs root."""
from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))

from libvirt_node import missing

from ansible_collections.hosting.aup.plugins.module_utils import _standing
from ansible_collections.hosting.aup.plugins.plugin_utils._zipapp import build
from tests.integration.soak.host import Host

ROOT = Path(__file__).resolve().parents[3]
RUNNING, PAUSED = 1, 3
# What another release would differ in here: what it reads, and what it writes beside.
OLDER = [("_standing.py", "FORMAT = %d" % _standing.FORMAT, "FORMAT = %d" % (_standing.FORMAT - 1))]
NEWER = [("_standing.py", "FORMAT = %d" % _standing.FORMAT, "FORMAT = %d" % (_standing.FORMAT + 1)),
         ("_node_state.py", '"given_back": {}, "armed": None}', '"given_back": {}, "armed": None, "of_a_newer_release": {"a": 1}}')]


def other(place, changes, version):
    """The program of another release: this one's sources, changed."""
    shutil.copytree(ROOT / "plugins/module_utils", place / "plugins/module_utils")
    for name, old, new in changes:
        path = place / "plugins/module_utils" / name
        text = path.read_text()
        assert text.count(old) == 1, (name, old)
        path.write_text(text.replace(old, new))
    return build(place, version)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    lacking = missing()
    if lacking:
        pytest.skip("needs " + ", ".join(lacking))
    programs = {"now": build(ROOT), "older": other(tmp_path_factory.mktemp("older"), OLDER, "0.9.0"),
                "newer": other(tmp_path_factory.mktemp("newer"), NEWER, "99.0.0")}
    with Host(2) as host:
        for name, data in programs.items():
            (host.root / "run" / name).write_bytes(data)
        seen = host.python("tests.integration.keeper.two_versions", timeout=300)
    assert seen["wrong"] == []
    return seen


def test_an_older_program_carries_out_what_it_can_read(found):
    assert found["format"] == [1, 2]
    one = found["older passes"]
    assert one["done"]["rc"] == 0 and one["seen"]["state"] == RUNNING and one["seen"]["quota"] == 20000, one["done"]
    assert one["journal"] == ["ended", "given_back"] and "tap1 . 6667" in one["seen"]["rules"].replace('"', "")
    assert one["then"]["rc"] == 0 and one["journal then"] == ["ended", "given_back"], "and this one finds nothing to add"


def test_an_older_program_leaves_alone_what_it_would_misread(found):
    one = found["older refuses"]
    assert one["done"]["rc"] == 1 and "has format 2; this program reads up to 1" in one["done"]["said"]
    assert one["same"] and one["state"] == PAUSED and one["quota"] == 40000 and one["journal"] == []
    assert one["hook"]["rc"] not in (0, 75) and "Traceback" not in one["hook"]["said"], "no guest is refused its start"
    assert one["then"]["rc"] == 0 and one["seen"]["state"] == RUNNING and one["journal then"] == ["ended", "given_back"]


def test_a_newer_program_and_this_one_take_turns_on_the_same_files(found):
    one, then = found["newer passes"], found["then now"]
    assert one["done"]["rc"] == 0 and one["seen"]["state"] == RUNNING and one["journal"] == ["ended", "given_back"]
    assert one["hand"]["rc"] == 0 and one["held"] == PAUSED and one["kept"]
    assert then["done"]["rc"] == then["released"]["rc"] == 0 and then["seen"]["state"] == RUNNING and then["kept"]


def test_this_program_leaves_a_newer_desired_state_alone(found):
    one = found["now refuses"]
    assert one["done"]["rc"] == 1 and "has format 3" in one["done"]["said"] and one["same"]
    assert one["newer"]["rc"] == 0 and one["seen"]["state"] == RUNNING
