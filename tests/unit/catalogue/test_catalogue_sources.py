# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""CSV files, panel exports through JMESPath, and a catalogue that names another file."""
from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue_mapping
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import CSV_COLUMNS, load_catalogue
from catalogue_builders import BASE, catalogue, load, service, write

EXAMPLE = Path(__file__).resolve().parents[3] / "inventories" / "example"

CSV = """\
id,customer,account_type,node,pool,guest,guest_uuid,mac,addresses,prefixes,shared,floating,plan,addons,uses,liable_name,liable_contact
vps-1,c1,business,kvm1,,web-1,6F1F9F1E-0C5B-4B8E-9A57-2D0F5A3C1001,52:54:00:00:00:01 | 52:54:00:00:00:02,192.0.2.1 2001:db8::1|192.0.2.2,2001:db8:1::/64,|198.51.100.5/tcp/80,192.0.2.99,cores=2 tier=gold,backup ddos_mitigation,tor=relay,"Muster, Erika",erika@example.org
vps-2,c2,personal,,p,web-2,,52:54:00:00:00:03,192.0.2.3,,"198.51.100.5/tcp/81,90-99 198.51.100.5/udp/80",,,,,,
"""


def fails(call, *arguments):
    with pytest.raises(CatalogueError) as caught:
        call(*arguments)
    assert caught.value.remedy
    return caught.value


def csv_catalogue(tmp_path, text):
    write(tmp_path, text, "services.csv")
    return write(tmp_path, {**BASE, "services_from": {"file": "services.csv"}})


def test_csv_is_the_same_as_native(tmp_path):
    found = load_catalogue(csv_catalogue(tmp_path, CSV))
    assert found == load(tmp_path, catalogue(
        service(1, guest={"name": "web-1", "uuid": "6f1f9f1e-0c5b-4b8e-9a57-2d0f5a3c1001"}, nics=[
            {"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.1", "2001:db8::1"], "prefixes": ["2001:db8:1::/64"],
             "floating": ["192.0.2.99"]},
            {"mac": "52:54:00:00:00:02", "addresses": ["192.0.2.2"],
             "shared": [{"address": "198.51.100.5", "protocol": "tcp", "ports": [80]}]}],
            plan={"cores": 2, "tier": "gold"}, addons=["backup", "ddos_mitigation"], uses={"tor": "relay"},
            liable={"name": "Muster, Erika", "contact": "erika@example.org"}),
        service(2, account_type="personal", node=None, pool="p", guest="web-2", nics=[
            {"mac": "52:54:00:00:00:03", "addresses": ["192.0.2.3"], "shared": [
                {"address": "198.51.100.5", "protocol": "tcp", "ports": [81, "90-99"]},
                {"address": "198.51.100.5", "protocol": "udp", "ports": [80]}]}])))


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_as_spreadsheets_write_it(tmp_path, delimiter):
    rows = "id,customer,account_type,node,guest,mac,addresses\r\n" "7,c,business,kvm1,g,525400000001,192.0.2.7\r\n"
    document = load_catalogue(csv_catalogue(tmp_path, "\ufeff" + rows.replace(",", delimiter)))
    assert document["services"]["7"]["nics"][0]["addresses"] == ["192.0.2.7"]


@pytest.mark.parametrize(("text", "words"), [
    ("id,customer\nvps-1\n", "line 2: 1 cells in a table of 2 columns"),
    ("id,id\n1,2\n", "the column name 'id' is given twice"),
    ("id,\n1,2\n", "the column name '' is empty"),
    ('id,customer\n"1,2\n', "not valid CSV"),
    ("id,colour\nvps-1,red\n", "line 1: 'colour' is no column of a catalogue; known are id, customer"),
    ("id,customer\nvps-1,\n", "line 2: service 'vps-1', customer: is required"),
    ("id,mac,addresses\nvps-1,52:54:00:00:00:01,192.0.2.1|192.0.2.2\n",
     "line 2: service 'vps-1', addresses: speaks of 2 NICs, the column mac of 1"),
    ("id,mac,addresses\nvps-1,,192.0.2.1\n", "addresses: speaks of 1 NICs, the column mac of 0"),
    ("id,shared,mac\nvps-1,192.0.2.1:80,52:54:00:00:00:01\n", "shared: '192.0.2.1:80' is not address/protocol/ports"),
    ("id,plan\nvps-1,cores\n", "plan: 'cores' is not key=value"),
    ("id,uses\nvps-1,tor=relay tor=exit\n", "uses: 'tor=exit' is not key=value with a key of its own"),
])
def test_csv_errors_name_the_line(tmp_path, text, words):
    error = fails(load_catalogue, csv_catalogue(tmp_path, text))
    assert words in error.message


def test_all_documented_columns_are_read(tmp_path):
    header = ",".join(CSV_COLUMNS)
    assert "no column" not in fails(load_catalogue, csv_catalogue(tmp_path, f"{header}\nx{',' * header.count(',')}\n")).message


EXPORT = {"data": [{"number": 1, "client": {"id": 7}, "type": "business", "host": "kvm1", "domain": "g1",
                    "ifs": [{"hw": "52:54:00:00:00:01", "ip": "192.0.2.1, 192.0.2.2",
                             "nat": [{"ip": "198.51.100.5", "proto": "tcp", "from": 80, "to": 90}]}]}]}
MAPPING = {
    **BASE,
    "services": "data",
    "fields": {
        "id": "to_string(number)", "customer": "client.id", "account_type": "type", "node": "host",
        "guest": {"name": "domain", "uuid": "uuid"}, "liable": {"name": "client.name", "contact": "client.mail"},
        "nics": {"each": "ifs", "mac": "hw", "addresses": "split(ip, ', ')",
                 "shared": {"each": "nat", "address": "ip", "protocol": "proto", "ports": "[[from, to]]"}},
    },
}


def mapped(tmp_path, export=None, **changes):
    fields = {**MAPPING["fields"], **changes.pop("fields", {})}
    return load(tmp_path, export or EXPORT, {**MAPPING, **changes, "fields": fields}, name="export.json")


def test_an_export_through_a_mapping(tmp_path):
    document = mapped(tmp_path)
    assert document["services"]["1"] == {
        "id": "1", "customer": "7", "account_type": "business", "location": "fra", "nodes": ["kvm1"], "pool": None,
        "guest": {"name": "g1", "uuid": None},
        "nics": [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.1", "192.0.2.2"], "prefixes": [], "floating": [],
                  "shared": [{"address": "198.51.100.5", "protocol": "tcp", "ports": [[80, 90]]}]}],
        "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None}


@pytest.mark.parametrize(("changes", "words"), [
    ({"fields": {"customer": "client.number"}},
     "export.json: entry 1 (id '1'), customer: is required (expression: client.number)"),
    ({"fields": {"id": "numero"}}, "export.json: entry 1, id: is required (expression: numero)"),
    ({"fields": {"account_type": "client"}},
     "entry 1 (id '1'), account_type: a name is expected, found a mapping (expression: client)"),
    ({"fields": {"nics": {"each": "ifs", "mac": "ip"}}}, "nics[0].mac: '192.0.2.1, 192.0.2.2' is not a MAC address"),
    ({"fields": {"nics": {"each": "ifs", "mac": "hw", "addresses": "ip"}}},
     "nics[0].addresses: a list is expected, found the text '192.0.2.1, 192.0.2.2' (expression: ip)"),
    ({"fields": {"nics": {"each": "ifs", "mac": "hw", "addresses": "split(ip, ',')", "shared": {
        "each": "nat", "address": "ip", "protocol": "proto", "ports": "from_"}}}},
     "nics[0].shared[0].ports: is required (expression: from_)"),
    ({"fields": {"nics": {"each": "interfaces", "mac": "hw"}}}, "nics: is required (expression: interfaces)"),
    ({"fields": {"nics": {"each": "domain", "mac": "hw"}}}, "nics: a list is expected, found the text 'g1'"),
    ({"fields": {"addons": "join(',', number)"}}, "entry 1 (id '1'), addons: failed: "),
    ({"services": "rows"}, "services: expression 'rows' gave null, a list is expected"),
    ({"services": "data[0]"}, "services: expression 'data[0]' gave a mapping, a list is expected"),
    ({"prefixes": "networks"}, "prefixes: expression 'networks' gave null"),
    ({"services": "data["}, "services: 'data[' is not a JMESPath expression"),
    ({"fields": {"colour": "x"}}, "colour: unknown key; known are id, customer"),
    ({"fields": {"nics": {"each": "ifs", "macaddr": "hw"}}}, "nics.macaddr: unknown key"),
    ({"fields": {"nics": {"mac": "hw"}}}, "nics.each: a JMESPath expression is expected, found null"),
    ({"fields": {"plan": {"cpu": "cpu"}}}, "plan: one JMESPath expression is expected, found a mapping"),
    ({"fields": {"id": 7}}, "id: a JMESPath expression is expected, found the number 7"),
    ({"panel": "x"}, "panel: unknown key"),
])
def test_a_wrong_mapping_names_entry_field_and_expression(tmp_path, changes, words):
    with pytest.raises(CatalogueError) as caught:
        mapped(tmp_path, **changes)
    assert words in caught.value.message


def test_entries_that_are_no_mappings_are_named(tmp_path):
    error = fails(mapped, tmp_path, {"data": [EXPORT["data"][0], "x"]})
    assert "export.json: entry 2, id: is required (expression: to_string(number))" in error.message


def test_null_never_becomes_the_text_null(tmp_path):
    error = fails(lambda: mapped(tmp_path, fields={"id": "join('-', ['vps', to_string(no)])"}))
    assert "entry 1, id: failed: " in error.message and "id: is required" not in error.message


def test_a_mapping_with_a_date_in_it_is_refused_clearly(tmp_path):
    error = fails(lambda: mapped(tmp_path, generated_at=date(2026, 11, 21)))
    assert "date is not JSON serializable" in error.message and "quotes" in error.remedy


def test_a_mapping_needs_jmespath(tmp_path, monkeypatch):
    monkeypatch.setattr(_catalogue_mapping, "jmespath", None)
    assert "jmespath" in fails(mapped, tmp_path).message


def test_a_csv_export_through_a_mapping(tmp_path):
    path = write(tmp_path, "nr;owner;vm;hw;ips\n1;7;g1;525400000001;192.0.2.1 192.0.2.2\n2;7;g2;;\n", "export.csv")
    document = load_catalogue(path, {**BASE, "services": "[?hw]", "fields": {
        "id": "nr", "customer": "owner", "account_type": "'business'", "node": "'kvm1'", "guest": "vm",
        "nics": "[{mac: hw, addresses: split(ips, ' ')}]"}})
    assert list(document["services"]) == ["1"]
    assert document["services"]["1"]["nics"][0]["addresses"] == ["192.0.2.1", "192.0.2.2"]


def test_a_catalogue_that_names_export_and_mapping(tmp_path):
    write(tmp_path, EXPORT, "export.json")
    write(tmp_path, {"services": "data", "fields": MAPPING["fields"]}, "mapping.json")
    document = load(tmp_path, {**BASE, "services_from": {"file": "export.json", "mapping": "mapping.json"}})
    assert document == mapped(tmp_path)


def test_a_catalogue_that_names_plain_files(tmp_path):
    expected = load(tmp_path, catalogue(service(1)))
    write(tmp_path, [service(1)], "services.json")
    assert load(tmp_path, {**BASE, "services_from": {"file": "services.json"}}) == expected
    write(tmp_path, {"services": [service(1)], "generated_at": 7}, "services.json")
    assert load(tmp_path, {**BASE, "services_from": {"file": "services.json"}}) == {**expected, "generated_at": 7}


@pytest.mark.parametrize(("top", "words"), [
    ({"services_from": {"file": "services.json"}, "services": []}, "services_from: stands beside `services`"),
    ({"services_from": {"file": "services.json"}, "generated_at": 8}, "generated_at: is given by"),
    ({"services_from": {"file": "nothing.json"}}, "No such file"),
    ({"services_from": {"path": "services.json"}}, "services_from.path: unknown key"),
    ({"services_from": "services.json"}, "services_from: a mapping is expected"),
])
def test_wrong_services_from(tmp_path, top, words):
    write(tmp_path, {"services": [service(1)], "generated_at": 7}, "services.json")
    assert words in fails(load, tmp_path, {**BASE, **top}).message


def test_a_contradiction_names_the_file_of_the_services(tmp_path):
    write(tmp_path, [service(1), {**service(2), "nics": service(1)["nics"]}], "services.json")
    error = fails(load, tmp_path, {**BASE, "services_from": {"file": "services.json"}})
    assert all("/services.json: " in problem for problem in error.problems)


def test_the_example_reads_both_ways():
    document = load_catalogue(EXAMPLE / "catalogue.yml")
    assert {name: node["backend"] for name, node in document["nodes"].items()} == {
        "kvm1": "kvm", "kvm2": "kvm", "kvm3": "kvm", "pve": "proxmox", "edge1": "router", "access1": "router"}
    assert len(document["services"]) == 10
    assert document["services"]["vps-1003"]["uses"] == {"tor": "relay"}
    assert document["services"]["vps-1001"]["nodes"] == ["kvm1", "kvm2"]
    panel = load_catalogue(EXAMPLE / "panel-export.json", str(EXAMPLE / "mapping.yml"))
    assert set(panel["services"]) == {"vps-1501", "vps-1502"}
    assert panel["services"]["vps-1501"]["nics"][0]["addresses"] == ["192.0.2.151", "192.0.2.152", "2001:db8:0:151::10"]
