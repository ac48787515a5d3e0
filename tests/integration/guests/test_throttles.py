# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates of real disks and quotas of real guests through libvirt, set and given back exactly."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.module_utils import _hold, _limits
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt

libvirt = pytest.importorskip("libvirt")

DOMAIN = """<domain type='qemu'><name>aup-throttled</name><memory unit='MiB'>32</memory><vcpu>2</vcpu>%s
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/run/one.img'/><target dev='vda' bus='virtio'/>
%s</disk><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/run/two.img'/><target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk><serial type='null'/></devices></domain>"""
PLANS = {
    "no plan": "",
    "a total with a burst": "<iotune><total_bytes_sec>40000000</total_bytes_sec><total_bytes_sec_max>80000000</total_bytes_sec_max>"
                            "<total_bytes_sec_max_length>7</total_bytes_sec_max_length></iotune>",
    "reading and writing apart": "<iotune><read_bytes_sec>300000</read_bytes_sec><write_bytes_sec>90000000</write_bytes_sec>"
                                 "<total_iops_sec>20</total_iops_sec></iotune>",
}
IO = {"io_throttle": {"iops": 50, "bytes_per_second": 1_000_000, "enforcement_ids": ["E-1"]}}
WANTED = {
    "no plan": {"total_bytes_sec": 1_000_000, "total_iops_sec": 50},
    "a total with a burst": {"total_bytes_sec": 1_000_000, "total_iops_sec": 50},
    "reading and writing apart": {"read_bytes_sec": 300_000, "write_bytes_sec": 500_000, "total_iops_sec": 20},
}


@pytest.fixture(scope="module")
def images(node):
    for name in ("one", "two"):
        node.run("truncate", "-s", "1M", "/run/%s.img" % name)


@pytest.fixture(params=sorted(PLANS))
def domain(request, images, host):
    made = host.connection.defineXML(DOMAIN % ("", PLANS[request.param]))
    made.create()
    made.plan = request.param
    yield made
    if made.isActive():
        made.destroy()
    made.undefine()


def iotune(domain, flag, target="vda"):
    return {name: value for name, value in domain.blockIoTune(target, flag).items()
            if value and name in _libvirt.IOTUNE and not name.endswith("_length")}


def converge(host, domain, limits, fields, touched):
    service = {"id": "s", "limits": limits}
    steps, errors = _limits.plan(service, _libvirt.detail(host, domain.UUIDString()), fields, touched)
    assert not errors
    touched = _limits.record(touched, steps)
    for step in steps:
        assert _libvirt.apply_step(host, step)
    assert _limits.plan(service, _libvirt.detail(host, domain.UUIDString()), fields, touched) == ([], [])
    return steps, touched


def test_disks_are_throttled_live_and_in_the_configuration_and_given_back(host, domain):
    before = domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    fields = _limits.capture(_libvirt.detail(host, domain.UUIDString()))
    steps, touched = converge(host, domain, IO, fields, _hold.untouched())
    assert {(step["target"], step["scope"]) for step in steps} == {(t, s) for t in ("vda", "vdb") for s in _limits.SCOPES}
    for flag in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
        assert iotune(domain, flag) == WANTED[domain.plan]
        assert iotune(domain, flag, "vdb") == WANTED["no plan"]
    domain.destroy()
    domain.create()
    assert iotune(domain, libvirt.VIR_DOMAIN_AFFECT_LIVE) == WANTED[domain.plan]
    converge(host, domain, {}, fields, touched)
    seen = _libvirt.detail(host, domain.UUIDString())["disks"]
    assert {target: disk["config"] for target, disk in seen.items()} == {t: d["config"] for t, d in fields["disks"].items()}
    assert {target: disk["live"] for target, disk in seen.items()} == {t: d["live"] for t, d in fields["disks"].items()}
    assert domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before[1]


def test_the_panels_new_rate_is_tightened_and_is_what_comes_back(host, domain):
    fields = _limits.capture(_libvirt.detail(host, domain.UUIDString()))
    _steps, touched = converge(host, domain, IO, fields, _hold.untouched())
    for flag in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
        domain.setBlockIoTune("vdb", {"total_bytes_sec": 5_000_000}, flag)
    _steps, touched = converge(host, domain, IO, fields, touched)
    assert iotune(domain, libvirt.VIR_DOMAIN_AFFECT_LIVE, "vdb")["total_bytes_sec"] == 1_000_000
    converge(host, domain, {}, fields, touched)
    assert iotune(domain, libvirt.VIR_DOMAIN_AFFECT_CONFIG, "vdb")["total_bytes_sec"] == 5_000_000


def test_a_quota_in_the_configuration_comes_and_goes_without_a_trace(host, domain):
    domain.destroy()  # this node's guests have no control groups: live quotas are tested in the lab
    before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    fields = _limits.capture(_libvirt.detail(host, domain.UUIDString()))
    touched = _hold.untouched()
    for terms, quota in (({"percent": 20}, 40000), ({"percent": None, "millicores": 500}, 50000), ({"percent": 10, "millicores": 500}, 20000)):
        _steps, touched = converge(host, domain, {"cpu_throttle": {**terms, "enforcement_ids": ["E-1"]}}, fields, touched)
        assert domain.schedulerParametersFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG)["global_quota"] == quota
    converge(host, domain, {}, fields, touched)
    assert domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before
