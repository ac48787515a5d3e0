# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An order becomes a running guest, its rules in force before its first packet, whatever is killed in between."""

from __future__ import annotations

import hashlib
import json
import urllib.request

import pytest

from . import plan
from .process import run
from .spine import Spine, catalogue, until, write_catalogue

ORDERED, BROKEN = "vps-1060", "vps-1061"
IPV4, IPV6, MAC = "192.0.2.60", "2001:db8:1::60", "52:54:00:aa:30:01"
SECRET = "correct-horse-battery-staple"
RATE = 40_000_000
BASE = "/var/lib/libvirt/images/base"
COUNT = """
table inet early {
    counter mail { }
    counter submission { }
    chain seen {
        type filter hook prerouting priority -300; policy accept;
        ip saddr %(v4)s tcp dport 25 counter name mail
        ip6 saddr %(v6)s tcp dport 25 counter name mail
        ip saddr %(v4)s tcp dport 587 counter name submission
        ip6 saddr %(v6)s tcp dport 587 counter name submission
    }
}
""" % {"v4": IPV4, "v6": IPV6}
EARLY = [f"aup.early={address},{port}" for address in plan.SINK for port in (25, 587)]
USER_DATA = f"""#!/bin/sh
# lab: aup.name={ORDERED} aup.nic=eth0,{IPV4}/25,{plan.GATEWAYS[0]},{IPV6}/64,{plan.GATEWAYS[1]} {' '.join(EARLY)}
echo root:{SECRET} | chpasswd
"""


def ordered(spine: Spine, broken: bool) -> dict:
    """The lab's catalogue with one good order, and beside it one whose image is nowhere."""
    document = catalogue(spine.lab.nodes, generated="2026-11-02T00:00:00Z")
    document["nodes"][spine.node.name]["creation"] = {
        "image_directory": "/var/lib/libvirt", "guest_type": "qemu", "storage": {"local": {"directory": "/var/lib/libvirt/images"}},
        "images": {name: {
            "path": f"{BASE}/{name}.qcow2", "format": "qcow2", "kernel": "/var/lib/libvirt/boot/vmlinuz",
            "initrd": "/var/lib/libvirt/boot/initrd.img",
            "command_line": "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check mitigations=off"} for name in ("lab", "gone")}}
    for number, (name, image) in enumerate([(ORDERED, "lab"), (BROKEN, "gone")][:2 if broken else 1]):
        mac = MAC if name == ORDERED else "52:54:00:aa:30:02"
        document["services"].append({
            "id": name, "customer": "c-60", "account_type": "personal", "node": spine.node.name, "guest": name,
            "nics": [{"mac": mac, "addresses": [IPV4, IPV6] if not number else ["192.0.2.61"]}],
            "order": {"create": True, "vcpus": 1, "memory_bytes": 96 << 20, "rate_bit_per_second": RATE,
                      "disk": {"size_bytes": 16 << 20, "image": image, "storage": "local"},
                      "nics": [{"mac": mac, "bridge": plan.BRIDGE, "subnets": ["192.0.2.0/25", "2001:db8:1::/64"],
                                "gateways": list(plan.GATEWAYS)}],
                      "cloud_init": {"hostname": "mail-60", "user_data": "60.txt"}}})
    return document


@pytest.fixture
def house(spine):
    """The provisioned lab with an image and the customer's user data; nothing ordered stays behind."""
    spine.node.run(["mkdir", "-p", BASE])
    spine.node.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{BASE}/lab.qcow2", "8M"])
    folder = spine.controller.state / "user-data"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "60.txt").write_text(USER_DATA)
    outside(spine, ["nft", "-f", "-"], text_in=COUNT)
    yield spine
    outside(spine, ["nft", "delete", "table", "inet", "early"])
    for verb in ("destroy", "undefine"):
        spine.node.run(["virsh", "-q", verb, ORDERED], check=False)


def outside(spine: Spine, command: list[str], **options):
    return run([*spine.lab.internet.namespace.enter, *command], **options)


def provision(spine: Spine, **more):
    return spine.play("provision", {"aup_user_data_directory": str(spine.controller.state / "user-data")}, **more)


def counted(spine: Spine) -> dict:
    """What the node has counted, by service."""
    (seen,) = spine.play("explain", {"service": ORDERED}).ok().of("kvm_info")
    return seen["counters"]


def seen_outside(spine: Spine) -> tuple[int, int]:
    """Packets to port 25 and 587 from the ordered guest that came out."""
    listing = json.loads(outside(spine, ["nft", "-j", "list", "counters", "table", "inet", "early"]).stdout)
    counters = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listing["nftables"] if "counter" in entry}
    return counters["mail"], counters["submission"]


def verbs(done, service=ORDERED):
    return [step["verb"] for step in done.converged["steps"] if step["service"] == service and step["engine"] == "create"]


def fetched(spine: Spine, name: str) -> str:
    """What the guest itself reads in its seed, told on its web page."""
    def get() -> str:
        with urllib.request.urlopen(f"http://{IPV4}/{name}", timeout=5) as answer:
            return answer.read().decode()
    return spine.lab.internet.namespace.call(get)


def test_an_order_becomes_a_guest_under_policy(house):
    spine = house
    write_catalogue(spine, ordered(spine, broken=True))
    before = spine.everything()
    checked = provision(spine, check=True)
    spine.assert_untouched(before)
    assert verbs(checked) == ["disk", "seed", "define", "start"] and not verbs(checked, BROKEN)
    assert [(e["service"], e["code"]) for e in checked.converged["errors"]] == [(BROKEN, "image_missing")]

    # Killed on the node when all is made and the guest's processors are about to be let go: its rules are there already.
    (tap,) = [nic.split()[2] for step in checked.converged["steps"] if step["verb"] == "define" for nic in step["after"]["nics"]]
    assert tap not in spine.rules()
    with spine.killed_at("_libvirt_create.py:set_running:1"):
        assert provision(spine).returncode
    assert spine.node.run(["virsh", "-q", "domstate", ORDERED]).stdout.strip() == "paused"
    assert {"known_ports", "smtp_enforce"} <= {name for name, text in sets(spine).items() if tap in text}
    disk = spine.node.path(f"/var/lib/libvirt/images/aup-{ORDERED}.qcow2")
    made = disk.stat().st_ino
    done = provision(spine, arguments=("--diff", "-vvv"))
    assert verbs(done) == ["start"] and {e["service"] for e in done.converged["errors"]} == {BROKEN}
    assert disk.stat().st_ino == made
    assert until(lambda: spine.lab.internet.tcp(IPV4, 80) == "open", 60)

    # It tried port 25 from the start, and submission too; only the latter was ever seen outside.
    assert until(lambda: seen_outside(spine)[1] > 20, 30) and seen_outside(spine)[0] == 0
    # Each try takes its second to fail.
    assert until(lambda: counted(spine)[ORDERED]["smtp_outbound_refused"]["packets"] > 20, 60)
    # Under nobody are only the node's own counts, such as which limit of new connections was reached.
    unknown = counted(spine).get("unknown", {})
    assert not any(counter["packets"] for name, counter in unknown.items() if name.startswith("smtp_outbound")), unknown

    # What it was told: its name, its addresses, the house's rules, and the customer's own text byte by byte.
    assert json.loads(fetched(spine, "seed/meta-data"))["local-hostname"] == "mail-60"
    (nic,) = json.loads(fetched(spine, "seed/network-config"))["ethernets"].values()
    assert nic["match"] == {"macaddress": MAC} and set(nic["addresses"]) == {f"{IPV4}/25", f"{IPV6}/64"}
    assert "hosting-aup.json" in fetched(spine, "seed/vendor-data")
    assert hashlib.sha256(fetched(spine, "seed/user-data").encode()).digest() == hashlib.sha256(USER_DATA.encode()).digest()
    secrets = [said.said for said in (checked, done)] + [path.read_bytes().decode("latin-1") for path in (
        *spine.ledger_file.parent.glob("*"), *spine.node.path("/var/lib/hosting_aup").glob("*"))]
    assert not any(SECRET in text for text in secrets)

    # On record once, born under policy; found as it is by the next run; an order in a release makes nothing by itself.
    write_catalogue(spine, ordered(spine, broken=False))
    again = provision(spine).ok()
    assert again.converged["steps"] == [] and again.printed.changed == 1  # the release: the broken order left it
    assert spine.rows("select adopted_at from aup_adoption where service = ?", ORDERED) == [(None,)]
    (refs,) = [json.loads(row[0]) for row in spine.rows("select refs from aup_event where kind = 'service_created'")]
    assert (refs["service"], refs["node"], refs["image"]) == (ORDERED, spine.node.name, "lab") and refs["created_at"]
    shaped = spine.node.run(["tc", "class", "show", "dev", shaper(spine)]).stdout
    assert "rate 40Mbit" in shaped

    # A service like any other: suspended, given back, and its plan's rate kept through it.
    spine.suspend(ORDERED, "T-60").ok()
    assert not spine.lab.internet.ping(IPV4, 1)
    spine.lift(ORDERED).ok()
    assert until(lambda: spine.lab.internet.tcp(IPV4, 80) == "open", 30)
    assert spine.play("reconcile").ok().converged["steps"] == []

    # Gone on purpose or moved: it is said, and not made a second time.
    for verb in ("destroy", "undefine"):
        spine.node.run(["virsh", "-q", verb, ORDERED])
    gone = provision(spine).ok()
    assert not verbs(gone) and any("not made again" in note for note in gone.converged["notes"])
    assert disk.stat().st_ino == made


def sets(spine: Spine) -> dict[str, str]:
    """The sets of our bridge table, by name."""
    listing = json.loads(spine.node.run(["nft", "-j", "list", "table", "bridge", "hosting_aup"]).stdout)["nftables"]
    return {entry["set"]["name"]: json.dumps(entry["set"].get("elem", [])) for entry in listing if "set" in entry}


def shaper(spine: Spine) -> str:
    """The device that keeps the plan's rate towards the guest."""
    links = spine.node.run(["ip", "-br", "link", "show", "type", "ifb"]).stdout.split()
    return next(name for name in links if name.startswith("aup") and name.endswith("t"))
