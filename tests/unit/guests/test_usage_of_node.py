# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `kvm_usage` returns of a node: samples by port, gaps, the clock; and nothing at all without libvirt."""

from __future__ import annotations

import time

import pytest

from ansible_collections.hosting.aup.plugins.module_utils import _kvm_node
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError


def port(root, name, index, received, sent):
    """A tap as sysfs shows it: what the host receives on it is what the guest sent."""
    directory = root / "sys/class/net" / name
    (directory / "statistics").mkdir(parents=True)
    for file, value in (("ifindex", index), ("statistics/tx_bytes", received), ("statistics/rx_bytes", sent)):
        (directory / file).write_text("%d\n" % value)


def nic(mac, device, gap=None):
    return {"mac": mac, "device": device, "gap": gap}


def test_samples_gaps_and_clock(tmp_path, monkeypatch):
    port(tmp_path, "vnet0", 7, 100, 20)
    port(tmp_path, "vnet1", 8, 3, 4)
    guests = [
        {"id": 1, "uuid": "u-1", "name": "g1", "nics": [nic("m-1", "vnet0"), nic("m-2", None, "SR-IOV")]},
        {"id": None, "uuid": "u-2", "name": "off", "nics": [nic("m-3", "vnet1")]},
    ]
    node = _kvm_node.KvmNode(None, root=str(tmp_path), boot_id="boot-1")
    monkeypatch.setattr(node, "_libvirt", lambda: None)
    monkeypatch.setattr(_kvm_node._libvirt, "guests", lambda _host: guests)
    before = int(time.time())
    found = node.usage()
    assert before <= found["taken_at"] <= time.time()
    assert found["samples"] == [{"uuid": "u-1", "name": "g1", "mac": "m-1", "counter": "boot-1/7", "received": 100, "sent": 20}]
    assert len(found["gaps"]) == 1 and "m-2" in found["gaps"][0]


def test_without_libvirt_nothing_is_believed(tmp_path, monkeypatch):
    port(tmp_path, "vnet0", 7, 100, 20)
    node = _kvm_node.KvmNode(None, root=str(tmp_path), boot_id="boot-1")

    def down(_uri):
        raise NodeError("libvirt does not answer.", code="libvirt_down")

    monkeypatch.setattr(_kvm_node._libvirt, "connect", down)
    with pytest.raises(NodeError):
        node.usage()
