# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's journal: nothing is lost or numbered twice, whatever cuts it off."""
from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils import _journal
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._journal import Journal


def entry(text="x", what="ended"):
    return {"what": what, "at": 1, "text": text}


def numbers(journal):
    return [one["number"] for one in journal.read()["entries"]]


@given(st.lists(st.tuples(st.sampled_from(["append", "drop", "cut"]), st.integers(0, 12)), max_size=12))
@settings(max_examples=80, deadline=None)
def test_numbers_rise_and_are_never_given_twice(tmp_path_factory, steps):
    path = str(tmp_path_factory.mktemp("journal") / "journal.jsonl")
    given_out, left = [], []
    for verb, number in steps:
        journal = Journal(path)
        if verb == "append":
            before = numbers(journal)
            journal.append([entry()] * (number % 4))
            new = [one for one in numbers(journal) if one not in before]
            assert all(one > max(given_out, default=0) for one in new)
            given_out += new
            left += new
        elif verb == "drop" and journal.read()["journal"]:
            journal.drop(journal.read()["journal"], number)
            left = [one for one in left if one > number]
        elif verb == "cut" and os.path.exists(path):
            with open(path, "ab") as handle:
                handle.write(b'{"number": 99, "wha')  # a crash amid a line
        assert numbers(journal) == left


def test_another_journals_numbers_drop_nothing(tmp_path):
    journal = Journal(str(tmp_path / "j"))
    journal.append([entry(), entry()])
    journal.drop("another", 5)
    assert numbers(journal) == [1, 2]
    assert os.stat(tmp_path / "j").st_mode & 0o777 == 0o600


def test_a_full_journal_keeps_what_the_ledger_must_know(tmp_path, monkeypatch):
    monkeypatch.setattr(_journal, "MAX_BYTES", 3000)
    journal = Journal(str(tmp_path / "j"))
    for _ in range(200):
        journal.append([entry("m" * 50, "mended")])
    for _ in range(8):
        journal.append([entry()])
    assert os.path.getsize(tmp_path / "j") <= 3000
    assert sum(one["what"] == "ended" for one in journal.read()["entries"]) == 8
    with pytest.raises(NodeError, match="reconcile"):
        for _ in range(100):
            journal.append([entry("e" * 50)])


def test_a_disk_that_is_full_amid_an_entry_leaves_none_of_it(tmp_path, monkeypatch):
    journal = Journal(str(tmp_path / "j"))
    journal.append([entry()])
    write = os.pwrite

    def full(handle, data, offset):
        write(handle, data[:5], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NodeError, match="No space left"):
        journal.append([entry(), entry()])
    monkeypatch.undo()
    assert numbers(journal) == [1]
    journal.append([entry()])
    assert numbers(journal) == [1, 2]


@pytest.mark.parametrize("data", [b"", b"\n", b"nonsense\n", b"\xff\xfe\n", b'{"format": 9, "journal": "x", "base": 0}\n', b"[]\n", b"null\n"])
def test_a_damaged_file_is_begun_anew(tmp_path, data):
    path = tmp_path / "j"
    path.write_bytes(data)
    journal = Journal(str(path))
    assert journal.read() == {"journal": None, "entries": []} and journal.untaken() is None
    journal.append([entry()])
    assert numbers(journal) == [1]
