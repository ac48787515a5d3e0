# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces for tests: made, wired and always removed again. Needs root."""
from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C
_LIBC = ctypes.CDLL(None, use_errno=True)
_SERIAL = itertools.count()


def leave_on_signals():
    """For programs: SIGTERM and SIGHUP end this one as Ctrl-C does, so that what it made is taken down."""
    def leave(number, _frame):
        for one in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)  # the clean-up is on its way
        raise SystemExit(128 + number)

    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, leave)


def exit_of(main):
    """A demo's exit status: that of `main`, or what Ctrl-C has once all was cleared away; for SIGTERM see `leave_on_signals`."""
    leave_on_signals()
    try:
        return main()
    except KeyboardInterrupt:
        print("demo: interrupted; everything is cleared away", file=sys.stderr)
        return 130


def run(argv, stdin=None):
    """`(rc, stdout, stderr)` of a command; the runner node code gets in tests."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def processes_in(names):
    """Ids of the processes in these namespaces, this one aside."""
    wanted = set()
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            wanted.add(os.stat("/run/netns/" + name).st_ino)
    found = []
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        with contextlib.suppress(OSError):
            if os.stat("/proc/%d/ns/net" % pid).st_ino in wanted and pid != os.getpid():
                found.append(pid)
    return found


class Namespace:
    """One network namespace.

    :ivar name: its name for `ip netns`
    """

    def __init__(self, name):
        self.name = name

    def run(self, argv, stdin=None):
        """A command inside; `(rc, stdout, stderr)`."""
        return run(["ip", "netns", "exec", self.name, *argv], stdin)

    def check(self, command, stdin=None):
        """A command (words separated by spaces) inside that must succeed; its output."""
        argv = command.split() if isinstance(command, str) else command
        rc, out, err = self.run(argv, stdin)
        assert rc == 0, "%s in %s: %s" % (argv, self.name, err or out)
        return out

    def ip(self, *lines):
        """Lines of `ip` commands, inside, in one process."""
        rc, _out, err = run(["ip", "-netns", self.name, "-batch", "-"], "\n".join(lines) + "\n")
        assert rc == 0, "%s in %s: %s" % (lines, self.name, err)

    def call(self, function, *args):
        """Call a function on a thread that is inside; sockets it makes stay inside."""
        result = []

        def inside():
            fd = os.open("/run/netns/" + self.name, os.O_RDONLY)
            try:
                if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                result.append((function(*args), None))
            except OSError as exc:
                result.append((None, exc))
            finally:
                os.close(fd)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def sysctl(self, values):
        """Set sysctls of this namespace."""
        self.check(["sysctl", "-qw", *("%s=%s" % pair for pair in values.items())])

    def listen(self, *ports):
        """Dual-stack TCP listeners on these ports; returned open."""
        def make():
            sockets = []
            for port in ports:
                sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.bind(("::", port))
                sock.listen(4096)  # nobody accepts
                sockets.append(sock)
            return sockets
        return self.call(make)

    def connect(self, address, port, timeout=0.3, source=None):
        """`(outcome, socket)` of a TCP connection: open, refused, unreachable or silent."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = self.call(socket.socket, family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            if source:
                sock.bind((source, 0))
            sock.connect((address, port))
        except ConnectionRefusedError:
            outcome = "refused"
        except TimeoutError:
            outcome = "silent"
        except OSError:
            outcome = "unreachable"
        else:
            return "open", sock
        sock.close()
        return outcome, None

    def try_tcp(self, address, port, timeout=0.3, source=None):
        """Outcome of a TCP connection that is closed at once."""
        outcome, sock = self.connect(address, port, timeout, source)
        if sock is not None:
            sock.close()
        return outcome

    def gro_off(self, device):
        """Turn generic receive offload of a device off (what `ethtool -K … gro off` does)."""
        def switch():
            command = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_SGRO, 0))
            request = struct.pack("16sP16x", device.encode("ascii"), ctypes.addressof(command))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                fcntl.ioctl(sock, _SIOCETHTOOL, request)
        self.call(switch)

    def packet_socket(self, device):
        """Raw Ethernet socket on a device."""
        sock = self.call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind((device, 3))
        return sock


class Net:
    """Namespaces of one test; a context manager that removes them whatever happens.

    :raises AssertionError: without root, which namespaces need
    """

    def __init__(self):
        assert os.geteuid() == 0, "these tests make network namespaces and need root"
        self._prefix = "aup%d-%d-" % (os.getpid(), next(_SERIAL))
        self._spaces = {}
        self._sockets = []

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        for sock in self._sockets:
            sock.close()
        # Daemons of whatever was interrupted before it could note how to end them.
        for pid in processes_in([space.name for space in self._spaces.values()]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for space in self._spaces.values():
            run(["ip", "netns", "del", space.name])

    def add(self, name):
        """A new namespace with loopback up and without waiting for duplicate address detection."""
        space = Namespace(self._prefix + name)
        self._spaces[name] = space  # before it is there: nobody who interrupts finds it made and not noted
        rc, _out, err = run(["ip", "netns", "add", space.name])
        assert rc == 0, err
        space.ip("link set lo up")
        space.sysctl({"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.all.accept_dad": 0,
                      "net.core.somaxconn": 4096})
        return space

    def __getitem__(self, name):
        return self._spaces[name]

    def veth(self, left, left_name, right, right_name, mac=None):
        """A cable between two namespaces, both ends up.

        :param mac: of the right end
        """
        left.ip("link add name %s type veth peer name %s netns %s" % (left_name, right_name, right.name),
                "link set %s up" % left_name)
        right.ip(*(["link set %s address %s" % (right_name, mac)] if mac else []), "link set %s up" % right_name)

    def serve(self, space, *ports):
        """Listeners that stay open until the end."""
        self._sockets += space.listen(*ports)


def crosses(sender, frame, receiver, marker, timeout=0.3):
    """Whether a frame sent on one packet socket shows up on another.

    :param marker: bytes that are in this frame only
    """
    receiver.settimeout(0.02)
    try:
        while True:
            receiver.recv(65535)  # what came before
    except (TimeoutError, BlockingIOError):
        pass
    sender.send(frame)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            if marker in receiver.recv(65535):
                return True
        except TimeoutError:
            continue
    return False
