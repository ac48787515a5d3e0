# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: what it shows must be so, and it must leave nothing behind however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import plan
from .controller import CHECKOUT, offset_seconds
from .lab import LABS, Lab, machine_network, sweep
from .namespace import PREFIX
from .node import cgroup_mounts
from .process import LabError
from .table import compare, render

# A lab of its own in a process of its own, for tests of its end.
_HOLD = "from tests.lab.lab import Lab\nimport time\nwith Lab() as lab:\n    print('up', flush=True)\n    time.sleep(300)\n"


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_without_policy_every_guest_reaches_everything_and_is_reached(lab):
    table = lab.reach_table()
    assert set(table) == {"vps-1001", "vps-1002", "vps-1003"}
    assert {(name, column): word for name, row in table.items() for column, word in row.items() if word != "open"} == {}
    assert set(next(iter(table.values()))) >= {"smtp 25", "smtp 25/6", "submit 587", "submit 587/6", "web 80", "web 80/6"}


def test_a_closed_port_is_refused_and_no_host_is_a_timeout(lab):
    guest = lab.guest("vps-1001")
    assert guest.tcp_all([(plan.SINK[0], 81), (plan.SINK[1], 81)]) == ["refused", "refused"]
    assert guest.tcp("192.0.2.99", 80) in ("timeout", "unreachable")
    assert lab.internet.tcp(guest.plan.ipv4, 81) == "refused"


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_rule_on_the_node_is_seen_by_the_guest_and_by_no_other(lab, family):
    """The probe can fail: a drop on the bridge shows, in that family only, and only until it is gone."""
    node, guest = lab.nodes[0], lab.guest("vps-1002")
    sinks = [(plan.SINK[0], 25), (plan.SINK[1], 25)]
    node.run(["nft", "-f", "-"], text_in=(
        "table bridge probe { chain c { type filter hook forward priority 0;"
        f' iifname "{guest.tap}" meta protocol {family} tcp dport 25 drop; }}; }}'))
    try:
        blocked = 0 if family == "ip" else 1
        assert guest.tcp_all(sinks) == ["timeout" if place == blocked else "open" for place in (0, 1)]
        assert lab.guest("vps-1001").tcp_all(sinks) == ["open", "open"]
    finally:
        node.run(["nft", "delete", "table", "bridge", "probe"])
    assert guest.tcp_all(sinks) == ["open", "open"]


def test_mail_arrives_with_its_senders_address(lab):
    for name, place in (("vps-1001", 0), ("vps-1002", 1), ("vps-1003", 0)):
        assert lab.guest(name).mail(plan.SINK[place], subject=f"from-{name}").startswith("accepted")
        message = lab.messages[-1]
        assert message.peer == lab.guest(name).plan.addresses[place]
        assert (message.address, message.port) == (plan.SINK[place], 25)
        assert f"Subject: from-{name}" in message.text


def test_taps_are_named_as_the_plan_says(lab):
    assert lab.guest("vps-1001").tap == "tap1001"
    assert lab.guest("vps-1002").tap.startswith("vnet")
    links = lab.nodes[0].namespace.ip("-o link show master br0")
    assert "tap1001" in links and lab.guest("vps-1002").tap in links and "eth1" in links
    assert lab.guest("vps-1003").tap not in links


def test_a_paused_guest_is_silent_and_goes_on_where_it_stood(lab):
    guest = lab.guest("vps-1001")
    assert guest.open("kept", plan.SINK[1], 25).startswith("open 220")
    before = guest.uptime()
    guest.virsh("suspend")
    assert guest.state == "paused"
    assert not guest.responds()
    assert not lab.internet.ping(guest.plan.ipv4)
    assert lab.guest("vps-1002").responds()
    time.sleep(2)
    guest.virsh("resume")
    after = guest.uptime()
    assert after.boot_id == before.boot_id
    assert 0 <= after.seconds - before.seconds < 2
    assert guest.say("kept").startswith("answer 250")
    assert guest.say("kept", "QUIT").startswith("answer 221")


def test_a_rebooted_guest_is_another_boot(lab):
    guest = lab.guest("vps-1001")
    before = guest.uptime()
    guest.virsh("destroy")
    guest.start()
    guest.await_boot()
    after = guest.uptime()
    assert after.boot_id != before.boot_id
    assert guest.tap == "tap1001"


def test_the_power_button_is_obeyed_by_one_and_ignored_by_another(lab):
    obedient, deaf = lab.guest("vps-1003"), lab.guest("vps-1002")
    for guest in (obedient, deaf):
        guest.virsh("shutdown")
    limit = time.monotonic() + 20
    while obedient.state != "shut off" and time.monotonic() < limit:
        time.sleep(0.2)
    assert obedient.state == "shut off"
    assert deaf.state == "running" and deaf.responds()
    obedient.start()
    obedient.await_boot()
    assert obedient.tcp_all([(plan.SINK[0], 25), (plan.SINK[1], 25)]) == ["open", "open"]


# -- the node and the controller ----------------------------------------------------------------------------------------

_FACTS = """
- hosts: aup_kvm_nodes
  gather_facts: false
  tasks:
    - ansible.builtin.command: id -un
      register: become
    - ansible.builtin.raw: echo "$SUDO_USER $(hostname)"
      register: login
    - ansible.builtin.command: /usr/bin/python3 -c 'import sys, libvirt; print(sys.executable)'
      register: python
    - ansible.builtin.command: date +%s
      register: clock
    - ansible.builtin.debug:
        msg: "SAW {{ become.stdout }} {{ login.stdout | trim }} {{ python.stdout }} {{ clock.stdout }} {{ lookup('pipe', 'date +%s') }} {{ now().timestamp() | int }}"
"""


def _facts(lab: Lab, tmp_path: Path, **options) -> list[str]:
    book = tmp_path / "facts.yml"
    book.write_text(_FACTS)
    done = lab.ansible_playbook(str(book), **options).must_succeed()
    return done.stdout.partition("SAW ")[2].partition('"')[0].split()


def test_ansible_comes_by_ssh_and_sudo_to_the_distributions_python(lab, tmp_path):
    user, login, host, python, *_ = _facts(lab, tmp_path)
    assert (user, login, host, python) == ("root", "aup", "kvm1", "/usr/bin/python3")


def test_the_clock_moves_for_the_controller_only(lab, tmp_path):
    *_, node, shell, ansible = _facts(lab, tmp_path, at="+49h")
    assert abs(int(node) - time.time()) < 60
    for moved in (shell, ansible):
        assert abs(int(moved) - time.time() - 49 * 3600) < 60


def test_a_changed_host_key_is_not_accepted(lab, tmp_path):
    known = lab.controller.state / "known_hosts"
    right = known.read_text()
    other = (lab.controller.state / "id.pub").read_text().split()[1]
    known.write_text(f"{lab.nodes[0].plan.management} ssh-ed25519 {other}\n")
    try:
        # A connection that is already open would be used again.
        done = lab.controller.run(["ansible", "-i", str(lab.controller.inventory), "kvm1", "-m", "raw", "-a", "true"],
                                  env={"ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none"})
        assert done.returncode
        assert "host key" in (done.stdout + done.stderr).lower()
    finally:
        known.write_text(right)


def test_a_node_cannot_write_to_the_machine(lab):
    node = lab.nodes[0]
    for place in ("/usr", "/opt", "/var/lib/dpkg"):
        assert node.run(["touch", f"{place}/aup-lab-probe"], check=False).returncode
    for place in ("/etc", "/run", "/root", "/tmp", "/var/lib/hosting_aup"):
        node.run(["touch", f"{place}/aup-lab-probe"])
        assert node.path(f"{place}/aup-lab-probe").exists()
        assert not Path(place, "aup-lab-probe").exists()


def test_libvirtd_can_be_stopped_while_guests_run_on(lab):
    node = lab.nodes[0]
    node.stop_libvirtd()
    try:
        assert node.run(["virsh", "list"], check=False).returncode
        assert lab.guest("vps-1002").responds()
    finally:
        node.start_libvirtd()
    assert lab.guest("vps-1002").state == "running"


def test_a_node_that_reboots_keeps_its_disk_and_loses_what_ran(lab):
    node = lab.nodes[0]
    node.run(["nft", "add", "table", "bridge", "probe"])
    node.run(["sh", "-c", "echo kept >/var/lib/hosting_aup/probe; echo lost >/run/probe"])
    lab.guest("vps-1001").virsh("autostart")
    node.reboot()
    assert node.path("/var/lib/hosting_aup/probe").read_text() == "kept\n"
    assert not node.path("/run/probe").exists()
    assert node.run(["nft", "list", "ruleset"]).stdout == ""
    assert lab.guest("vps-1001").state == "running"
    assert lab.guest("vps-1002").state == "shut off"
    lab.guest("vps-1001").await_boot()
    assert lab.guest("vps-1001").tcp(plan.SINK[1], 25) == "open"


# -- its end ------------------------------------------------------------------------------------------------------------


class Footprint:
    """What one lab has on this machine: namespaces, directories, control groups, and all processes in them."""

    def __init__(self, identity: str):
        self.identity = identity
        self.network = machine_network()
        self.inodes: set[int] = set()

    def look(self) -> None:
        """Learn the lab's network namespaces while it has them: its processes are known by those."""
        self.inodes |= {path.stat().st_ino for path in Path("/run/netns").glob(f"{PREFIX}-{self.identity}-*")}
        assert self.inodes

    def processes(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "ns/net").stat().st_ino in self.inodes:
                        found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()[:80]!r}")
                except OSError:
                    continue
        return found

    def remains(self) -> list[str]:
        places = ["/run/netns", "/tmp", *(place for _, place, _ in cgroup_mounts())]
        found = [str(path) for place in places for path in Path(place).glob(f"{PREFIX}-{self.identity}-*")]
        return sorted(found + [str(path) for path in LABS.glob(self.identity)])

    def assert_gone(self) -> None:
        assert self.inodes, "the test never looked while the lab was up"
        self.assert_no_process()
        assert self.remains() == []
        assert machine_network() == self.network

    def assert_no_process(self) -> None:
        # The kernel ends what was in a killed lab; give it a moment.
        limit = time.monotonic() + 5
        while self.processes() and time.monotonic() < limit:
            time.sleep(0.1)
        assert self.processes() == []


@pytest.mark.usefixtures("can_run_labs")
def test_two_nodes_share_a_network_and_leave_nothing():
    lab = Lab(nodes=2)
    footprint = Footprint(lab.identity)
    with lab:
        footprint.look()
        assert len(footprint.processes()) > 8
        assert [node.name for node in lab.nodes] == ["kvm1", "kvm2"]
        other = lab.guest("vps-1004")
        assert other.node.name == "kvm2"
        assert lab.guest("vps-1001").tcp_all([(address, 80) for address in other.plan.addresses]) == ["open", "open"]
        done = lab.controller.run(["ansible", "-i", str(lab.inventory()), "aup_kvm_nodes", "-m", "ansible.builtin.ping"])
        assert done.stdout.count("pong") == 2, done.stdout + done.stderr
    footprint.assert_gone()


@pytest.mark.usefixtures("can_run_labs")
def test_an_error_inside_clears_everything_away():
    lab = Lab()
    footprint = Footprint(lab.identity)
    with pytest.raises(ZeroDivisionError):
        with lab:
            footprint.look()
            lab.guest("vps-1001").open("kept", plan.SINK[0], 25)
            _ = 1 / 0
    footprint.assert_gone()


@pytest.mark.usefixtures("can_run_labs")
@pytest.mark.parametrize("when, sign", [
    *((when, sign) for when in ("starting", "up") for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)), ("booting", signal.SIGINT)])
def test_a_signal_clears_everything_away(sign, when):
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        # As at a terminal: what a shell starts in the background inherits that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    footprint = Footprint(str(process.pid))
    if when == "up":
        assert process.stdout.readline() == "up\n"
    else:
        limit, seen = time.monotonic() + 30, "kvm1/init.log" if when == "starting" else "kvm1/var/log/libvirt/*.console"
        while not list((LABS / str(process.pid)).glob(seen)) and time.monotonic() < limit:
            time.sleep(0.05)
    footprint.look()
    process.send_signal(sign)
    # Guests take half a minute and longer to boot on a busy machine; nobody who interrupts has to wait for that.
    process.wait(12 if when == "booting" else 30)
    process.stdout.close()
    assert process.returncode
    if sign == signal.SIGKILL:
        # Its processes die with it; what is left lying about is cleared by the next lab, or by `down`.
        footprint.assert_no_process()
        sweep()
    footprint.assert_gone()


@pytest.mark.usefixtures("can_run_labs")
def test_a_node_that_does_not_start_says_so_and_leaves_nothing():
    lab = Lab()
    footprint = Footprint(lab.identity)
    lab.nodes[0].image = Path("/nonexistent")
    said = []

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("hosts"):
            footprint.look()

    lab.say = say
    with pytest.raises(LabError, match="kvm1 did not start"):
        lab.start()
    footprint.assert_gone()


# -- small parts --------------------------------------------------------------------------------------------------------


def test_without_root_the_lab_says_so():
    code = "import os; os.setuid(65534)\nfrom tests.lab.lab import Lab\nLab().start()"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1
    assert "run it as root" in done.stderr


def test_preflight_without_root_says_so_at_once():
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", str(CHECKOUT / "scripts/preflight")],
                          cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "root" in done.stderr and "sudo" in done.stderr


@pytest.mark.parametrize(("text", "seconds"), [("+49h", 176400), ("-5m", -300), ("+10d", 864000)])
def test_offsets(text, seconds):
    assert offset_seconds(text) == seconds


@pytest.mark.parametrize("text", ["49h", "+49", "+1y", "+49h; true", "", "+1.5h"])
def test_offsets_refused(text):
    with pytest.raises(ValueError, match="offset of the clock"):
        offset_seconds(text)


def test_tables():
    text = render({"a": {"smtp 25": "open", "smtp 25/6": "timeout", "ping": "open"}})
    assert "open · timeout" in text and text.splitlines()[0].split() == ["smtp", "25", "ping"]
    assert compare({"x": 1}, {"x": 1})[1]
    text, same = compare({"x": 1}, {"x": 2, "y": 3})
    assert not same and text.count("DIFFERS") == 2
