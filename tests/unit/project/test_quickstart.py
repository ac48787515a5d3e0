# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that docs/quickstart.md has the reader write are the files that are read here."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^`([a-z.-]+)`[:,].*?^```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture
def provider(tmp_path):
    """The directory after step 2 of the quick start."""
    text = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")
    for name, block in BLOCK.findall(text):
        (tmp_path / name).write_text(block, encoding="utf-8")
    return tmp_path


def test_the_files_of_the_quick_start_are_all_there(provider):
    assert {path.name for path in provider.iterdir()} == {
        "ansible.cfg", "catalogue.yml", "hosts.aup.yml", "provider.yml"}


def test_its_catalogue_is_accepted(provider):
    catalogue = load_catalogue(str(provider / "catalogue.yml"))
    assert sorted(catalogue["services"]) == ["vps-1001", "vps-1002"]
    assert catalogue["services"]["vps-1001"]["nodes"] == ["kvm1"]


def test_its_policy_is_accepted_and_knows_its_location_and_violation(provider):
    policy = load_policy(str(provider / "provider.yml"))
    catalogue = load_catalogue(str(provider / "catalogue.yml"))
    for service in catalogue["services"].values():
        setting = policy.control("smtp_outbound", service["location"], service["account_type"])
        assert setting.mode == "enforce"
    assert "attack_target" in policy.document["violations"]


def test_its_inventory_names_files_that_exist(provider):
    inventory = yaml.safe_load((provider / "hosts.aup.yml").read_text(encoding="utf-8"))
    assert inventory["plugin"] == "hosting.aup.services"
    assert (provider / inventory["catalogue"]).is_file()
    assert (provider / inventory["policy"]).is_file()


def test_every_playbook_role_and_module_that_the_documentation_names_exists():
    known = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} | {
        path.name for path in (ROOT / "roles").iterdir()} | {
        path.stem for path in (ROOT / "plugins/modules").glob("*.py")} | {"services", "aup"}
    for name in ("README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(r"hosting\.aup\.([a-z_]+)", text)) - {"git", "plugins"}
        assert named <= known, name


def test_relative_links_of_the_documentation_lead_somewhere():
    for page in [*(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
