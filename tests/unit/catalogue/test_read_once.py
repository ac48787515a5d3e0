# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process reads the same catalogue once, and never misses an edit of any of its files."""
from __future__ import annotations

import json

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue


@pytest.fixture
def files(tmp_path):
    service = {"id": "a", "customer": "c", "account_type": "personal", "node": "kvm1", "guest": {"name": "a"},
               "nics": [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.10"]}]}
    (tmp_path / "services.json").write_text(json.dumps([service]))
    (tmp_path / "catalogue.json").write_text(json.dumps({
        "format": 1, "prefixes": ["192.0.2.0/24"], "nodes": {"kvm1": {"backend": "kvm", "location": "here", "bridges": ["br0"]}},
        "services_from": {"file": "services.json"}}))
    return tmp_path


def replace(path, old, new):
    """Edit a file; size, and as far as the clock allows times, stay the same."""
    assert len(old) == len(new) and old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_same_files_are_read_once(files):
    first = _catalogue.load_catalogue(str(files / "catalogue.json"))
    assert _catalogue.load_catalogue(str(files / "catalogue.json")) is first


@pytest.mark.parametrize(("name", "old", "new", "seen"), [
    ("catalogue.json", "here", "gone", lambda found: found["services"]["a"]["location"] == "gone"),
    ("services.json", "192.0.2.10", "192.0.2.11", lambda found: found["services"]["a"]["nics"][0]["addresses"] == ["192.0.2.11"]),
])
def test_an_edit_of_any_file_is_seen(files, name, old, new, seen):
    _catalogue.load_catalogue(str(files / "catalogue.json"))
    replace(files / name, old, new)
    assert seen(_catalogue.load_catalogue(str(files / "catalogue.json")))


def test_a_file_that_became_wrong_or_went_is_an_error_each_time(files):
    _catalogue.load_catalogue(str(files / "catalogue.json"))
    replace(files / "services.json", "192.0.2.10", "198.51.1.1")
    for _ in range(2):
        with pytest.raises(CatalogueError, match="198.51.1.1"):
            _catalogue.load_catalogue(str(files / "catalogue.json"))
    (files / "services.json").unlink()
    with pytest.raises(CatalogueError, match="can't be opened"):
        _catalogue.load_catalogue(str(files / "catalogue.json"))
