# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A KVM host of its own for tests: libvirtd and qemu (emulated processors) in private namespaces.

Mounts, network and processes are apart from the machine's: its libvirt, its configuration and its
links stay as they are. Everything started in there ends with the node's first process, and that
one ends when the test process closes its pipe, however it dies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

NEEDS = ("libvirtd", "qemu-system-x86_64", "unshare", "nsenter", "ip", "mount")

# The first process of the pid namespace has to reap what qemu and libvirtd leave behind.
_INIT = """
import os, signal
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
os.write(1, b"ready")
while os.read(0, 1):
    pass
"""

_SET_UP = """
set -e
mkdir -p /dev/shm/lib /dev/shm/lib-work
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/dev/shm/lib,workdir=/dev/shm/lib-work /var/lib
cp -a /etc/libvirt /dev/shm/etc-libvirt
for directory in /run /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
    mount -t tmpfs -o mode=0755 tmpfs "$directory"
done
cp -a /dev/shm/etc-libvirt/. /etc/libvirt/
rm -rf /dev/shm/etc-libvirt /etc/libvirt/qemu/networks/autostart /etc/libvirt/qemu/*.xml
mkdir -p /var/lib/libvirt/qemu
mount -t sysfs sysfs /sys
cat > /etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
END
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
"""


def missing():
    """What this machine lacks to run a node, as words; empty when nothing is missing."""
    lacking = [name for name in NEEDS if shutil.which(name) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    return lacking


class LibvirtNode:
    """A running node. Use as a context manager, or call `close`.

    `uri` reaches its libvirtd from outside; `boot_id` changes with `reboot`.
    """

    def __init__(self):
        self._boots = 1
        self._unshare = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                sys.executable,
                "-c",
                _INIT,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            if os.read(self._unshare.stdout.fileno(), 5) != b"ready":
                raise RuntimeError("the node's namespaces can't be made")
            children = Path("/proc/%d/task/%d/children" % (self._unshare.pid, self._unshare.pid)).read_text()
            self.pid = int(children.split()[0])
            # /dev/shm of its own, so that the copy in between is nobody else's.
            self.run("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
            self.run("sh", "-c", _SET_UP)
            self.start_libvirtd()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    @property
    def boot_id(self):
        return "boot-%d" % self._boots

    @property
    def root(self):
        """The node's file system, seen from outside."""
        return Path("/proc/%d/root" % self.pid)

    @property
    def uri(self):
        return "qemu+unix:///system?socket=%s/run/libvirt/libvirt-sock" % self.root

    def run(self, *argv, check=True):
        """Run a command on the node.

        :returns: subprocess.CompletedProcess with text output
        """
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "--", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                "%s failed on the node (%d): %s" % (argv[0], done.returncode, done.stderr.strip())
            )
        return done

    def start_libvirtd(self):
        """Start libvirtd and wait until it answers."""
        self.run("libvirtd", "-d", "-p", "/run/libvirtd.pid")
        self.wait(lambda: self.run("virsh", "-c", "qemu:///system", "uri", check=False).returncode == 0)

    @contextmanager
    def libvirtd_hangs(self):
        """libvirtd is there and takes connections, but answers nothing."""
        pid = (self.root / "run/libvirtd.pid").read_text().strip()
        self.run("kill", "-STOP", pid)
        try:
            yield
        finally:
            self.run("kill", "-CONT", pid)

    def stop_libvirtd(self, signal="TERM"):
        """End libvirtd; guests run on."""
        pid = (self.root / "run/libvirtd.pid").read_text().strip()
        self.run("kill", "-" + signal, pid)
        self.wait(lambda: not self._runs(pid))

    def kill_guest(self, name):
        """Let a guest's qemu die as by a fault."""
        pid = (self.root / "run/libvirt/qemu" / (name + ".pid")).read_text().strip()
        self.run("kill", "-KILL", pid)
        self.wait(lambda: not self._runs(pid))

    def reboot(self):
        """What a power failure leaves: no process, no /run, another boot id. libvirtd comes up again."""
        pids = [path.read_text().strip() for path in (self.root / "run/libvirt/qemu").glob("*.pid")]
        pids.append((self.root / "run/libvirtd.pid").read_text().strip())
        for pid in pids:
            self.run("kill", "-KILL", pid, check=False)
        self.wait(lambda: not any(self._runs(pid) for pid in pids))
        self.run("sh", "-c", "rm -rf /run/libvirt /run/libvirtd.pid")
        self._boots += 1
        self.start_libvirtd()

    def close(self):
        """End every process of the node; its mounts and links go with it."""
        self._unshare.stdin.close()
        try:
            self._unshare.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._unshare.kill()
            self._unshare.wait()
        self._unshare.stdout.close()

    def _runs(self, pid):
        return self.run("kill", "-0", pid, check=False).returncode == 0

    @staticmethod
    def wait(condition, seconds=30):
        """Wait until something holds; an error if it never does."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError("the node did not get there within %d s" % seconds)
            time.sleep(0.1)
