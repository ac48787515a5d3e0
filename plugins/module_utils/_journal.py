# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node did by itself, until the ledger has taken it in. PRIVATE to the collection.

One file of JSON lines, for root alone, each line on disk before the next thing is done. The first line
names the journal, so that the ledger can tell the entries of a node that was retired and came back from
those it knows. An entry's number is never given twice in one journal.
"""
from __future__ import annotations

import json
import os
import uuid

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

FORMAT = 1
MAX_BYTES = 4 * 1024 * 1024  # about 20,000 entries
AT_ONCE = 2000  # entries handed over in one answer
# What the ledger has to know; anything else makes room when the journal is full.
KEPT = ("ended", "began", "given_back", "held", "released", "disarmed", "rearmed")


class Journal:
    """The journal in one file. The caller holds the node's lock.

    :param path: of the file; it need not exist
    """

    def __init__(self, path):
        self._path = path

    def _read(self):
        """`(head, entries, bytes that are whole lines)`; a line cut off by a crash, and what is behind it, does not count."""
        try:
            with open(self._path, "rb") as handle:
                data = handle.read(2 * MAX_BYTES)
        except FileNotFoundError:
            return None, [], 0
        except OSError as exc:
            raise self._error("read", exc)
        head, entries, whole = None, [], 0
        for line in data.splitlines(True):
            if not line.endswith(b"\n"):
                break
            try:
                document = json.loads(line.decode("ascii"))
                if head is None:
                    if document.get("format") != FORMAT or not isinstance(document.get("journal"), str):
                        break
                    head = {"format": FORMAT, "journal": document["journal"], "base": int(document["base"])}
                else:
                    int(document["number"]), document["what"]
                    entries.append(document)
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            whole += len(line)
        return head, entries, whole

    def read(self):
        """`{"journal": name, "entries": [{"number", "at", "what", …}]}`; the name is None before the first entry."""
        head, entries, _whole = self._read()
        return {"journal": head and head["journal"], "entries": entries}

    def untaken(self):
        """What to hand to the controller: `read`, but at most AT_ONCE entries; None when there is nothing."""
        found = self.read()
        return dict(found, entries=found["entries"][:AT_ONCE]) if found["entries"] else None

    def append(self, entries):
        """Add entries; they are on disk when this returns.

        :param entries: `[{"at": seconds, "what": word, …}]`
        :raises NodeError: code `journal_unwritable`, nothing of them is there; or `journal_full`
        """
        if not entries:
            return
        head, present, whole = self._read()
        if head is None:
            head, present, whole = {"format": FORMAT, "journal": uuid.uuid4().hex, "base": 0}, [], 0
        number = max([head["base"]] + [entry["number"] for entry in present])
        added = [dict(entry, number=number + index) for index, entry in enumerate(entries, 1)]
        lines = _lines(added)
        if whole + len(lines) > MAX_BYTES:
            kept = [entry for entry in present if entry["what"] in KEPT]
            if sum(map(len, (_lines(kept), lines))) + 200 > MAX_BYTES:
                raise NodeError(
                    "the journal %s is full: %d entries that no ledger has taken in." % (self._path, len(kept)),
                    code="journal_full", target=self._path, remedy="Run hosting.aup.reconcile; it takes them in.")
            self._replace(head, kept + added)
        elif whole == 0:
            self._replace(head, added)
        else:
            self._add(lines, whole)

    def drop(self, journal, number):
        """Forget the entries up to `number`, which the ledger has taken in. Another journal's are left alone."""
        head, present, _whole = self._read()
        if head is None or head["journal"] != journal:
            return
        left = [entry for entry in present if entry["number"] > number]
        if len(left) != len(present):
            last = max([head["base"]] + [entry["number"] for entry in present])
            self._replace(dict(head, base=last if not left else max(head["base"], number)), left)

    def _add(self, lines, whole):
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(handle, whole)
                try:
                    _write(handle, lines, whole)
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, whole)
                    raise
            finally:
                os.close(handle)
        except OSError as exc:
            raise self._error("written", exc)

    def _replace(self, head, entries):
        temporary = self._path + ".new"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write(handle, _lines([head]) + _lines(entries), 0)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, self._path)
        except OSError as exc:
            raise self._error("written", exc)

    def _error(self, how, exc):
        return NodeError("the journal %s can't be %s: %s." % (self._path, how, exc.strerror), code="journal_unwritable",
                         target=self._path, remedy="Free space or make the file system writable; what was done is written down then.")


def _lines(documents):
    return b"".join(json.dumps(document, sort_keys=True).encode("ascii") + b"\n" for document in documents)


def _write(handle, data, offset):
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        offset, view = offset + written, view[written:]
