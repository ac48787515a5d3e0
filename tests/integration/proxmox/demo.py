# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story on a Proxmox VE cluster (``make demo BACKEND=proxmox``): every line printed is checked first. No root needed.

The cluster is the stand-in of tests/proxmox over real HTTPS: configuration, firewall files, power and tasks behave as on a
real server, but no packet flows. What packets do was observed once on the real firewall's code (docs/proxmox.md).
"""
from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path

from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import end_what_is_due
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._usage import read_usage
from ansible_collections.hosting.aup.plugins.plugin_utils._usage_requests import list_usage, meter
from tests.integration.netns import exit_of
from tests.integration.proxmox.provider import Provider, firewalled, guest, maker_token, provider, service
from tests.integration.proxmox.test_orders import IMAGES, ordered, refuses_port_25, template
from tests.proxmox.cluster import Cluster
from tests.proxmox.packets import Packet, verdict

NEW_VM, NEW_CT = 300, 303  # made by order
VM, CT, OWN = 100, 203, 101  # a virtual machine, a container, and one whose tenant has rules of his own
TENANT_RULE = {"type": "in", "action": "DROP", "proto": "tcp", "dport": "3306", "enable": 1, "comment": "no database from outside"}


def say(text: str) -> None:
    """A line of the story."""
    print("%s  %s" % (time.strftime("%H:%M:%S"), text), flush=True)


def done(result: dict, outcome: str = "changed") -> dict:
    """The result of a run that did what it should."""
    assert result["outcome"] == outcome and not result["errors"], (result["outcome"], result["errors"])
    return result


def port_25(house: Provider, vmid: int) -> list[str]:
    """The rules that refuse mail of a guest, as in its file and its group; nothing if they are not in force."""
    wall = house.cluster.firewall
    file = wall.guests[vmid]
    first = file.rules[0]
    assert file.options["enable"] == 1 and first["type"] == "group" and first["enable"] == 1
    rules = wall.cluster.groups[first["action"]]["rules"]
    for rule in rules:
        assert (rule["type"], rule["action"], rule["proto"], rule["dport"], rule["enable"]) == ("out", "REJECT", "tcp", "25", 1)
    smarthosts = ["192.0.2.200", "2001:db8:1::200"]
    for far in (*smarthosts, "192.0.2.199", "192.0.2.201", "2001:db8:1::1ff", "2001:db8:1::201", "198.51.100.1"):
        assert verdict(house.cluster, vmid, Packet("out", far)) == ("ACCEPT" if far in smarthosts else "REJECT")
    return [f"GROUP {first['action']}", f"OUT REJECT -p tcp -dport 25 -dest {rules[0]['dest']}, and {len(rules) - 1} ranges more",
            "together every address of both families except %s" % " and ".join(smarthosts)]


def first_release(house: Provider) -> None:
    """Provision: what changes, and what does not."""
    found = house.state()
    say(f"a stand-in for a cluster of two nodes: VM {VM}, VM {OWN} with a firewall of its tenant's own, CT {CT}; port 25 open")
    checked = house.provision(check=True)
    assert checked["changed"] and house.state() == found
    say("provision --check: %d steps on %d guests and the cluster, and nothing was written"
        % (len(checked["steps"]), len({step["vmid"] for step in checked["steps"] if step.get("vmid")})))
    began = time.monotonic()
    real = done(house.provision())
    assert [step["why"] for step in real["steps"]] == [step["why"] for step in checked["steps"]]
    say("provision did these %d steps in %.1f s, read all again, and recorded it" % (len(real["steps"]), time.monotonic() - began))
    for vmid in (VM, OWN, CT):
        lines = port_25(house, vmid)
        say(f"    {vmid}: {lines[0]}: {lines[1]}")
    say(f"    {lines[2]} (the smarthosts)")
    file = house.cluster.firewall.guests[OWN]
    assert file.rules[1:] == [TENANT_RULE] and file.options == {"enable": 1, "policy_in": "DROP"}
    say(f"    {OWN}: the tenant's rule and his policy_in DROP stand as they stood")
    done(house.provision(), "unchanged")
    say("    provision once more: nothing to do")


def held(house: Provider) -> dict:
    """Suspended and capped, undone by a tenant, put back."""
    before = house.state()
    done(house.enforce("suspend", f"vps-{VM}", f"vps-{CT}", case="T-4711"))
    machine, container = house.cluster.guests[VM], house.cluster.guests[CT]
    assert machine.paused and not container.running
    for one in (machine, container):
        assert one.config["onboot"] == "0" and "link_down=1" in one.config["net0"] and "aup-suspended" in one.config["tags"]
    say(f"vps-{VM} and vps-{CT} attack somebody: suspended for 48 h, case T-4711")
    say(f"    VM {VM} is paused, CT {CT} stopped; both: cable down, onboot=0, tag aup-suspended")
    done(house.enforce("bandwidth_cap", f"vps-{OWN}", case="T-4712", rate="10 Mbit/s"))
    net0 = house.cluster.guests[OWN].config["net0"]
    assert net0 == before["guests"][OWN]["config"]["net0"].replace("rate=12.5", "rate=1.1920928955")
    say(f"vps-{OWN} is capped at 10 Mbit/s: net0 {net0}")

    machine.paused, machine.config["net0"] = False, machine.config["net0"].replace(",link_down=1", "")
    house.cluster.firewall.guests[OWN].rules.pop(0)
    say(f"the tenant resumes VM {VM} and plugs its cable in; another takes our rule off VM {OWN}")
    again = done(house.again())
    assert machine.paused and "link_down=1" in machine.config["net0"] and port_25(house, OWN)
    for step in again["steps"]:
        say("    reconcile: %s" % step["why"])
    return before


def given_back(house: Provider, before: dict) -> None:
    """The time is over, and everything is what it was."""
    house.clock = itertools.count(int(time.time()) + 48 * 3600 + 60)
    due = house.write(end_what_is_due)
    assert sorted(one["service"] for one in due["enforcements"]) == sorted(f"vps-{n}" for n in (VM, OWN, CT))
    say(f"48 hours later (the clock is moved to {iso(next(house.clock))}) reconcile ends all three")
    done(house.converge(due["run_id"]))
    assert house.state() == before
    assert not any(house.statuses(f"vps-{vmid}") for vmid in (VM, OWN, CT))
    say("    power, NICs, rates, tags, rules: to the letter as before")


def ordered_guests(house: Provider) -> None:
    """Two services ordered: made, and what was in force when they were started."""
    house.node.update(bridges=["vmbr1"], creation={"images": IMAGES, "resolvers": ["192.0.2.53"], "storage": {
        "fast": {"storage": "local-lvm", "node": "pve1", "overcommit": False}}})
    house.services.update({f"vps-{vmid}": ordered(vmid, image) for vmid, image in ((NEW_VM, "debian-12"), (NEW_CT, "container"))})
    found, since = house.state(), len(house.api.seen)
    checked = house.provision(check=True)
    assert checked["creating"] == [f"vps-{NEW_VM}", f"vps-{NEW_CT}"] and house.state() == found
    say(f"vps-{NEW_VM} and vps-{NEW_CT} are ordered; provision --check: {len(checked['steps'])} steps, nothing was written (their 15 s before the start are left out)")
    real = done(house.provision())
    assert real["plan_hash"] == checked["plan_hash"] and [step["why"] for step in real["steps"]] == [step["why"] for step in checked["steps"]]
    calls = [(method, path) for _at, method, path in house.api.seen[since:]]
    for vmid in (NEW_VM, NEW_CT):
        made = house.cluster.guests[vmid]
        refuses_port_25(house, vmid)  # as its firewall was when it was started
        source = f"/{made.kind}/{9000 if made.kind == 'qemu' else 9001}/clone"
        mine = [(method, path) for method, path in calls if f"/{vmid}/" in path or path.endswith(source)]
        writes = [number for number, (method, _path) in enumerate(mine) if method != "GET"]
        walls = [number for number in writes if "/firewall/" in mine[number][1]]
        start = next(number for number in writes if mine[number][1].endswith("/status/start"))
        read_back = [number for number in range(walls[-1], start) if mine[number] == ("GET", mine[start][1].replace("status/start", "firewall/rules"))]
        assert start == writes[-1] and read_back and made.running and made.starts == 1 and mine[writes[0]][1].endswith(source)
        words = [mine[number][1].rpartition(f"/{vmid}/")[2] if f"/{vmid}/" in mine[number][1] else "clone" for number in writes]
        say("    %s %d: %s" % (made.label, vmid, ", ".join(dict.fromkeys(words))))
        say("        its rules were there and read back before the start: port 25 refused, bound to its MAC and addresses")
    done(house.provision(), "unchanged")


def usage(house: Provider) -> None:
    """What the guests have received and sent."""
    carried = {VM: (3 * 10**9, 10**9), NEW_VM: (2 * 10**9, 5 * 10**8)}
    for age in (600, 900):
        since, now = len(house.api.seen), next(house.clock)
        for vmid in carried:
            house.cluster.guests[vmid].started = time.time() - age
        seen = read_usage(house.client(), now)
        assert [path for _at, _method, path in house.api.seen[since:]] == ["/cluster/resources"]
        with house.ledger.transaction(actor="timer", now=now) as tx:
            meter(tx, {"pve": seen}, ["pve"])
        house.clock = itertools.count(now + 300)
        for vmid, (received, sent) in carried.items():
            house.cluster.guests[vmid].netin, house.cluster.guests[vmid].netout = received, sent
    told = []
    for vmid in (VM, NEW_VM):
        with house.ledger.read() as tx:
            (window,) = list_usage(tx, f"vps-{vmid}")["windows"]
        told.append("vps-%d %.1f GB in, %.1f GB out" % (vmid, window["received"] / 10**9, window["sent"] / 10**9))
    assert told == [f"vps-{VM} 3.0 GB in, 1.0 GB out", f"vps-{NEW_VM} 2.0 GB in, 0.5 GB out"], told
    say("meter reads all guests with one call; five minutes later: %s" % "; ".join(told))


def main() -> int:
    """Start the stand-in, tell the story, end it."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.05, lock_timeout=2))
        cluster.add(guest(VM))
        cluster.add(guest(OWN, node="pve2", net0="virtio=BC:24:11:00:00:65,bridge=vmbr0,firewall=1,queues=4,rate=12.5"))
        cluster.add(guest(CT, "lxc", node="pve2"))
        cluster.add(template())
        cluster.add(template(9001, "lxc"))
        own = cluster.firewall.of_guest(OWN, "qemu")
        own.options.update(enable=1, policy_in="DROP")
        own.rules.append(dict(TENANT_RULE))
        with provider(Path(folder), cluster, grant=maker_token()) as house:
            house.services = {one["id"]: one for one in (service(VM), service(OWN), service(CT, "lxc"))}
            found = house.state()
            first_release(house)
            given_back(house, held(house))
            ordered_guests(house)
            usage(house)
            run = house.write(lambda tx: tx.start_run("retire"))
            done(house.converge(run, absent=True))
            for vmid in (NEW_VM, NEW_CT):
                made = house.cluster.guests.pop(vmid)
                assert made.running and house.cluster.firewall.guests.pop(vmid).render() == ""
            assert house.state() == found
            say(f"retire: guests {NEW_VM} and {NEW_CT} go on as their customers'; all else is to the letter as it was found")
    return 0


if __name__ == "__main__":
    sys.exit(exit_of(main))
