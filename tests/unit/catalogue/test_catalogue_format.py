# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The native format: what it becomes, and how each wrong value is refused."""
from __future__ import annotations

import json
import os

import pytest
import yaml
from ansible_collections.hosting.aup.plugins.module_utils._canonical import canonical
from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue, _catalogue_files
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from catalogue_builders import BASE, catalogue, load, nic, service, write


def problems_of(tmp_path, data, **options):
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, data, **options)
    return caught.value.problems


def test_the_normal_form(tmp_path):
    document = load(tmp_path, catalogue(
        {"id": 1001, "customer": 7, "account_type": "personal", "pool": "p",
         "guest": {"name": "web 1", "uuid": "6F1F9F1E-0C5B-4B8E-9A57-2D0F5A3C1001"},
         "nics": [
             {"mac": "5254.00AA.BBCD"},
             {"mac": "52-54-00-AA-BB-CC", "addresses": ["2001:DB8::0010", "192.0.2.10", "192.0.2.9", "192.0.2.9"],
              "prefixes": ["2001:db8:1:0::/64"], "floating": ["192.0.2.11"],
              "shared": [{"address": "198.51.100.5", "protocol": "TCP", "ports": ["90-99", 80, [81, 85], "92"]}]}],
         "plan": {"cores": 2, "tags": ["a"]}, "addons": ["b", "a", "a"], "uses": {"tor": "relay"},
         "policy": "strict", "liable": {"name": "Ü & Söhne", "contact": "a@example.org"}},
        generated_at="2026-11-21T00:00:00Z"))
    assert document == {
        "format": 1, "generated_at": 1795219200,
        "prefixes": ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"],
        "nodes": {
            "edge": {"backend": "router", "location": "fra", "pool": None, "uplinks": [], "bridges": [],
                     "routed_interfaces": [], "address": None, "vars": {}},
            "kvm1": {"backend": "kvm", "location": "fra", "pool": "p", "uplinks": ["eth1"], "bridges": ["br0"],
                     "routed_interfaces": [], "address": None, "vars": {}},
            "kvm2": {"backend": "kvm", "location": "fra", "pool": "p", "uplinks": ["eth1"], "bridges": ["br0"],
                     "routed_interfaces": [], "address": None, "vars": {}},
            "kvm3": {"backend": "kvm", "location": "ams", "pool": None, "uplinks": [], "bridges": [],
                     "routed_interfaces": ["vnet*"], "address": None, "vars": {}}},
        "services": {"1001": {
            "id": "1001", "customer": "7", "account_type": "personal", "location": "fra",
            "nodes": ["kvm1", "kvm2"], "pool": "p",
            "guest": {"name": "web 1", "uuid": "6f1f9f1e-0c5b-4b8e-9a57-2d0f5a3c1001"},
            "nics": [
                {"mac": "52:54:00:aa:bb:cc", "addresses": ["192.0.2.9", "192.0.2.10", "2001:db8::10"],
                 "prefixes": ["2001:db8:1::/64"], "floating": ["192.0.2.11"],
                 "shared": [{"address": "198.51.100.5", "protocol": "tcp", "ports": [[80, 85], [90, 99]]}]},
                {"mac": "52:54:00:aa:bb:cd", "addresses": [], "prefixes": [], "floating": [], "shared": []}],
            "plan": {"cores": 2, "tags": ["a"]}, "addons": ["a", "b"], "uses": {"tor": "relay"},
            "policy": "strict", "liable": {"name": "Ü & Söhne", "contact": "a@example.org"}}}}
    assert load(tmp_path, document) == document
    assert canonical(document)


def test_yaml_is_read_without_yamls_surprises(tmp_path):
    path = write(tmp_path, """
prefixes: [192.0.2.0/24]
nodes:
  kvm1: {backend: kvm, location: no, bridges: [br0]}
services:
  0123:
    customer: 1e3
    account_type: on
    node: kvm1
    guest: yes
    nics: [{mac: 52:54:00:12:34:56, addresses: [192.0.2.1]}]
    plan: {since: 2026-01-01, cores: 2, gpu: false}
""", "c.yml")
    document = load_catalogue(path)
    entry = document["services"]["0123"]
    assert entry["nics"][0]["mac"] == "52:54:00:12:34:56"
    assert (entry["customer"], entry["account_type"], entry["location"], entry["guest"]["name"]) == (
        "1e3", "on", "no", "yes")
    assert entry["plan"] == {"since": "2026-01-01", "cores": 2, "gpu": False}


def test_without_libyaml_the_same_document(tmp_path, monkeypatch):
    path = write(tmp_path, yaml.safe_dump(catalogue(service(1), service(2))), "c.yml")
    fast = load_catalogue(path)
    monkeypatch.setattr(_catalogue_files, "_LOADER", yaml.SafeLoader)
    assert load_catalogue(path) == fast


def test_braces_stay_text(tmp_path):
    name = "{{ lookup('pipe', 'id') }}"
    document = load(tmp_path, catalogue(service(1, guest=name, liable={"name": name, "contact": "$(id)"})))
    assert document["services"]["vps-1"]["guest"]["name"] == name
    assert document["services"]["vps-1"]["liable"] == {"name": name, "contact": "$(id)"}


def _nic(**fields):
    return {"nics": [{"mac": "52:54:00:00:00:01", **fields}]}


WRONG_SERVICES = [
    ({"id": "a/b"}, "id", "'a/b' is not an id"),
    ({"id": "a\nb"}, "id", r"'a\nb' is not an id"),
    ({"id": "x" * 129}, "id", "is not an id"),
    ({"id": True}, "id", "found the boolean true"),
    ({"id": None}, "id", "is required"),
    ({"id": "a\x1b[31m"}, "id", r"'a\x1b[31m'"),
    ({"customer": "jo@example.org"}, "customer", "'jo@example.org' is not an id"),
    ({"customer": None}, "customer", "is required"),
    ({"account_type": ["business"]}, "account_type", "a name is expected, found a list"),
    ({"guest": None}, "guest", "is required"),
    ({"guest": "a/b"}, "guest", "'a/b' is not a guest name"),
    ({"guest": "../x"}, "guest", "is not a guest name"),
    ({"guest": "a\nb"}, "guest", r"'a\nb' is not a guest name"),
    ({"guest": "-rf"}, "guest", "'-rf' is not a guest name"),
    ({"guest": "a\u202eb"}, "guest", r"'a\u202eb' is not a guest name"),
    ({"guest": " a"}, "guest", "is not a guest name"),
    ({"guest": ""}, "guest", "is not a guest name"),
    ({"guest": {"name": "a", "uuid": "1234"}}, "guest.uuid", "'1234' is not a UUID"),
    ({"guest": {"name": "a", "nam": "a"}}, "guest.nam", "unknown key; known are name, uuid"),
    ({"nics": None}, "nics", "is required"),
    ({"nics": {}}, "nics", "a list is expected, found a mapping"),
    ({"nics": ["x"]}, "nics[0]", "a mapping is expected, found the text 'x'"),
    ({"nics": [{}]}, "nics[0].mac", "is required"),
    ({"nics": [{"mac": 5254}]}, "nics[0].mac", "found the number 5254"),
    ({"nics": [{"mac": "52:54:00:00:00"}]}, "nics[0].mac", "is not a MAC address"),
    ({"nics": [{"mac": "53:54:00:00:00:01"}]}, "nics[0].mac", "multicast"),
    ({"nics": [{"mac": "ff:ff:ff:ff:ff:ff"}]}, "nics[0].mac", "broadcast"),
    ({"nics": [{"mac": "00:00:00:00:00:00"}]}, "nics[0].mac", "no interface's own"),
    (_nic(addresses="192.0.2.1"), "nics[0].addresses", "a list is expected"),
    (_nic(addresses=["192.0.2.1/24"]), "nics[0].addresses[0]", "a prefix length belongs to `prefixes`"),
    (_nic(addresses=["192.0.2.1", "192.0.2.300"]), "nics[0].addresses[1]", "'192.0.2.300' is not an IPv4 or IPv6"),
    (_nic(addresses=["192.0.2.010"]), "nics[0].addresses[0]", "is not an IPv4 or IPv6"),
    (_nic(addresses=["2001:db8::1%eth0"]), "nics[0].addresses[0]", "is not an IPv4 or IPv6"),
    (_nic(addresses=["192.0.2.1\x00"]), "nics[0].addresses[0]", r"'192.0.2.1\x00'"),
    (_nic(addresses=[""]), "nics[0].addresses[0]", "'' is not an IPv4 or IPv6"),
    (_nic(addresses=["fe80::1"]), "nics[0].addresses[0]", "link-local"),
    (_nic(addresses=["::ffff:192.0.2.1"]), "nics[0].addresses[0]", "IPv4-mapped"),
    (_nic(addresses=["127.0.0.1"]), "nics[0].addresses[0]", "loopback"),
    (_nic(addresses=["255.255.255.255"]), "nics[0].addresses[0]", "reserved"),
    (_nic(prefixes=["2001:db8::1/64"]), "nics[0].prefixes[0]", "the prefix is 2001:db8::/64"),
    (_nic(prefixes=["192.0.2.1"]), "nics[0].prefixes[0]", "is not a prefix"),
    (_nic(prefixes=["192.0.2.0/33"]), "nics[0].prefixes[0]", "is not a prefix"),
    (_nic(prefixes=["192.0.2.0/024"]), "nics[0].prefixes[0]", "is not a prefix"),
    (_nic(shared=[{"address": "192.0.2.1", "protocol": "tcp"}]), "nics[0].shared[0].ports", "is required"),
    (_nic(shared=[{"address": "192.0.2.1", "protocol": "tcp", "ports": []}]), "nics[0].shared[0].ports", "needs its"),
    (_nic(shared=[{"address": "192.0.2.1", "protocol": "sctp", "ports": [1]}]), "nics[0].shared[0].protocol",
     "'sctp' is neither tcp nor udp"),
    (_nic(shared=[{"address": "192.0.2.1", "protocol": "tcp", "ports": [0]}]), "nics[0].shared[0].ports", "0 is not"),
    (_nic(shared=[{"address": "192.0.2.1", "protocol": "tcp", "ports": ["9-1"]}]), "nics[0].shared[0].ports",
     "'9-1' is not a port or range"),
    (_nic(shared=[{"address": "192.0.2.1", "protocol": "tcp", "ports": [65536]}]), "nics[0].shared[0].ports", "65536"),
    (_nic(shared=[{"address": "192.0.2.1", "protocol": "tcp", "ports": [True]}]), "nics[0].shared[0].ports", "true"),
    (_nic(vlan=3), "nics[0].vlan", "unknown key"),
    ({"nod": "kvm1"}, "nod", "unknown key"),
    ({"a\nb": 1}, r"'a\nb'", "unknown key"),
    ({"node": None}, "node", "is required: `node`, or `pool`"),
    ({"node": "kvm9"}, "node", "there is no node 'kvm9'; known are edge, kvm1, kvm2, kvm3"),
    ({"node": "edge"}, "node", "is a router"),
    ({"node": "kvm3", "pool": "p"}, "node", "node 'kvm3' is not in pool 'p'"),
    ({"node": None, "pool": "q"}, "pool", "there is no pool 'q'; known are p"),
    ({"node": None, "nodes": ["kvm1", "kvm3"]}, "nodes", "several nodes are a pool"),
    ({"node": None, "nodes": ["kvm1"], "pool": "p"}, "nodes", "which are kvm1, kvm2"),
    ({"nodes": ["kvm1"]}, "node", "stands beside `nodes`"),
    ({"location": "ams"}, "location", "is 'ams', but node 'kvm1' is in fra"),
    ({"plan": []}, "plan", "a mapping is expected"),
    ({"plan": {"rate": 1.5}}, "plan", "whole numbers only"),
    ({"plan": {"a b": 1}}, "plan", "the key 'a b'"),
    ({"addons": "backup"}, "addons", "a list is expected"),
    ({"addons": ["a b"]}, "addons[0]", "'a b' is not a name"),
    ({"uses": ["tor"]}, "uses", "a mapping such as {tor: relay}"),
    ({"uses": {"tor": 1}}, "uses", "a name is expected"),
    ({"policy": "../x"}, "policy", "is not a name"),
    ({"liable": {"name": "a"}}, "liable.contact", "is required"),
    ({"liable": {"name": "a\nb", "contact": "c"}}, "liable.name", r"'a\nb' is not one line"),
]


@pytest.mark.parametrize(("changes", "field", "words"), WRONG_SERVICES)
def test_a_wrong_field_names_entry_field_and_value(tmp_path, changes, field, words):
    entry = {**service(1), **changes}
    entry = {key: value for key, value in entry.items() if value is not None}
    problems = problems_of(tmp_path, catalogue(entry))
    assert len(problems) == 1, problems
    assert problems[0].startswith(str(tmp_path / "catalogue.json") + ": serv"), problems
    assert f", {field}: " in problems[0]
    assert words in problems[0]
    assert problems[0].isprintable()


WRONG_NODES = [
    ({"backend": None}, "backend", "is required"),
    ({"backend": "xen"}, "backend", "'xen' is none of kvm, proxmox, router"),
    ({"location": None}, "location", "is required"),
    ({"uplinks": ["eth0/1"]}, "uplinks[0]", "'eth0/1' is not an interface name"),
    ({"uplinks": ["a" * 16]}, "uplinks[0]", "at most 15"),
    ({"uplinks": ["eth1*"]}, "uplinks[0]", "is not an interface name"),
    ({"bridges": ['br"0']}, "bridges[0]", "is not an interface name"),
    ({"bridges": ["br 0"]}, "bridges[0]", "is not an interface name"),
    ({"routed_interfaces": ["*"]}, "routed_interfaces[0]", "'*' is not an interface name or one ending"),
    ({"routed_interfaces": ["v*t"]}, "routed_interfaces[0]", "is not an interface name or one ending"),
    ({"routed_interfaces": ["e*"]}, "routed_interfaces", "'e*' also means 'eth1'"),
    ({"uplinks": ["br0"]}, "uplinks", "'br0' is a tenant bridge too"),
    ({"bridges": None}, "bridges", "needs its tenant bridges"),
    ({"address": "a b"}, "address", "neither an IP address nor a host name"),
    ({"address": "-oProxyCommand=x"}, "address", "neither an IP address nor a host name"),
    ({"vars": {"ansible_connection": "local"}}, "vars", "ansible_connection may not be set by a catalogue"),
    ({"vars": {"ansible_ssh_common_args": "-o x"}}, "vars", "may not be set by a catalogue"),
    ({"vars": {"aup_policy": "x"}}, "vars", "aup_policy may not be set by a catalogue"),
    ({"vars": {"ansible_port": "22"}}, "vars", "ansible_port: a port from 1 to 65535"),
    ({"vars": {"ansible_python_interpreter": "/bin/sh -c x"}}, "vars", "an absolute path"),
    ({"vars": {"a-b": 1}}, "vars", "'a-b' is not a variable's name"),
    ({"colour": "red"}, "colour", "unknown key"),
]


@pytest.mark.parametrize(("changes", "field", "words"), WRONG_NODES)
def test_a_wrong_node_names_node_field_and_value(tmp_path, changes, field, words):
    data = catalogue()
    node = {**data["nodes"]["kvm1"], **changes}
    data["nodes"]["kvm1"] = {key: value for key, value in node.items() if value is not None}
    problems = problems_of(tmp_path, data)
    assert len(problems) == 1, problems
    assert f": node 'kvm1', {field}: " in problems[0]
    assert words in problems[0]


def test_what_becomes_of_open_connections_is_not_a_clusters_to_say(tmp_path):
    data = catalogue()
    data["nodes"]["pve"] = {"backend": "proxmox", "location": "fra", "proxmox": {"open_connections": "restart"}}
    problems = problems_of(tmp_path, data)
    assert len(problems) == 1 and "proxmox.open_connections: is the policy's to say, under enforcements" in problems[0]


@pytest.mark.parametrize(("hosts", "words"), [
    (["pve1"], "proxmox.hosts: a mapping is expected"),
    ({"pve1": "no host"}, "proxmox.hosts.pve1: 'no host' is neither an IP address nor a host name"),
    ({"pve 1": "192.0.2.21"}, "proxmox.hosts: 'pve 1' is not a host name"),
    ({"kvm1": "192.0.2.21"}, "pve: proxmox.hosts: 'kvm1' is the name of a node too"),
])
def test_a_clusters_own_nodes_are_named_once(tmp_path, hosts, words):
    data = catalogue()
    data["nodes"]["pve"] = {"backend": "proxmox", "location": "fra", "proxmox": {"hosts": hosts}}
    problems = problems_of(tmp_path, data)
    assert len(problems) == 1 and words in problems[0], problems


@pytest.mark.parametrize(("top", "words"), [
    ({"nodes": {}}, "nodes: is required"),
    ({"nodes": []}, "nodes: is required"),
    ({"nodes": {"a b": {}}}, "node 'a b': 'a b' is not a host name"),
    ({"nodes": {"aup_routers": {}}}, "is not a host name"),
    ({"nodes": {"all": {}}}, "is not a host name"),
    ({"prefixes": []}, "prefixes: is required"),
    ({"prefixes": ["0.0.0.0/0"]}, "prefixes[0]: '0.0.0.0/0'"),
    ({"prefixes": ["64.0.0.0/2"]}, "prefixes[0]: '64.0.0.0/2' holds addresses that are a loopback"),
    ({"prefixes": ["32.0.0.0/6"]}, "prefixes[0]: '32.0.0.0/6' is wider than /8"),
    ({"prefixes": ["2000::/3"]}, "prefixes[0]: '2000::/3' is wider than /8"),
    ({"format": 2}, "format: only 1 is read"),
    ({"generated_at": "yesterday"}, "generated_at: time 'yesterday'"),
    ({"generated_at": True}, "generated_at: an ISO 8601 time"),
    ({"generated_at": 10 ** 15}, "generated_at: an ISO 8601 time"),
    ({"extra": 1}, "extra: unknown key"),
    ({"services": None}, "services: is required"),
    ({"services": "x"}, "services: a list, or a mapping by id, is expected"),
    ({"services": ["x"]}, "services[0]: a mapping is expected"),
    ({"services": {"a": {"id": "b"}}}, "service 'a', id: 'b' is not the key it stands under"),
    ({"pools": []}, "pools: a mapping of pool name"),
    ({"pools": {"q": []}}, "pool 'q', nodes: a pool needs at least one node"),
    ({"pools": {"q": ["kvm9"]}}, "pool 'q', nodes: node 'kvm9' is not in `nodes`"),
    ({"pools": {"q": {"nodes": ["kvm1"]}}}, "node 'kvm1' belongs to pool 'p' and to pool 'q'"),
    ({"pools": {"p": ["edge"]}}, "node 'edge' is router and node 'kvm1' is kvm"),
])
def test_a_wrong_section_is_named(tmp_path, top, words):
    problems = problems_of(tmp_path, catalogue(**top))
    assert any(words in problem for problem in problems), problems


def test_pool_over_two_locations_needs_the_services_location(tmp_path):
    top = {"pools": {"p": {"nodes": ["kvm3"]}}}
    [problem] = problems_of(tmp_path, catalogue(service(1, node=None, pool="p"), **top))
    assert "location: is required: the pool's nodes are in ams, fra" in problem
    document = load(tmp_path, catalogue(service(1, node=None, pool="p", location="ams"), **top))
    assert document["services"]["vps-1"]["nodes"] == ["kvm1", "kvm2", "kvm3"]
    assert document["services"]["vps-1"]["location"] == "ams"


def test_all_problems_are_counted_and_the_first_twenty_listed(tmp_path):
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, catalogue(*(service(number, customer="a b") for number in range(1, 31))))
    assert len(caught.value.problems) == 30
    assert caught.value.message.count("\n  - ") == 20
    assert "30 problems" in caught.value.message and "and 10 more" in caught.value.message
    assert "nothing was changed" in caught.value.message
    assert caught.value.remedy and caught.value.target == str(tmp_path / "catalogue.json")


def test_the_same_id_twice_names_both_entries(tmp_path):
    [problem] = problems_of(tmp_path, catalogue(service(1), {**service(2), "id": "vps-1"}))
    assert problem.count("service 'vps-1'") == 2 and "is also the id of" in problem


@pytest.mark.parametrize(("name", "text", "words"), [
    ("c.json", "", "is empty"),
    ("c.yml", " \n", "is empty"),
    ("c.json", "[1, 2", "line 1, column 6: not valid JSON"),
    ("c.json", '{"a": 1, "a": 2}', "the key 'a' is given twice"),
    ("c.json", '{"a": NaN}', "NaN is not a JSON number"),
    ("c.json", "[" * 100000, "nested too deeply"),
    ("c.json", "1" * 5000, "number too long"),
    ("c.json", "[]", "a catalogue is a mapping, found a list"),
    ("c.yml", "a: [1", "not valid YAML"),
    ("c.yml", "a: 1\na: 2", "line 2: the key 'a' given twice"),
    ("c.yml", "a: &x 1", "anchors"),
    ("c.yml", "a: *x", "aliases"),
    ("c.yml", "a: !!python/object/apply:os.system [id]", "tags and anchors"),
    ("c.yml", "a: !vault x", "the tag '!vault'"),
    ("c.yml", "<<: {a: 1}", "merge keys"),
    ("c.yml", "? [a]\n: 1", "a mapping or list as a key"),
    ("c.yml", "a: 1\n---\nb: 1", "a second document"),
    ("c.yml", "[" * 40 + "]" * 40, "nesting deeper than 32"),
    ("c.yml", "a: \x01", "not valid YAML"),
    ("c.txt", "x", "'.txt' is none of .yml, .yaml, .json, .csv"),
    ("c.csv", "id\n1\n", "a CSV file carries services only"),
])
def test_a_file_that_does_not_parse_says_where(tmp_path, name, text, words):
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(write(tmp_path, text, name))
    assert words in caught.value.message
    assert caught.value.remedy


def test_files_that_are_none(tmp_path, monkeypatch):
    def refused(path):
        with pytest.raises(CatalogueError) as caught:
            load_catalogue(str(path))
        assert caught.value.remedy
        return caught.value.message
    assert "No such file" in refused(tmp_path / "none.yml")
    (tmp_path / "folder.yml").mkdir()
    assert "is a directory" in refused(tmp_path / "folder.yml")
    os.mkfifo(tmp_path / "pipe.yml")
    assert "not a regular file" in refused(tmp_path / "pipe.yml")
    (tmp_path / "latin.yml").write_bytes(b"a: 1\nb: \xe9\n")
    assert "line 2: byte 0xe9 is not UTF-8" in refused(tmp_path / "latin.yml")
    monkeypatch.setattr(_catalogue_files, "MAX_BYTES", 1024 * 1024)
    (tmp_path / "large.yml").write_bytes(b"#" * (1024 * 1024 + 1))
    assert "larger than 1 MiB" in refused(tmp_path / "large.yml")
    assert "can't be opened" in refused("a\0b.yml")


def test_an_unreadable_file_says_so(tmp_path, monkeypatch):
    path = write(tmp_path, catalogue(service(1)))

    def denied(*_arguments):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(_catalogue_files.os, "open", denied)
    with pytest.raises(CatalogueError, match="Permission denied") as caught:
        load_catalogue(path)
    assert "user who runs Ansible" in caught.value.remedy


def test_shrink(tmp_path):
    old = load(tmp_path, catalogue(*(service(number) for number in range(1, 11))))
    fewer = load(tmp_path, catalogue(*(service(number) for number in range(1, 9))))
    other = load(tmp_path, catalogue(*(service(number) for number in range(11, 31))))
    none = load(tmp_path, catalogue())
    _catalogue.check_shrink(None, fewer, 0.1)
    _catalogue.check_shrink(old, fewer, 0.2)
    _catalogue.check_shrink(fewer, old, 0)
    _catalogue.check_shrink(none, old, 0)
    for before, now, limit, code, words in (
            (old, fewer, 0.19, "catalogue_shrank", "lost 2 of 10 services (vps-10, vps-9)"),
            (old, other, 0.9, "catalogue_shrank", "lost 10 of 10 services"),
            (old, none, 1, "catalogue_empty", "no services at all"),
            (None, none, 1, "catalogue_empty", "no services at all")):
        with pytest.raises(CatalogueError) as caught:
            _catalogue.check_shrink(before, now, limit)
        assert caught.value.code == code and words in caught.value.message and caught.value.remedy


def test_an_older_catalogue_is_refused():
    _catalogue.check_not_older(None, {"generated_at": 1})
    _catalogue.check_not_older({"generated_at": 1}, {"generated_at": 1})
    _catalogue.check_not_older({"generated_at": None}, {"generated_at": 1})
    _catalogue.check_not_older({"generated_at": 1}, {"generated_at": None})
    with pytest.raises(CatalogueError, match="1970-01-01T00:00:01Z, before the released one") as caught:
        _catalogue.check_not_older({"generated_at": 2}, {"generated_at": 1})
    assert caught.value.code == "catalogue_old"


def test_the_technical_slice_has_no_personal_data_and_no_credentials(tmp_path):
    data = catalogue(service(1, liable={"name": "Erika Muster", "contact": "erika@example.org"}))
    data["nodes"]["kvm1"]["vars"] = {"bmc": "hunter2"}
    document = load(tmp_path, data)
    sliced = _catalogue.technical_slice(document)
    text = json.dumps(sliced)
    assert "Erika" not in text and "erika" not in text and "hunter2" not in text
    assert sliced["services"]["vps-1"]["customer"] == "c1"
    assert document["services"]["vps-1"]["liable"]["name"] == "Erika Muster", "the document itself must stay"
    assert load(tmp_path, sliced) == sliced


def test_ten_thousand_services_load(tmp_path):
    services = [
        service(number, nics=[nic(number, addresses=[f"10.0.{number >> 8}.{number & 255}", f"2001:db8::{number:x}"])])
        for number in range(1, 10001)]
    path = write(tmp_path, {**BASE, "prefixes": ["10.0.0.0/8", "2001:db8::/32"], "services": services})
    assert len(load_catalogue(path)["services"]) == 10000
