# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation has its reader type exists: playbooks with these variables, make targets, scripts, subcommands, files."""
from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
SWITCHES = {"--check", "--diff"}


def commands(page):
    """The lines of the page's consoles, continued lines joined, without comments."""
    for _indent, kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind in ("console", "sh", "bash"):
            yield from (line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip())


def runs():
    return [pytest.param(line, id="%s: %s" % (page.name, line[:100])) for page in PAGES for line in commands(page)
            if line.startswith("ansible-playbook hosting.aup.")]


def variables(playbook):
    """All that a playbook, or what it imports at its end, takes from outside."""
    found, text = set(), (ROOT / "playbooks" / (playbook + ".yml")).read_text(encoding="utf-8")
    for play in yaml.safe_load(text):
        for task in play.get("tasks", ()):
            found.update(*(arguments.get("inputs", ()) for arguments in task.values() if isinstance(arguments, dict)))
    texts = text + (ROOT / "playbooks/act.yml").read_text(encoding="utf-8")
    return found | set(re.findall(r"\b([a-z][a-z_]+)\b", " ".join(re.findall(r"\{\{(.*?)\}\}", texts))))


@pytest.mark.parametrize("line", runs())
def test_a_playbook_takes_what_it_is_given(line):
    words = shlex.split(line, comments=True)
    known = variables(words[1].removeprefix("hosting.aup."))
    rest = iter(words[2:])
    for word in rest:
        if word in SWITCHES:
            continue
        assert word == "-e", word
        given = next(rest)
        assert given.startswith("@") or given.partition("=")[0] in known, given


def test_there_are_lines_to_look_at():
    assert len(runs()) > 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_scripts_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text)) + list(commands(page))
    for span in spans:
        if re.match(r"make [a-z]+\b", span):
            assert span.split()[1] in targets, span
        for name in re.findall(r"(?<![\w/.-])((?:scripts|meta|inventories|policies|roles|tests|changelogs|playbooks)/[\w./-]+)", span):
            # A provider's own files may be called like ours: what has our parts' names and is not there is only his in policies/.
            assert (ROOT / name).exists() or name.startswith("policies/"), name


def test_what_stories_make_demo_tells_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.search(r"make demo POLICY=(\w+) .*?also ([\w ,().]+)", text)
    stories = {named.group(1), *(re.findall(r"\b(asergo|location|metrovps|xtom)\b", named.group(2)))}
    assert all((ROOT / "policies" / (story + ".yml")).exists() for story in stories) and len(stories) == 5
    for story in stories:
        assert story in makefile
