# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packed program: equal sources make equal bytes, and the distribution's Python runs it with nothing else."""
from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._zipapp import PACKAGE, build, sources, version_of

ROOT = Path(__file__).resolve().parents[3]
# Of the distribution's packages that the role installs, guarded where they may be missing.
ALLOWED = {"libvirt", "pyroute2"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "aup-node"
    path.write_bytes(build(ROOT))
    path.chmod(0o755)
    return path


def run(program, *arguments):
    return subprocess.run(["/usr/bin/python3", "-I", str(program), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_it_is_the_same_from_another_place_at_another_time(tmp_path):
    for name in ("plugins", "galaxy.yml"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    assert build(tmp_path) == build(ROOT)


def test_it_imports_nothing_but_the_standard_library_and_the_distributions_packages():
    import sys

    for place, text in sources(ROOT).items():
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(
                node, ast.ImportFrom) else []
            for name in names:
                top = name.split(".")[0]
                assert name.startswith(PACKAGE) or top in sys.stdlib_module_names or top in ALLOWED, (place, name)


def test_it_says_its_version(program):
    said = run(program, "--version")
    assert said.returncode == 0 and said.stdout.startswith(version_of(ROOT) + " (")


def test_a_node_under_no_policy(program, tmp_path):
    said = run(program, "--root", str(tmp_path), "status")
    assert said.returncode == 0 and "under no policy" in said.stdout and not list(tmp_path.glob("var/lib/*/*"))
    refused = run(program, "--root", str(tmp_path), "hold", "vps-1", "--reason", "x")
    assert refused.returncode == 1 and "no service 'vps-1'" in refused.stderr


def test_nothing_on_a_node_asks_for_local_time():
    """Seconds since the epoch alone: an hour that comes twice, or not at all, makes no end early or late."""
    local = {"localtime", "mktime", "ctime", "asctime", "today", "tzset"}
    for place, text in sources(ROOT).items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in local, (place, node.func.attr)
                if node.func.attr in ("now", "fromtimestamp"):
                    assert len(node.args) + len(node.keywords) > (node.func.attr == "fromtimestamp"), (place, "without a zone")
