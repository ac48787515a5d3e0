# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed read back by a reader of its own and by the system's blkid; the guests of the lab mount it."""
from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))

from ansible_collections.hosting.aup.plugins.module_utils import _seed
from order_model import MAC, order


def tree(image, descriptor):
    """`{name: data}` of the tree that a volume descriptor leads to (ECMA-119, 8.4, 9.1)."""
    volume = image[descriptor * 2048:(descriptor + 1) * 2048]
    assert volume[1:6] == b"CD001" and struct.unpack("<H", volume[128:130])[0] == 2048
    assert struct.unpack("<I", volume[80:84])[0] * 2048 == struct.unpack(">I", volume[84:88])[0] * 2048 == len(image)
    first, size = struct.unpack("<I", volume[158:162])[0], struct.unpack("<I", volume[166:170])[0]
    at, found = first * 2048, {}
    while image[at] and at < first * 2048 + size:
        record = image[at:at + image[at]]
        sector, length, flags, name = (*struct.unpack("<I", record[2:6]), *struct.unpack("<I", record[10:14]), record[25],
                                       record[33:33 + record[32]])
        assert record[2:6] == record[6:10][::-1] and record[10:14] == record[14:18][::-1]
        if not flags & 2:
            found[name.decode("utf-16-be") if descriptor == 17 else name.decode("ascii")] = image[sector * 2048:sector * 2048 + length]
        at += image[at]
    return found


@given(texts=st.lists(st.binary(max_size=9000), min_size=4, max_size=4))
@settings(deadline=None, max_examples=50)
def test_both_trees_hold_the_documents(texts):
    files = dict(zip(("meta-data", "network-config", "user-data", "vendor-data"), texts))
    image = _seed.image(files)
    assert tree(image, 17) == files and len(image) % _seed.MIB == 0
    assert tree(image, 16) == {name.upper().replace("-", "_") + ".;1": data for name, data in files.items()}
    assert image == _seed.image(dict(reversed(files.items())))


def test_the_system_finds_the_label(tmp_path):
    blkid = shutil.which("blkid", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if blkid is None:
        pytest.skip("needs blkid (util-linux)")
    path = tmp_path / "seed.iso"
    path.write_bytes(_seed.image(_seed.documents(order())))
    said = subprocess.run([blkid, "-p", "-o", "export", str(path)], capture_output=True, text=True, check=True).stdout
    assert "LABEL=cidata\n" in said and "TYPE=iso9660\n" in said


def test_the_documents_of_an_order():
    files = _seed.documents(order(ssh_keys=["ssh-ed25519 AAAA"]), "#cloud-config\npassword: größer\n")
    assert json.loads(files["meta-data"]) == {
        "instance-id": order()["guest"]["uuid"], "local-hostname": "web-nine", "public-keys": ["ssh-ed25519 AAAA"]}
    network = json.loads(files["network-config"])
    assert network == {"version": 2, "ethernets": {"nic0": {
        "match": {"macaddress": MAC}, "dhcp4": False, "dhcp6": False, "accept-ra": False,
        "addresses": ["192.0.2.109/24", "2001:db8::9/128"], "nameservers": {"addresses": ["198.51.100.53"]},
        # A gateway outside the address's own subnet has to be reached on the link.
        "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}, {"to": "::/0", "via": "fe80::1", "on-link": True}]}}}
    assert files["vendor-data"].startswith(b"#cloud-config\n")
    assert files["user-data"].decode() == "#cloud-config\npassword: größer\n"
    assert _seed.documents(order())["user-data"] == b"#cloud-config\n{}\n"
