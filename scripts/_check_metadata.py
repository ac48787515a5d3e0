# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the collection's metadata that no public linter makes.

* `meta/runtime.yml` lists every module in the action group, and none that does not exist.
* Execution-environment requirements pin nothing with == or <= and do not name Ansible.
* Each action plugin has a module of its name: its documentation.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def problems(root: Path = ROOT) -> list[str]:
    """What is wrong, one sentence each; empty when nothing is."""
    found = []
    modules = {path.stem for path in (root / "plugins/modules").glob("*.py") if path.stem != "__init__"}
    actions = {path.stem for path in (root / "plugins/action").glob("*.py") if path.stem != "__init__"}
    runtime = yaml.safe_load((root / "meta/runtime.yml").read_text(encoding="utf-8"))
    group = [name for name in runtime["action_groups"]["aup"] if isinstance(name, str)]
    if group != sorted(set(group)):
        found.append("meta/runtime.yml: action group aup is not sorted or names a module twice")
    for name in sorted(modules - set(group)):
        found.append(f"meta/runtime.yml: action group aup lacks the module {name}")
    for name in sorted(set(group) - modules):
        found.append(f"meta/runtime.yml: action group aup names {name}, but plugins/modules/{name}.py is not there")
    for name in sorted(actions - modules):
        found.append(f"plugins/action/{name}.py has no documentation: plugins/modules/{name}.py is not there")
    for number, line in enumerate((root / "meta/ee-requirements.txt").read_text(encoding="utf-8").splitlines(), 1):
        requirement = line.partition("#")[0].strip()
        if re.search(r"==|<=", requirement):
            found.append(f"meta/ee-requirements.txt:{number}: == and <= would hold an execution environment back")
        if re.match(r"(?i)ansible([-_]core|[-_]base)?\b", requirement):
            found.append(f"meta/ee-requirements.txt:{number}: an execution environment brings its own Ansible")
    return found


if __name__ == "__main__":
    lines = problems()
    print("\n".join(lines))
    sys.exit(1 if lines else 0)
