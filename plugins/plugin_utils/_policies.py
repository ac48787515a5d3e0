# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading policy files on the controller: strict YAML or JSON, and `extends`. PRIVATE to the collection.

Policies are data that judges and customers may be shown: they are read as they stand, never templated, and
YAML's own surprises are taken out. Only true and false are booleans (`off` and `no` are text), numbers with a
point stay text (version 1.10, amount 50.00), and so do dates and times. Duplicate keys, aliases and tags are
errors.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy

SHIPPED = Path(__file__).resolve().parents[2] / "policies"
SUFFIXES = (".yml", ".yaml", ".json")
# What makes a policy this policy; the one it extends keeps its own.
IDENTITY = ("schema", "name", "version", "effective", "provider", "extends")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LARGEST = 1024 * 1024
_DEEPEST = 32


def load_policy(name_or_path, shipped_dir=None, search=()):
    """A validated Policy, with what it extends merged in.

    :param name_or_path: a shipped policy's name (`default`) or the path of a .yml, .yaml or .json file
    :param shipped_dir: where the shipped policies are; by default those of this collection
    :param search: directories in which relative paths and other names are looked for, in order
    :raises PolicyError: no such policy, unreadable, or wrong; names file, line, key path, expected and found
    """
    shipped = Path(shipped_dir) if shipped_dir is not None else SHIPPED
    path = _find(str(name_or_path), shipped, [Path(directory) for directory in search])
    tree = _load_tree(path, shipped, [Path(directory) for directory in search], ())
    return Policy.from_document(tree.plain(), source=str(path), where=tree.place)


def shipped_names(shipped_dir=None):
    """The names of the policies that are shipped, sorted."""
    directory = Path(shipped_dir) if shipped_dir is not None else SHIPPED
    return sorted(path.stem for path in directory.glob("*.yml")) if directory.is_dir() else []


class Located:
    """A value of a document with the file and line it was written at; maps and lists hold further ones."""

    def __init__(self, value, file, line):
        self.value, self.file, self.line = value, file, line

    def plain(self):
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def place(self, path):
        """(file, line) of the value at a path, or None when there is none."""
        here = self
        for part in path:
            if (
                isinstance(here.value, dict)
                and part in here.value
                or isinstance(here.value, list)
                and isinstance(part, int)
                and part < len(here.value)
            ):
                here = here.value[part]
            else:
                return None
        return here.file, here.line

    def merged_over(self, base):
        """This value over a base: maps merge key by key; lists and single values replace the base's."""
        if not (isinstance(self.value, dict) and isinstance(base.value, dict)):
            return self
        merged = dict(base.value)
        for key, item in self.value.items():
            merged[key] = item.merged_over(merged[key]) if key in merged else item
        return Located(merged, self.file, self.line)


class _Loader(yaml.SafeLoader):
    """SafeLoader that knows only text, whole numbers, true, false and null, and no aliases."""

    def __init__(self, stream):
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None,
                None,
                "aliases (*name) are not supported; write it out, or use extends",
                event.start_mark,
            )
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, "more than %d levels deep" % _DEEPEST, event.start_mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"-?(?:0|[1-9][0-9]{0,17})", "-0123456789"),
    ("null", r"~|null|", ["~", "n", ""]),
):
    _Loader.add_implicit_resolver(
        "tag:yaml.org,2002:%s" % _tag, re.compile(r"^(?:%s)$" % _pattern), list(_first)
    )


def _text(text):
    """Text with the pairs of surrogates that JSON writes for letters beyond 16 bits made whole."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


_SCALARS = {
    "tag:yaml.org,2002:str": _text,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:bool": lambda text: text == "true",
    "tag:yaml.org,2002:null": lambda text: None,
}


def _find(name, shipped, search):
    """The file of a policy named on a command line, in a variable or after `extends`."""
    if _NAME.fullmatch(name):
        candidates = [directory / (name + suffix) for directory in (shipped, *search) for suffix in SUFFIXES]
    elif Path(name).suffix in SUFFIXES:
        path = Path(name).expanduser()
        candidates = [path] if path.is_absolute() else [directory / path for directory in (*search, Path())]
    else:
        raise PolicyError(
            "policy %r is neither a shipped name nor a path that ends in %s." % (name, ", ".join(SUFFIXES)),
            target="aup_policy",
            remedy="Shipped policies: %s." % (", ".join(shipped_names(shipped)) or "none"),
        )
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise PolicyError(
        "no policy %r: none of these is a file: %s." % (name, ", ".join(str(path) for path in candidates)),
        target="aup_policy",
        remedy="Use a shipped name (%s) or the path of a file."
        % (", ".join(shipped_names(shipped)) or "none"),
    )


def _load_tree(path, shipped, search, chain):
    """The Located document of a file with what it extends merged in."""
    real = path.resolve()
    if real in [one.resolve() for one in chain]:
        raise PolicyError(
            "policy %s extends itself: %s." % (chain[0], " → ".join(str(one) for one in (*chain, path))),
            target=str(chain[0]),
            remedy="Take one extends out of this loop.",
        )
    tree = _read(path)
    if not isinstance(tree.value, dict):
        return tree
    base = tree.value.get("extends")
    document = Located(
        {key: item for key, item in tree.value.items() if key != "extends"}, tree.file, tree.line
    )
    if base is None:
        return document
    if not isinstance(base.value, str):
        raise PolicyError(
            "%s:%d: extends: expected the name or path of one policy; found %r."
            % (base.file, base.line, base.plain()),
            target=str(path),
            remedy="Write it like `extends: default` or `extends: ./house.yml`.",
        )
    try:
        base_path = _find(base.value, shipped, [path.parent, *search])
    except PolicyError as error:
        raise PolicyError(
            "%s:%d: extends: %s" % (base.file, base.line, error.message),
            target=str(path),
            remedy=error.remedy,
        ) from error
    base_tree = _load_tree(base_path, shipped, search, (*chain, path))
    if not isinstance(base_tree.value, dict):
        raise PolicyError(
            "%s: expected a policy (a map) to extend." % base_path,
            target=str(base_path),
            remedy="Correct it, or extend another one.",
        )
    inherited = {key: item for key, item in base_tree.value.items() if key not in IDENTITY}
    return document.merged_over(Located(inherited, base_tree.file, base_tree.line))


def _read(path):
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise PolicyError(
            "policy %s can't be read: %s." % (path, error.strerror or error),
            target=str(path),
            remedy="Check the path and its permissions.",
        ) from error
    if len(data) > _LARGEST:
        raise PolicyError(
            "policy %s is larger than 1 MiB." % path,
            target=str(path),
            remedy="A policy is a short text; is this the right file?",
        )
    try:
        text = data.decode("utf-8")
        if path.suffix == ".json":
            json.loads(text)
            # Read on as YAML, which keeps the lines. Tabs are only white space in JSON, but errors in YAML.
            text = text.replace("\t", " ")
        node = yaml.compose(text, Loader=_Loader)
    except json.JSONDecodeError as error:
        raise PolicyError(
            "%s:%d: not valid JSON: %s." % (path, error.lineno, error.msg),
            target=str(path),
            remedy="Correct it.",
        ) from error
    except UnicodeDecodeError as error:
        raise PolicyError(
            "policy %s is not UTF-8 text (byte %d)." % (path, error.start),
            target=str(path),
            remedy="Save it as UTF-8.",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "%s:%d" % (path, mark.line + 1) if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable"
        hint = "Text with {{ }} or with ': ' must be in quotes." if mark else "Check the file."
        raise PolicyError(
            "%s: not valid YAML: %s." % (place, problem), target=str(path), remedy=hint
        ) from error
    if node is None:
        return Located(None, str(path), 1)
    return _located(node, str(path))


def _located(node, file):
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        result = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            key = _key(key_node, file, key_line)
            if key in result:
                raise PolicyError(
                    "%s:%d: the key %r is there twice; the first is in line %d."
                    % (file, key_line, key, result[key].line),
                    target=file,
                    remedy="Remove one of them.",
                )
            result[key] = _located(value_node, file)
            # Errors point at the key: the value of a block begins a line later.
            result[key].line = key_line
        return Located(result, file, line)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return Located([_located(item, file) for item in node.value], file, line)
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        try:
            return Located(_SCALARS[node.tag](node.value), file, line)
        except ValueError as error:
            raise PolicyError(
                "%s:%d: %r is half of a character." % (file, line, node.value),
                target=file,
                remedy="Correct the \\u escape.",
            ) from error
    raise PolicyError(
        "%s:%d: the YAML tag %s is not supported." % (file, line, node.tag),
        target=file,
        remedy="Policies are plain text, numbers, true, false, lists and maps.",
    )


def _key(node, file, line):
    """A key as text; a key that is written as a number or boolean stays what was written."""
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
        raise PolicyError(
            "%s:%d: a key must be plain text." % (file, line),
            target=file,
            remedy="Text with {{ }} must be in quotes.",
        )
    if node.value == "<<" and node.style is None:
        raise PolicyError(
            "%s:%d: merge keys (<<) are not supported." % (file, line),
            target=file,
            remedy="Write it out, or use extends.",
        )
    return node.value
