# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A KVM host of the lab: its own network, mounts, processes, libvirtd and sshd on this machine's kernel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from . import plan
from .guest import Guest
from .namespace import Namespace
from .process import LabError, Process, children, end, run

USER = "aup"
_USER_ID = 61234
_HERE = Path(__file__).parent

_QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
namespaces = []
stdio_handler = "file"
"""
_LIBVIRTD_CONF = """\
unix_sock_group = "root"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""
_SSHD_CONF = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers aup
MaxStartups 100
Subsystem sftp internal-sftp
"""


class Node:
    """One KVM host. ``state`` is its directory on the machine: what is there survives :meth:`reboot`."""

    def __init__(self, node_plan: plan.NodePlan, state: Path, image: Path, identity: str):
        self.plan = node_plan
        self.name = node_plan.name
        self.state = state
        self.image = image
        self.namespace = Namespace(self.name, identity)
        self.guests = [Guest(guest, self) for guest in node_plan.guests]
        self._holder: Process | None = None
        self._groups: list[Path] = []
        self._init = 0

    # -- life ---------------------------------------------------------------------------------------------------

    def prepare(self, login_key: str) -> None:
        """Make the network namespace and the node's own /etc; ``login_key`` is the controller's public SSH key."""
        self.namespace.create()
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            self.namespace.sysctl(key, 1)
        self._make_etc(login_key)

    def wire(self) -> None:
        """Make the tenant bridge with the uplink in it; the uplink and management cables are there already."""
        ip = self.namespace.ip
        ip(f"link add {plan.BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        ip(f"link set {plan.UPLINK} master {plan.BRIDGE}")
        ip(f"link set {plan.BRIDGE} up")
        for address, length in zip(self.plan.bridge_addresses, (25, 64), strict=True):
            ip(f"address add {address}/{length} dev {plan.BRIDGE}")
        ip(f"address add {self.plan.management}/24 dev {plan.MANAGEMENT}")
        ip(f"route add default via {plan.GATEWAYS[0]}")
        ip(f"-6 route add default via {plan.GATEWAYS[1]}")

    def boot(self) -> None:
        """Start the node's process 1; :meth:`await_services` waits for what that starts."""
        self._make_groups()
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "AUP_NODE": self.name,
            "AUP_STATE": str(self.state),
            "AUP_IMAGE": str(self.image),
            "AUP_CGROUPS": self._group_lines(),
        }
        join = ["sh", "-c", 'for group in $AUP_JOIN; do echo $$ >"$group/cgroup.procs"; done; exec "$@"', "sh"]
        env["AUP_JOIN"] = " ".join(map(str, self._groups))
        self._holder = Process(
            [*join, *self.namespace.enter, "unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork",
             "--kill-child", str(_HERE / "node-init")],
            self.state / "init.log", env)

    def await_services(self, patience: float = 30) -> None:
        """Return when libvirtd answers and sshd listens."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            if not self.running:
                raise LabError(f"{self.name} did not start:\n{(self.state / 'init.log').read_text()[-2000:]}")
            if self._find_init() and self.path("/run/sshd.pid").exists():
                if self.run(["virsh", "-q", "list"], check=False).returncode == 0:
                    return
            time.sleep(0.1)
        raise LabError(f"{self.name}: libvirtd or sshd is not up after {patience:g} s; see {self.state}/var/log")

    def stop(self) -> None:
        """End the node and everything in it; its network namespace goes as well."""
        self.end()
        self.namespace.delete()

    def crash(self) -> None:
        """As if the power had failed: everything in the node ends at once, what was on its disk stays."""
        self.end()
        run([*self.namespace.enter, "nft", "flush", "ruleset"])

    def reboot(self) -> None:
        """Crash, then boot again. Guests marked autostart come back by libvirt, others stay off."""
        self.crash()
        self.boot()
        self.await_services()

    @property
    def running(self) -> bool:
        """Whether it was booted and has not ended."""
        holder = self._holder  # which another thread may take away meanwhile
        return holder is not None and holder.running

    def end(self) -> None:
        """End everything in the node; its network namespace stays."""
        if self._holder is not None:
            self._holder.stop(signal.SIGKILL)
            end([self._init] if self._init else [], patience=5)
            self._holder, self._init = None, 0
        for group in self._groups:
            remove_group(group)
        self._groups = []

    # -- use ----------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The machine's pid of the node's process 1."""
        if not self._find_init():
            raise LabError(f"{self.name} is not running")
        return self._init

    @property
    def enter(self) -> list[str]:
        """What to put before a command so that it runs as root on the node."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]

    def run(self, command: list[str], **options) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the node (see :func:`tests.lab.process.run`)."""
        return run([*self.enter, *command], **options)

    def path(self, name: str) -> Path:
        """Where the machine sees the node's file ``name``."""
        return Path(f"/proc/{self.pid}/root{name}")

    def guest(self, name: str) -> Guest:
        for guest in self.guests:
            if guest.plan.name == name:
                return guest
        raise KeyError(f"{self.name} has no guest {name}")

    def stop_libvirtd(self) -> None:
        """End libvirtd on the node; guests go on running."""
        inside = self.path("/run/libvirtd.pid").read_text().strip()
        self.run(["kill", inside])
        limit = time.monotonic() + 10
        while self.run(["kill", "-0", inside], check=False).returncode == 0:
            if time.monotonic() > limit:
                raise LabError(f"{self.name}: libvirtd does not end")
            time.sleep(0.05)

    def start_libvirtd(self) -> None:
        self.run(["libvirtd", "-d", "--pid-file", "/run/libvirtd.pid"])
        self.await_services()

    # -- parts --------------------------------------------------------------------------------------------------

    def _find_init(self) -> bool:
        if not self._init and self._holder is not None:
            self._init = next(iter(children(self._holder.pid)), 0)
        return bool(self._init) and Path("/proc", str(self._init)).exists()

    def _make_etc(self, login_key: str) -> None:
        """A copy of /etc without the machine's identity, its keys, its guests and its firewall."""
        etc = self.state / "etc"
        self.state.mkdir(parents=True, exist_ok=True)
        run(["cp", "-a", "/etc", str(etc)])
        filters = etc / "libvirt/nwfilter"
        keep = self.state / "nwfilter"
        if filters.is_dir():
            filters.rename(keep)
        for gone in ("libvirt", "ssh", "sudoers.d", "ssl/private", "nftables.d"):
            shutil.rmtree(etc / gone, ignore_errors=True)
        for made in ("libvirt", "ssh", "sudoers.d", "libvirt/qemu"):
            (etc / made).mkdir(parents=True, exist_ok=True)
        if keep.is_dir():
            keep.rename(filters)
        (etc / "libvirt/qemu.conf").write_text(_QEMU_CONF)
        (etc / "libvirt/libvirtd.conf").write_text(_LIBVIRTD_CONF)
        (etc / "ssh/sshd_config").write_text(_SSHD_CONF)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(etc / "ssh/ssh_host_ed25519_key")])
        (etc / "sudoers").write_text(
            "Defaults env_reset\n"
            'Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\n'
            f"root ALL=(ALL:ALL) ALL\n{USER} ALL=(ALL:ALL) NOPASSWD: ALL\n")
        (etc / "sudoers").chmod(0o440)
        _append(etc / "passwd", f"{USER}:x:{_USER_ID}:{_USER_ID}:lab login:/home/{USER}:/bin/bash")
        _append(etc / "group", f"{USER}:x:{_USER_ID}:")
        (etc / "shadow").write_text(f"root:*:19000:0:99999:7:::\nsshd:*:19000::::::\n{USER}:*:19000:0:99999:7:::\n")
        (etc / "shadow").chmod(0o640)
        for name, text in (("hostname", self.name), ("hosts", f"127.0.0.1 localhost {self.name}\n::1 localhost"),
                           ("nftables.conf", "#!/usr/sbin/nft -f\nflush ruleset")):
            (etc / name).unlink(missing_ok=True)
            (etc / name).write_text(text + "\n")
        home = self.state / "home" / USER
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh/authorized_keys").write_text(login_key + "\n")
        for place in (home, home / ".ssh", home / ".ssh/authorized_keys"):
            os.chown(place, _USER_ID, _USER_ID)
        (home / ".ssh").chmod(0o700)

    @property
    def host_key(self) -> str:
        """The node's public host key, as ``known_hosts`` wants it."""
        return " ".join((self.state / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])

    def _make_groups(self) -> None:
        self._groups = []
        for _, place, controllers in cgroup_mounts():
            group = Path(place, self.namespace.name)
            group.mkdir(exist_ok=True)
            if "cpuset" in controllers.split(","):
                for part in ("cpus", "mems"):
                    (group / f"cpuset.{part}").write_text((group.parent / f"cpuset.{part}").read_text())
            self._groups.append(group)

    def _group_lines(self) -> str:
        return "\n".join(" ".join(mount) for mount in cgroup_mounts())


def _append(path: Path, line: str) -> None:
    path.write_text(path.read_text().rstrip("\n") + f"\n{line}\n")


def cgroup_mounts() -> list[tuple[str, str, str]]:
    """The machine's cgroup hierarchies: kind (``cgroup`` or ``cgroup2``), mount point, controllers."""
    found = []
    general = {"rw", "ro", "nosuid", "nodev", "noexec", "relatime", "noatime", "nsdelegate",
               "memory_recursiveprot", "xattr"}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            controllers = [word for word in options.split(",")
                           if word not in general and not word.startswith(("release_agent=", "seclabel"))]
            found.append((kind, place, ",".join(controllers) or "-"))
    return found


def group_in_use(group: Path) -> bool:
    """Whether a process is in a cgroup or in one below it."""
    for below, _, _ in os.walk(group):
        try:
            if Path(below, "cgroup.procs").read_text().strip():
                return True
        except OSError:
            # Gone, or a v2 group of threads, whose processes its parent shows.
            continue
    return False


def remove_group(group: Path) -> None:
    """Remove a cgroup and those below it; its processes have just ended and may need a moment to leave."""
    for _ in range(50):
        try:
            for below, _, _ in os.walk(group, topdown=False):
                os.rmdir(below)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
