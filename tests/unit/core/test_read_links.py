# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's interfaces from sysfs, in a directory laid out like it."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import read_links


@pytest.fixture
def sysfs(tmp_path):
    """br0 with eth1 and tap1, a plain eth0, and the file that the bonding driver puts there."""
    net = tmp_path / "net"
    net.mkdir()
    for number, name in enumerate(("br0", "eth0", "eth1", "tap1")):
        device = tmp_path / "devices" / name
        device.mkdir(parents=True)
        (device / "address").write_text("02:00:00:00:00:0%d\n" % number)
        (net / name).symlink_to(device)
    (tmp_path / "devices/br0/brif").mkdir()
    for port in ("eth1", "tap1"):
        (tmp_path / "devices/br0/brif" / port).symlink_to(tmp_path / "devices" / port)
    (net / "bonding_masters").write_text("\n")
    return net


def test_each_interface_with_its_bridge_and_mac(sysfs):
    assert read_links(str(sysfs)) == {
        "br0": {"master": None, "mac": "02:00:00:00:00:00"}, "eth0": {"master": None, "mac": "02:00:00:00:00:01"},
        "eth1": {"master": "br0", "mac": "02:00:00:00:00:02"}, "tap1": {"master": "br0", "mac": "02:00:00:00:00:03"}}
    assert {link["mac"] for link in read_links(str(sysfs), macs=False).values()} == {None}


def test_a_port_that_came_or_an_interface_that_went_meanwhile_is_no_error(sysfs):
    brif = sysfs.parent / "devices/br0/brif"
    (brif / "new0").symlink_to(brif)
    (sysfs.parent / "devices/eth0/address").unlink()
    found = read_links(str(sysfs))
    assert "new0" not in found and found["eth0"] == {"master": None, "mac": None}
    assert found["br0"]["mac"] == "02:00:00:00:00:00" and found["tap1"]["master"] == "br0"
