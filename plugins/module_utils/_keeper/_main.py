# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`aup-node`: the commands of the keeper's program. PRIVATE to the collection.

The only file on the node's side that starts other programs by itself: there is no Ansible here.
"""
from __future__ import annotations

import argparse
import gc
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._node_state import NodeState
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_duration

NFT_PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_SECONDS = 120
HOOK_SECONDS = 5
FAILED = 1
PROXMOX = "proxmox"
_NAMES = {"kvm": "KVM host", PROXMOX: "Proxmox VE node"}
_CLUSTERS = "On this node it is the packet filter alone: power, rates and processors of guests are the cluster's (qm, pct, its API)."


def run(argv, stdin=None):
    """Run a command. Returns `(exit status, stdout, stderr)`; 127 if it can't be started, 124 after its time."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=COMMAND_SECONDS, text=True,
                              env={"PATH": NFT_PLACES, "LC_ALL": "C.UTF-8"})
    except subprocess.TimeoutExpired:
        return 124, "", "%s did not end within %d s" % (argv[0], COMMAND_SECONDS)
    except OSError as exc:
        return 127, "", "%s can't be started: %s" % (argv[0], exc.strerror)
    return done.returncode, done.stdout, done.stderr


def _say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _actor():
    """Who types this, as far as the host knows."""
    name = os.environ.get("SUDO_USER")
    try:
        return name or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "uid %d" % os.getuid()


def _node(args):
    nft = shutil.which("nft", path=NFT_PLACES) or "/usr/sbin/nft"
    if args.host == PROXMOX:
        from ansible_collections.hosting.aup.plugins.module_utils._pve_host import PveHost

        return PveHost(run, nft=nft, root=args.root)
    from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import KvmNode  # the hook does without it

    return KvmNode(run, nft=nft, uri=args.uri, root=args.root)


def _clock(args):
    from ansible_collections.hosting.aup.plugins.module_utils._keeper._clock import Clock

    return Clock(trusted=args.clock == "trusted")


def _pass(args, libvirt=True):
    node, clock = _node(args), _clock(args)
    while True:
        done = node.keep(clock.moment(), libvirt=libvirt)
        for error in done["errors"]:
            _say("aup-node: %s%s %s" % ("%s: " % error["service"] if error["service"] else "", error["message"], error["remedy"] or ""))
        if not libvirt or not done["deferred"]:
            break
        time.sleep(2)
    sys.stdout.write(json.dumps({key: done[key] for key in ("changed", "ended", "began")}, sort_keys=True) + "\n")
    return FAILED if done["errors"] and libvirt else 0


def _run(args):
    from ansible_collections.hosting.aup.plugins.module_utils._keeper._loop import Keeper

    woken, stopped = threading.Event(), []

    def stop(_number, _frame):
        stopped.append(True)
        woken.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    node, clock = _node(args), _clock(args)
    keeper = Keeper(node, clock, _say, args.interval)

    def nudge():
        keeper.nudge()
        woken.set()

    events = _events(args, nudge, clock)
    while not stopped:
        if events:
            events.watch()
        patience = keeper.step()
        gc.collect(0)
        woken.wait(patience)
        woken.clear()
    if events:
        events.close()
    return 0


def _events(args, nudge, clock):
    """Who says that a guest came; nobody on a Proxmox VE node, where ports are known by their names beforehand."""
    if args.host == PROXMOX:
        return None
    from ansible_collections.hosting.aup.plugins.module_utils._keeper._events import Events

    return Events(args.uri, nudge, clock.elapsed)


def _check_limits(args):
    from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt
    from ansible_collections.hosting.aup.plugins.module_utils._keeper import _check_limits as check

    host = _libvirt.connect(args.uri)
    try:
        found = check.look(host)
        if args.measure:
            found.append(check.measure(host, args.seconds, say=_say))
    finally:
        host.close()
    sys.stdout.write(json.dumps(found, sort_keys=True) + "\n" if args.json else "\n".join(check.lines(found)) + "\n")
    return FAILED if any(entry["wrong"] for entry in found) else 0


def _hook(args):
    from ansible_collections.hosting.aup.plugins.module_utils._keeper import _hook as hook

    signal.alarm(HOOK_SECONDS)  # ends this process; the shell around it makes that a success
    text = sys.stdin.buffer.read(hook.MAX_XML).decode("utf-8", "replace")
    refused, said = hook.run_hook(NodeState(args.root), run, _clock(args).moment(), args.operation, args.suboperation, text)
    if said:
        _say("hosting.aup: " + said)
    return hook.REFUSED if refused else 0


def _hold(args):
    until_at = None if args.duration is None else int(time.time()) + parse_duration(args.duration)
    node = _node(args)
    node.hold_by_hand(args.service, args.power, args.reason, until_at, _actor())
    sys.stdout.write("%s is held on this node%s; `aup-node release %s` ends it, nothing else does\n" % (
        args.service, " until %s" % iso(until_at) if until_at else "", args.service))
    if args.host == PROXMOX:
        sys.stdout.write("its network is cut here, and only here: the guest runs on (`qm`, `pct`), and on another node it is not held\n")
    return _pass(args)


def _release(args):
    there = _node(args).release_by_hand(args.service, args.reason, _actor())
    sys.stdout.write("%s\n" % ("released: what the ledger holds stays held" if there else "nothing was held by hand here"))
    return _pass(args) if there else 0


def _switch(args):
    done = _node(args).set_disarmed(args.controls or ["all"], args.command == "rearm", args.reason)
    sys.stdout.write("switched off on this node: %s\n" % (", ".join(sorted(done["after"])) or "nothing"))
    return 0


def _status(args):
    node, clock = _node(args), _clock(args)
    moment, found = clock.moment(), node.info()
    fence = found["fence"]
    coming = [instant for instant in node.instants() if moment is None or instant > moment]
    document = {
        "version": args.version, "fence": fence, "clock": clock.state, "disarmed": found["disarmed"], "held": found["held"],
        "by_hand": found["by_hand"], "rules_present": found["rules_present"], "next": coming[0] if coming else None,
        "journal": found["journal"],
    }
    if args.json:
        sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")
        return 0
    lines = ["aup-node %s" % args.version,
             "ledger %s, epoch %d, generation %d" % (fence["ledger"], fence["epoch"], fence["generation"]) if fence
             else "this node is under no policy",
             "rules are loaded" if found["rules_present"] else "no rules of ours are loaded",
             "clock: %s" % clock.state, "next change: %s" % (iso(document["next"]) or "none")]
    lines += ["%s: %s until %s (%s)" % (h["service"], h["kind"], iso(h["until_at"]) or "it is lifted", ", ".join(h["enforcement_ids"]))
              for h in found["held"]]
    lines += [_CLUSTERS] if args.host == PROXMOX and found["held"] else []
    lines += ["%s: held by hand since %s by %s: %s" % (sid, iso(h["at"]), h["actor"], h["reason"] or "no reason given")
              for sid, h in sorted(found["by_hand"].items())]
    lines += ["%s is switched off here since %s: %s" % (name, iso(one["at"]), one["reason"] or "no reason given")
              for name, one in sorted(found["disarmed"].items())]
    lines.append("%d journal entries wait for the ledger" % found["journal"])
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser(version, host):
    parser = argparse.ArgumentParser(prog="aup-node", epilog=_CLUSTERS if host == PROXMOX else None,
                                     description="hosting.aup on this %s, without controller and ledger." % _NAMES[host])
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument("--root", default="", help="prefix of hosting.aup's own files")
    if host != PROXMOX:
        parser.add_argument("--uri", default="qemu:///system", help="libvirt's")
    parser.add_argument("--clock", choices=("synchronised", "trusted"), default="synchronised",
                        help="trusted: end things also while no NTP disciplines the clock")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    one = commands.add_parser("run", help="keep the desired state until stopped")
    one.add_argument("--interval", type=int, default=60, help="seconds between passes that nothing calls for")
    one.set_defaults(do=_run)
    commands.add_parser("pass", help="look once, and mend and end what is due").set_defaults(do=_pass)
    commands.add_parser("boot", help="load the rules before guests start").set_defaults(do=lambda args: _pass(args, False))
    if host != PROXMOX:
        _add_libvirts(commands)
    one = commands.add_parser("hold", help="hold a service here, now")
    one.add_argument("service")
    one.add_argument("--for", dest="duration", help="30m, 48h, 7d; until released without it")
    if host == PROXMOX:
        one.set_defaults(power="pause")  # as it is written down; nothing of a guest is set here
    else:
        one.add_argument("--power", choices=("pause", "shutdown", "destroy"), default="pause")
    one.add_argument("--reason", required=True)
    one.set_defaults(do=_hold)
    one = commands.add_parser("release", help="end a hold by hand")
    one.add_argument("service")
    one.add_argument("--reason", default="")
    one.set_defaults(do=_release)
    for name, text in (("disarm", "switch controls off on this node"), ("rearm", "switch them on again")):
        one = commands.add_parser(name, help=text)
        one.add_argument("controls", nargs="*", metavar="CONTROL", help="all without it")
        one.add_argument("--reason", default="")
        one.set_defaults(do=_switch)
    one = commands.add_parser("status", help="what is in force here")
    one.add_argument("--json", action="store_true")
    one.set_defaults(do=_status)
    return parser


def _add_libvirts(commands):
    """The commands that need libvirt."""
    one = commands.add_parser("hook", help="for /etc/libvirt/hooks/qemu.d")
    for name in ("guest", "operation", "suboperation", "extra"):
        one.add_argument(name)
    one.set_defaults(do=_hook)
    one = commands.add_parser("check-limits", help="look whether the kernel and qemu have the limits that libvirt says guests have")
    one.add_argument("--measure", action="store_true", help="make a guest of one busy processor, limit and time it; it is gone again afterwards")
    one.add_argument("--seconds", type=int, default=30, help="how long to time it")
    one.add_argument("--json", action="store_true")
    one.set_defaults(do=_check_limits)


def main(argv, version, host="kvm"):
    """Run a command.

    :param argv: without the program's name
    :param version: of the collection this was packed from
    :param host: `kvm`, or `proxmox` for a node of a Proxmox VE cluster
    :returns: exit status
    """
    args = _parser(version, host).parse_args(argv)
    args.version, args.host = version, host
    try:
        if os.geteuid() != 0:
            raise InputError("this has to run as root.", target="user", remedy="Use sudo.")
        return args.do(args)
    except AupError as exc:
        _say("aup-node: %s" % exc)
        return FAILED
