# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One null route, IPv4 and IPv6, on many Linux routers at ten forks: hosting.aup.null_route, beside a loop of command modules.

Each router is a network namespace behind one sshd. The loop is a playbook with one local module per router that logs in
with netmiko, enters the two lines and reads them back: what a team without this collection writes. It keeps no record,
refuses nothing and knows no end. Both are whole runs of ansible-playbook, start and summary included.

    python tests/benchmarks/bench_routers.py [routers [forks]]
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import line

from tests.integration.netns import Net, leave_on_signals
from tests.integration.routers.router_lab import Sshd

COLLECTIONS = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or os.environ["PYTHONPATH"].split(":")[0]
ADDRESSES = ("203.0.113.10", "2001:db8:100::10")
LOGIN = """n=${SSH_CONNECTION% *}; n=${n##*.}
exec ip netns exec PREFIX$n /bin/sh -c "${SSH_ORIGINAL_COMMAND:-exec env PS1='edge# ' /bin/sh -i}"
"""
MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
from netmiko import ConnectHandler


def main():
    module = AnsibleModule({name: {"type": "str"} for name in ("host", "port", "key", "known_hosts")} | {"lines": {"type": "list"}})
    p = module.params
    with ConnectHandler(device_type="linux", host=p["host"], port=int(p["port"]), username="root", use_keys=True, key_file=p["key"],
                        ssh_strict=True, alt_host_keys=True, alt_key_file=p["known_hosts"], read_timeout_override=60) as device:
        for line in p["lines"]:
            said = device.send_command(line)
            if said.strip():
                module.fail_json(msg=said)
        shown = device.send_command("ip route show type blackhole") + device.send_command("ip -6 route show type blackhole")
    if shown.count("blackhole") != len(p["lines"]):
        module.fail_json(msg=shown)
    module.exit_json(changed=True)


main()
"""


def play(folder, forks, *arguments):
    """Seconds of one ansible-playbook; its output when it failed ends the benchmark."""
    began = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "hosts.aup.yml"), "-f", str(forks), *arguments],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=folder,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS, "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_LIBRARY": str(folder),
             "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_HOST_KEY_CHECKING": "true", "SUDO_USER": "alice"})
    spent = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[:3000])
    return spent


PER_DAEMON = 10  # sshd listens on 16 addresses at most


def provider(folder, daemons, names):
    """Catalogue, inventory, the module and its playbook."""
    (folder / "host_vars").mkdir()
    for number, name in enumerate(names):
        sshd = daemons[number // PER_DAEMON]
        (folder / "host_vars" / (name + ".json")).write_text(json.dumps({
            "ansible_port": sshd.port, "ansible_ssh_private_key_file": str(sshd.key), "aup_known_hosts": str(sshd.known_hosts)}))
    (folder / "catalogue.json").write_text(json.dumps({
        "prefixes": ["203.0.113.0/24", "2001:db8:100::/48"],
        "nodes": {name: {"backend": "router", "location": "main", "address": "127.0.1.%d" % number, "router": {"platform": "linux"}}
                  for number, name in enumerate(names)},
        "services": [{"id": "srv-a", "customer": "c-1", "account_type": "personal", "ports": [{"router": names[0], "interface": "e-a"}],
                      "nics": [{"mac": "52:54:00:00:01:01", "addresses": list(ADDRESSES)}]}]}))
    (folder / "hosts.aup.yml").write_text(json.dumps({
        "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": "default", "ledger_url": "sqlite:///ledger.db",
        "connection_defaults": {"ansible_user": "root", "ansible_become": False}}))
    (folder / "netmiko_lines.py").write_text(MODULE)
    for name, verb in (("loop.yml", "add"), ("clean.yml", "del")):
        (folder / name).write_text(json.dumps([{"hosts": "aup_routers", "gather_facts": False, "connection": "local", "tasks": [{
            "netmiko_lines": {
                "host": "{{ ansible_host }}", "port": "{{ ansible_port }}", "key": "{{ ansible_ssh_private_key_file }}",
                "known_hosts": "{{ aup_known_hosts }}",
                "lines": ["ip route %s blackhole %s" % (verb, ADDRESSES[0]), "ip -6 route %s blackhole %s" % (verb, ADDRESSES[1])]},
            "vars": {"ansible_python_interpreter": sys.executable}}]}]))


def dark(net, names):
    """How many of the routers have both null routes."""
    return sum(net[name].check("ip %s route show type blackhole" % family).count("blackhole")
               for name in names for family in ("-4", "-6")) // 2


def main():
    """Measure and print."""
    count, forks = (int(sys.argv[1]) if len(sys.argv) > 1 else 50), (int(sys.argv[2]) if len(sys.argv) > 2 else 10)
    names = ["r%d" % number for number in range(count)]
    with Net() as net, tempfile.TemporaryDirectory(prefix="auprs") as folder:
        folder = Path(folder)
        spaces = [net.add(name) for name in names]
        spaces[0].ip("link add e-a type veth peer name e-b", "link set e-a up")
        prefix = spaces[0].name[:-2]  # without its `r0`
        daemons = []
        try:
            for first in range(0, count, PER_DAEMON):
                daemons.append(Sshd(folder, LOGIN.replace("PREFIX", prefix + "r"), "sshd%d" % first, [
                    "127.0.1.%d" % number for number in range(first, min(count, first + PER_DAEMON))]))
            provider(folder, daemons, names)
            set_up = play(folder, forks, "hosting.aup.provision", "-e", '{"aup_batches": ["100%"]}')
            ours = play(folder, forks, "hosting.aup.null_route", "-e", "service=srv-a", "-e", "violation=attack_target", "-e", "duration=1h",
                        "-e", "case=T-1")
            reached = dark(net, names)
            again = play(folder, forks, "hosting.aup.reconcile")
            play(folder, forks, "hosting.aup.lift", "-e", "service=srv-a", "-e", "note=over")
            left = dark(net, names)
            loop = play(folder, forks, str(folder / "loop.yml"))
            reached = min(reached, dark(net, names))
        finally:
            for daemon in daemons:
                daemon.stop()
    if reached != count or left:
        raise SystemExit("%d of %d routers had the null routes, %d kept them" % (reached, count, left))
    print(line("%d routers, %d forks: released to all" % (count, forks), "%.1f s" % set_up))
    print(line("%d routers, %d forks: a null route on all, verified, on record" % (count, forks), "%.1f s" % ours))
    print(line("%d routers, %d forks: an unchanged reconcile" % (count, forks), "%.1f s" % again))
    print(line("... a loop of command modules over netmiko", "%.1f s" % loop))
    print(line("a null route on %d routers beside a loop of command modules" % count, "%.2f x" % (ours / loop)))


if __name__ == "__main__":
    leave_on_signals()
    main()
