# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`aup-node`: the node's half of the collection in one file that the distribution's Python runs. PRIVATE to the collection.

Made on the controller from the modules that are there, so keeper and module are of one release. Equal
sources give equal bytes: no time, no order of a directory, no name of a machine is in it.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import zipfile
from pathlib import Path

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

PACKAGE = "ansible_collections.hosting.aup"
ENTRY = f"{PACKAGE}.plugins.module_utils._keeper._main"
# Those that are imported only where they are needed.
_LATER = tuple(f"{PACKAGE}.plugins.module_utils.{name}" for name in (
    "_kvm_node", "_pve_host", "_keeper._clock", "_keeper._loop", "_keeper._events", "_keeper._hook"))
_MAIN = """\
# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import sys

from {entry} import main

sys.exit(main(sys.argv[1:], {version!r}, {host!r}))
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can name


def _file_of(root: Path, name: str) -> Path | None:
    place = root.joinpath(*name.removeprefix(PACKAGE).strip(".").split("."))
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imports(text: str) -> set[str]:
    """Names of the collection's own modules that a source imports, and of what it imports from them."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith(PACKAGE))
    return found


def sources(root: Path) -> dict[str, str]:
    """`{path in the archive: source}` of all that the program needs.

    :param root: of the collection
    """
    todo, done = {ENTRY, *_LATER}, {}
    while todo:
        name = todo.pop()
        path = _file_of(root, name)
        if path is None:
            continue  # a function, not a module
        place = PACKAGE.replace(".", "/") + "/" + path.relative_to(root).as_posix()
        if place not in done:
            done[place] = path.read_text(encoding="utf-8")
            todo |= _imports(done[place])
    for place in list(done):
        parts = place.split("/")[:-1]
        for length in range(1, len(parts) + 1):
            done.setdefault("/".join([*parts[:length], "__init__.py"]), "")
    return done


def version_of(root: Path) -> str:
    """The collection's version: from its manifest when it is installed, from galaxy.yml in a checkout.

    :raises InputError: neither is there
    """
    for name, form in (("MANIFEST.json", r'"version": "([^"]+)"'), ("galaxy.yml", r"(?m)^version: (\S+)$")):
        if (root / name).is_file() and (found := re.search(form, (root / name).read_text(encoding="utf-8"))):
            return found[1]
    raise InputError("the collection's version can't be told.", target=str(root), remedy="Install the collection anew.")


def build(root: Path, version: str | None = None, host: str = "kvm") -> bytes:
    """The program.

    :param root: of the collection
    :param version: the collection's, if not to be looked up
    :param host: what it is to serve: `kvm` or `proxmox`, as `_main.main` has it
    """
    files = sources(root)
    digest = hashlib.sha256("\0".join(f"{place}\0{text}" for place, text in sorted(files.items())).encode()).hexdigest()
    files["__main__.py"] = _MAIN.format(entry=ENTRY, version=f"{version or version_of(root)} ({digest[:12]})", host=host)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for place in sorted(files):
            entry = zipfile.ZipInfo(place, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[place])
    return b"#!/usr/bin/python3 -I\n" + packed.getvalue()
