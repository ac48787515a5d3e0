# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a catalogue's files: bounded, strict, plain data out. PRIVATE to the collection.

YAML is read as its JSON-like core: no tags, no anchors, no merge keys, no duplicate keys, and only `true`,
`false`, `null` and decimal numbers are anything but text. YAML 1.1 as PyYAML reads it would make a number of
the MAC 52:54:00:12:34:56, `False` of the location `no`, and 83 of the id `0123`; its node tree is also the
slowest part of reading 10,000 services, so values are built from libyaml's events.
"""
from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import stat

import yaml

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 32

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
          "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DELIMITERS = ",;\t"


def read_data(path, seen=None):
    """The plain value of a `.yml`, `.yaml` or `.json` file, or the rows (dicts of text) of a `.csv` file.

    :param seen: a dict that takes the digest of the file's text under its path
    :raises CatalogueError: not found, unreadable, not a regular file, too large, not UTF-8, wrong syntax
    """
    kind = extension(path)
    text = read_text(path)
    if seen is not None:
        seen[path] = _digest(text)
    if not text.strip():
        raise CatalogueError(
            f"{path} is empty.", target=path,
            remedy="Check the export that writes it; an empty file never means that there are no services.")
    if kind == "json":
        return _parse_json(text, path)
    if kind == "csv":
        return _parse_csv(text, path)
    return parse_yaml(text, path)


def unchanged(seen):
    """Whether every file that `read_data` has seen still holds the same text.

    :param seen: `{path: digest}` as `read_data` leaves it
    """
    try:
        return all(_digest(read_text(path)) == digest for path, digest in seen.items())
    except CatalogueError:
        return False  # gone or unreadable by now: reading it again says how


def _digest(text):
    return hashlib.sha256(text.encode("utf-8")).digest()


def extension(path):
    """`yaml`, `json` or `csv`, by the file's name.

    :raises CatalogueError: any other
    """
    suffix = os.path.splitext(path)[1].lower()
    kind = {".yml": "yaml", ".yaml": "yaml", ".json": "json", ".csv": "csv"}.get(suffix)
    if kind is None:
        raise CatalogueError(
            f"{_shown(path)}: read by its extension, and {suffix!r} is none of .yml, .yaml, .json, .csv.",
            target=path, remedy="Rename the file after what it contains.")
    return kind


def read_text(path):
    """The file's text: a regular file of at most 64 MiB of UTF-8.

    :raises CatalogueError: with what to do about it
    """
    try:
        # O_NONBLOCK: opening a FIFO somebody put there must not hang the run.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as exc:
        raise CatalogueError(f"{_shown(path)} can't be opened: {_reason(exc)}.", target=path,
                             remedy=_open_remedy(exc)) from exc
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        what, remedy = (("a directory", "Name the catalogue file in it.") if stat.S_ISDIR(mode)
                        else ("not a regular file", "Write the export to a file first."))
        raise CatalogueError(f"{path} is {what}.", target=path, remedy=remedy)
    with os.fdopen(handle, "rb") as stream:
        try:
            content = stream.read(MAX_BYTES + 1)
        except OSError as exc:
            raise CatalogueError(f"{path} can't be read: {_reason(exc)}.", target=path, retryable=True,
                                 remedy="Check the disk or share it lies on.") from exc
    if len(content) > MAX_BYTES:
        raise CatalogueError(
            f"{path} is larger than {MAX_BYTES // 1024 // 1024} MiB.", target=path,
            remedy="Export only services, without history; 100,000 services fit easily.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise CatalogueError(f"{path}, line {line}: byte 0x{content[exc.start]:02x} is not UTF-8.",
                             target=path, remedy="Export it as UTF-8.") from exc


def parse_yaml(text, path):
    """The value of one YAML document, in the subset the module describes.

    :raises CatalogueError: naming file, line and what is not read
    """
    try:
        return _YamlBuilder(path).build(yaml.parse(text, Loader=_LOADER))
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(exc, "problem", None) or str(exc).splitlines()[0]
        raise CatalogueError(f"{path}{place}: not valid YAML: {what}.", target=path,
                             remedy="Correct the syntax there.") from exc


class _YamlBuilder:
    def __init__(self, path):
        self.path = path
        self._words = {}

    def build(self, events):
        """One document's value; a stack instead of recursion, as nesting is the file's choice."""
        missing = object()
        words, scalar = self._words, self._scalar
        stack, container, key, result = [], None, missing, None
        documents = 0
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                text = event.value
                if event.tag is not None:
                    self._refuse(event, f"the tag {event.tag!r}")
                if event.anchor is not None:
                    self._refuse(event, "anchors")
                if event.implicit[0]:
                    value = words[text] if text in words else scalar(text, event)
                else:
                    value = text
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                if event.tag is not None or event.anchor is not None:
                    self._refuse(event, "tags and anchors")
                if len(stack) >= MAX_DEPTH:
                    self._refuse(event, f"nesting deeper than {MAX_DEPTH}")
                if container is not None and key is missing and isinstance(container, dict):
                    self._refuse(event, "a mapping or list as a key")
                stack.append((container, key))
                container = {} if kind is yaml.MappingStartEvent else []
                key = missing
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                value = container
                container, key = stack.pop()
            elif kind is yaml.AliasEvent:
                self._refuse(event, "aliases")
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document")
                continue
            else:
                continue
            if container is None:
                result = value
            elif isinstance(container, list):
                container.append(value)
            elif key is missing:
                # Keys are text: `1001:` under services is the id "1001", as it would be in JSON.
                key = event.value
                if key == "<<":
                    self._refuse(event, "merge keys")
                if key in container:
                    self._refuse(event, f"the key {key!r} given twice")
            else:
                container[key] = value
                key = missing
        return result

    def _scalar(self, text, event):
        value = text
        if text in _WORDS:
            value = _WORDS[text]
        elif text[0] in "0123456789+-":
            if _INTEGER.fullmatch(text):
                value = int(text)
            elif _FLOAT.fullmatch(text):
                value = float(text)
                if value in (float("inf"), float("-inf")):
                    self._refuse(event, f"the number {text}")
        if len(text) < 32 and len(self._words) < 4096:
            self._words[text] = value
        return value

    def _refuse(self, event, what):
        raise CatalogueError(
            f"{self.path}, line {event.start_mark.line + 1}: {what}: not read in a catalogue.",
            target=self.path, remedy="Write the value out plainly where it is used.")


def _parse_json(text, path):
    def pairs(found):
        result = dict(found)
        if len(result) != len(found):
            seen = set()
            twice = next(key for key, _value in found if key in seen or seen.add(key))
            raise CatalogueError(f"{path}: the key {twice!r} is given twice in one object.", target=path,
                                 remedy="Keep one of the two; a parser would silently drop the other.")
        return result

    def constant(name):
        raise CatalogueError(f"{path}: {name} is not a JSON number.", target=path,
                             remedy="Write a number or null.")
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as exc:
        raise CatalogueError(
            f"{path}, line {exc.lineno}, column {exc.colno}: not valid JSON: {exc.msg}.", target=path,
            remedy="Correct the syntax there; a cut-off export ends early.") from exc
    except (RecursionError, ValueError) as exc:
        # ValueError: an integer of more digits than Python converts.
        raise CatalogueError(f"{path}: nested too deeply, or with a number too long to read.", target=path,
                             remedy="Check what wrote this file.") from exc


def _parse_csv(text, path):
    """Rows as dicts by column name; an empty cell is None. Each row keeps its line number under `None`."""
    header = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        columns = [name.strip() for name in next(reader)]
        for name in columns:
            if not name or columns.count(name) > 1:
                raise CatalogueError(
                    f"{path}, line 1: the column name {name!r} is {'given twice' if name else 'empty'}.",
                    target=path, remedy="Give each column one name of its own.")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(columns):
                raise CatalogueError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells in a table of "
                    f"{len(columns)} columns.", target=path,
                    remedy=f"Quote cells that contain the delimiter {delimiter!r}.")
            row = {name: cell.strip() or None for name, cell in zip(columns, cells)}
            rows.append(CsvRow(row, reader.line_num))
    except csv.Error as exc:
        raise CatalogueError(f"{path}, line {reader.line_num}: not valid CSV: {exc}.", target=path,
                             remedy="Correct the quoting there.") from exc
    return rows


class CsvRow(dict):
    """One row of a CSV file, and the line it ends on."""

    def __init__(self, cells, line):
        super().__init__(cells)
        self.line = line


def _shown(path):
    return path if isinstance(path, str) and path.isprintable() else repr(path)


def _reason(exc):
    return (getattr(exc, "strerror", None) or str(exc)).rstrip(".")


def _open_remedy(exc):
    number = getattr(exc, "errno", None)
    if number == errno.ENOENT:
        return "Check the path; relative ones start at the file that names them."
    if number in (errno.EACCES, errno.EPERM):
        return "Let the user who runs Ansible read it."
    return "Name a regular file."
