# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of our own metadata: right on this repository, and it notices what it is there for."""
from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _checker():
    spec = importlib.util.spec_from_file_location("check_metadata", ROOT / "scripts/_check_metadata.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = _checker()


@pytest.fixture
def small(tmp_path):
    """A collection with one action and its module, in order."""
    for folder in ("plugins/modules", "plugins/action", "meta"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "plugins/modules/act.py").touch()
    (tmp_path / "plugins/action/act.py").touch()
    (tmp_path / "meta/runtime.yml").write_text("action_groups:\n  aup: [act]\n", encoding="utf-8")
    shutil.copy(ROOT / "meta/ee-requirements.txt", tmp_path / "meta")
    return tmp_path


def test_this_repository_is_in_order():
    assert CHECK.problems() == []


def test_an_orderly_collection_has_no_problem(small):
    assert CHECK.problems(small) == []


def test_a_module_missing_from_the_group_is_named(small):
    (small / "plugins/modules/other.py").touch()
    assert CHECK.problems(small) == ["meta/runtime.yml: action group aup lacks the module other"]


def test_a_name_without_module_is_named(small):
    (small / "meta/runtime.yml").write_text("action_groups:\n  aup: [act, gone]\n", encoding="utf-8")
    assert CHECK.problems(small) == [
        "meta/runtime.yml: action group aup names gone, but plugins/modules/gone.py is not there"
    ]


def test_an_undocumented_action_is_named(small):
    (small / "plugins/action/mute.py").touch()
    assert CHECK.problems(small) == [
        "plugins/action/mute.py has no documentation: plugins/modules/mute.py is not there"
    ]


@pytest.mark.parametrize("line", ["alembic==1.13", "alembic>=1,<=2", "ansible-core>=2.18", "ansible"])
def test_a_requirement_that_would_hold_an_image_back_is_refused(small, line):
    (small / "meta/ee-requirements.txt").write_text("jmespath>=1.0  # fine\n%s\n" % line, encoding="utf-8")
    found = CHECK.problems(small)
    assert len(found) == 1 and found[0].startswith("meta/ee-requirements.txt:2:")
