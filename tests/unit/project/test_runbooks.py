# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each verb has a page a tired person can follow: all of its parts, and lines that can be typed as they stand."""
from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ansible_collections.hosting.aup.plugins.module_utils._fold import KINDS
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs/runbooks"
PARTS = ["When to use it", "The line to type", "What the customer sees", "How to undo it", "What can go wrong",
         "What can't come back"]
VERBS = sorted({*KINDS, "respond", "lift"})
LINE = re.compile(r"^.*?(ansible-playbook hosting\.aup\.[^`\n]+)", re.MULTILINE)


def inputs_of(playbook):
    """The variables that a runbook hands on to the ledger."""
    plays = yaml.safe_load((ROOT / "playbooks" / (playbook + ".yml")).read_text(encoding="utf-8"))
    found = set()
    for task in (task for play in plays for task in play.get("tasks", ())):
        for name, arguments in task.items():
            if name.startswith("hosting.aup.ledger_"):
                found.update(arguments.get("inputs", ()))
    return found


def lines():
    return [pytest.param(line, id="%s: %s" % (page.stem, line))
            for page in sorted(PAGES.glob("*.md")) for line in LINE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_page_with_all_parts_in_order(verb):
    text = (PAGES / (verb + ".md")).read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert parts[1::2] == PARTS
    assert all(part.strip() for part in parts[2::2])
    assert "ansible-playbook hosting.aup.%s " % verb in parts[4]
    assert "(runbooks/%s.md)" % verb in (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", lines())
def test_each_line_can_be_typed_as_it_stands(line):
    words = shlex.split(line)
    known = inputs_of(words[1].removeprefix("hosting.aup."))
    given = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "-e")
    assert set(given) <= known, "%s takes no %s" % (words[1], sorted(set(given) - known))
    assert [word for word in words[2:] if word.startswith("-") and word not in ("-e", "--check", "--diff")] == []
    if "violation" in given:
        assert given["violation"] in load_policy(str(ROOT / "policies/default.yml")).document["violations"]


def test_every_link_leads_somewhere():
    for page in [*PAGES.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), "%s: %s" % (page.name, target)
