# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin through the real ansible-inventory and ansible commands."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ansible_collections.hosting.aup as collection
import pytest
import yaml

from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue, technical_slice
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "inventories" / "example"
COLLECTIONS = next(str(Path(path).parents[2]) for path in collection.__path__)
BIN = Path(sys.executable).parent

CATALOGUE = {
    "prefixes": ["192.0.2.0/24"],
    "nodes": {
        "kvm1": {"backend": "kvm", "location": "fra-1", "pool": "p", "uplinks": ["eth1"], "bridges": ["br0"],
                 "address": "192.0.2.11", "vars": {"ansible_port": 2222, "rack": "B7"}},
        "kvm2": {"backend": "kvm", "location": "fra-1", "pool": "p", "routed_interfaces": ["vnet*"]},
        "pve": {"backend": "proxmox", "location": "ams", "proxmox": {"hosts": {"pve1": "192.0.2.21"}}},
        "edge": {"backend": "router", "location": "ams"},
    },
    "services": [{"id": "vps-1", "customer": "c1", "account_type": "business", "pool": "p", "guest": "g1",
                  "nics": [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.1"]}]}],
}
CONFIG = {"plugin": "hosting.aup.services", "catalogue": "catalogue.yml"}


def run(command, *arguments, cwd):
    (cwd / "ansible.cfg").write_text("[defaults]\n", encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS, "ANSIBLE_NOCOLOR": "1",
                   "ANSIBLE_CONFIG": str(cwd / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "0",
                   "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
    return subprocess.run([str(BIN / command), *arguments], cwd=cwd, env=environment, text=True,
                          capture_output=True, timeout=120, check=False)


def listed(path, cwd):
    found = run("ansible-inventory", "-i", str(path), "--list", cwd=cwd)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout, object_hook=_text)


def _text(found):
    """ansible-inventory marks text that is no template like this from ansible-core 2.19 on."""
    return found["__ansible_unsafe"] if set(found) == {"__ansible_unsafe"} else found


def provider(tmp_path, data=None, **config):
    folder = tmp_path / "inventory"
    folder.mkdir(exist_ok=True)
    (folder / "catalogue.yml").write_text(yaml.safe_dump(json.loads(json.dumps(data or CATALOGUE))), encoding="utf-8")
    path = folder / "hosts.aup.yml"
    path.write_text(yaml.safe_dump({**CONFIG, **config}), encoding="utf-8")
    return path


def test_nodes_groups_and_variables(tmp_path):
    path = provider(
        tmp_path, policy="policies/own.yml", ledger_url="sqlite:///ledger.db",
        connection_defaults={"ansible_user": "aup", "ansible_port": 22},
        compose={"site": "aup_location[:3]"}, groups={"racked": "rack is defined"},
        keyed_groups=[{"key": "aup_location[:3]", "prefix": "site"}])
    inventory = listed(path, tmp_path)
    hosts = inventory["_meta"]["hostvars"]
    assert set(hosts) == {"kvm1", "kvm2", "pve", "pve1", "edge"}, "services are not hosts"
    members = {name: group.get("hosts") for name, group in inventory.items() if name != "_meta"}
    assert members["aup_kvm_nodes"] == ["kvm1", "kvm2"]
    assert members["aup_proxmox_clusters"] == ["pve"]
    assert members["aup_proxmox_hosts"] == ["pve1"]
    assert (hosts["pve1"]["ansible_host"], hosts["pve1"]["aup_proxmox_cluster"], hosts["pve1"]["ansible_user"]) == ("192.0.2.21", "pve", "aup")
    assert members["aup_routers"] == ["edge"]
    assert members["aup_location_fra_1"] == ["kvm1", "kvm2"]
    assert sorted(members["aup_location_ams"]) == ["edge", "pve"]
    assert members["aup_pool_p"] == ["kvm1", "kvm2"]
    assert members["racked"] == ["kvm1"]
    assert members["site_fra"] == ["kvm1", "kvm2"]
    folder = str(path.parent)
    assert hosts["kvm1"] == {
        "ansible_host": "192.0.2.11", "ansible_port": 2222, "ansible_user": "aup", "rack": "B7", "site": "fra",
        "aup_backend": "kvm", "aup_location": "fra-1", "aup_pool": "p", "aup_uplinks": ["eth1"],
        "aup_bridges": ["br0"], "aup_routed_interfaces": [],
        "aup_catalogue": folder + "/catalogue.yml", "aup_policy": folder + "/policies/own.yml",
        "aup_ledger_url": "sqlite:///" + folder + "/ledger.db"}
    assert hosts["kvm2"]["aup_routed_interfaces"] == ["vnet*"]
    assert "aup_pool" not in hosts["pve"]


def test_a_shipped_policy_and_a_server_ledger_stay_as_they_are(tmp_path):
    path = provider(tmp_path, policy="default", ledger_url="postgresql+psycopg://aup@db.example.com/aup")
    variables = listed(path, tmp_path)["_meta"]["hostvars"]["pve"]
    assert variables["aup_policy"] == "default"
    assert variables["aup_ledger_url"] == "postgresql+psycopg://aup@db.example.com/aup"


def test_policies_may_be_versions(tmp_path):
    """One in force and one to come; a name stays a name, and what looks like a template stays text."""
    path = provider(tmp_path, policy=["policies/one.yml", "default", "{{ 7 * 7 }}.yml"])
    assert listed(path, tmp_path)["_meta"]["hostvars"]["pve"]["aup_policy"] == [
        "%s/policies/one.yml" % path.parent, "default", "%s/{{ 7 * 7 }}.yml" % path.parent]


def test_groups_exist_without_members(tmp_path):
    only = {**CATALOGUE, "nodes": {"pve": CATALOGUE["nodes"]["pve"]}, "services": []}
    found = run("ansible", "aup_kvm_nodes:aup_routers", "-i", str(provider(tmp_path, only)), "--list-hosts", cwd=tmp_path)
    assert found.returncode == 0 and "hosts (0)" in found.stdout
    assert "Could not match supplied host pattern" not in found.stderr


def test_a_template_in_the_catalogue_stays_text(tmp_path):
    marker = tmp_path / "executed"
    hostile = "{{ lookup('pipe', 'touch %s') }}" % marker
    catalogue = json.loads(json.dumps(CATALOGUE))
    catalogue["nodes"]["kvm1"]["vars"]["rack"] = hostile
    catalogue["nodes"]["kvm1"]["vars"]["deep"] = {"list": [hostile]}
    catalogue["services"][0]["guest"] = hostile.replace("/", "_")
    catalogue["services"][0]["plan"] = {"note": hostile}
    path = provider(tmp_path, catalogue, compose={"copied": "rack"},
                    keyed_groups=[{"key": "rack", "prefix": "rack"}])
    assert listed(path, tmp_path)["_meta"]["hostvars"]["kvm1"]["rack"] == hostile
    found = run("ansible", "kvm1", "-i", str(path), "-c", "local", "-m", "ansible.builtin.debug",
                "-a", "msg='{{ rack }} {{ copied }} {{ deep }}'", cwd=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("lookup('pipe'") >= 2
    assert not marker.exists()


def test_the_same_template_written_by_the_operator_runs(tmp_path):
    """What makes the test above one that can fail: in group_vars the same text is a template."""
    marker = tmp_path / "executed"
    path = provider(tmp_path)
    (path.parent / "group_vars").mkdir()
    (path.parent / "group_vars" / "all.yml").write_text(
        json.dumps({"own": "{{ lookup('pipe', 'touch %s') }}" % marker}), encoding="utf-8")
    run("ansible", "kvm1", "-i", str(path), "-c", "local", "-m", "ansible.builtin.debug", "-a", "msg={{ own }}",
        cwd=tmp_path)
    assert marker.exists()


@pytest.mark.parametrize(("change", "config", "words"), [
    ({"services": [{**CATALOGUE["services"][0], "id": "{{ x }}/\x1b"}]}, {}, r"'{{ x }}/\x1b' is not an id"),
    ({"services": [CATALOGUE["services"][0], {**CATALOGUE["services"][0], "id": "vps-2", "guest": "g2"}]}, {},
     "is claimed by service 'vps-1'"),
    ({"nodes": {**CATALOGUE["nodes"], "x": {"backend": "proxmox", "location": "fra_1"}}}, {},
     "the locations 'fra-1' and 'fra_1' would both be the group aup_location_fra_1"),
    ({}, {"catalogue": "missing.yml"}, "missing.yml can't be opened: No such file"),
])
def test_a_wrong_catalogue_fails_the_inventory_with_its_reason(tmp_path, change, config, words):
    found = run("ansible-inventory", "-i", str(provider(tmp_path, {**CATALOGUE, **change}, **config)), "--list",
                cwd=tmp_path)
    assert found.returncode != 0
    said = " ".join(found.stderr.split())
    assert words in said
    assert "\x1b" not in found.stderr


def test_a_broken_export_leaves_the_released_nodes_so_that_runbooks_go_on(tmp_path):
    path = provider(tmp_path, ledger_url="sqlite:///ledger.db")
    catalogue = load_catalogue(str(path.parent / "catalogue.yml"))
    policy = load_policy("default")
    with open_ledger("sqlite:///%s" % (path.parent / "ledger.db"), create=True) as ledger, ledger.transaction() as tx:
        tx.create_release({policy.key: policy.document}, policy.key, technical_slice(catalogue))
    before = listed(path, tmp_path)
    (path.parent / "catalogue.yml").write_text("services: [\n", encoding="utf-8")
    found = run("ansible-inventory", "-i", str(path), "--list", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    said = " ".join(found.stderr.split())
    assert "catalogue.yml" in said and "nodes are those of the present release" in said
    after = json.loads(found.stdout, object_hook=_text)
    for name, known in before.pop("_meta")["hostvars"].items():
        # Variables of the operator's own are not in a release: they may hold credentials.
        expected = {key: value for key, value in known.items() if key.startswith(("aup_", "ansible_"))}
        assert after["_meta"]["hostvars"][name] == expected
    assert {group: after[group] for group in before} == before

    (path.parent / "ledger.db").unlink()
    assert run("ansible-inventory", "-i", str(path), "--list", cwd=tmp_path).returncode != 0


def test_another_file_name_is_not_ours(tmp_path):
    path = provider(tmp_path)
    other = path.with_name("hosts.yml")
    shutil.move(path, other)
    found = run("ansible-inventory", "-i", str(other), "--list", cwd=tmp_path)
    assert found.returncode != 0


def test_a_mapping_written_into_the_configuration(tmp_path):
    path = provider(tmp_path, mapping={
        "nodes": CATALOGUE["nodes"], "prefixes": CATALOGUE["prefixes"], "services": "data",
        "fields": {"id": "to_string(n)", "customer": "'c'", "account_type": "'business'", "node": "'kvm1'",
                   "guest": "vm", "nics": {"each": "ifs", "mac": "hw"}}})
    (path.parent / "catalogue.yml").write_text(
        "data: [{n: 1, vm: g1, ifs: [{hw: '52:54:00:00:00:01'}]}]\n", encoding="utf-8")
    hosts = listed(path, tmp_path)["_meta"]["hostvars"]
    assert hosts["kvm1"]["aup_mapping"]["services"] == "data"


@pytest.mark.parametrize("name", ["hosts.aup.yml", "panel.aup.yml"])
def test_the_example_inventory(tmp_path, name):
    hosts = listed(EXAMPLE / name, tmp_path)["_meta"]["hostvars"]
    assert hosts["kvm1"]["aup_location"] == "fra1"
    assert hosts["kvm1"]["aup_policy"] == str(EXAMPLE / "policies" / "provider.yml")
    assert ("aup_mapping" in hosts["kvm1"]) == (name == "panel.aup.yml")


def test_the_localhost_play_sees_what_the_playbooks_need(tmp_path):
    found = run("ansible", "localhost", "-i", str(EXAMPLE / "hosts.aup.yml"), "-m", "ansible.builtin.debug",
                "-a", "msg='{{ aup_catalogue }} {{ aup_policy }} {{ aup_ledger_url }}'", cwd=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"sqlite:///{EXAMPLE}/ledger.db" in found.stdout
