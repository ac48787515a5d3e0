# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The soak: random actions over many services from several controllers that are killed at random; then one reconcile.

    python -m tests.integration.soak.soak --ledger sqlite|postgresql [--seed N] [--actions 200] [--services 20]

Real: guests in qemu, libvirtd, nftables, traffic control, routes, the ledger, the action plugins, ansible-playbook. The
seed decides actions, their order and when a controller is killed; what runs beside what is left to the machine.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT)]

from ansible_collections.hosting.aup.plugins.module_utils._backends import _tc
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from tests.integration.netns import leave_on_signals
from tests.integration.soak import inside
from tests.integration.soak.host import Host

HOLDS, LIMITS = ("suspend", "quarantine"), ("null_route", "drop", "bandwidth_cap", "io_throttle", "port_block", "smtp_block")
SHORT, LONG = "1h", "48h"
AHEAD = 2 * 3600  # of the last reconcile: what lasts an hour is due by then
PATIENCE = 180
OPTIONS = {"bandwidth_cap": {"rate": "10 Mbit/s"}, "port_block": {"ports": "6667"}}
REMOTES = ("198.51.100.7", "198.51.100.64/28", "203.0.113.9", "2001:db8:bad::/48", "2001:db8:bee::7")
CONTROLS = ("smtp_outbound", "smtp_outbound", "reflection", "new_connections", "mining")  # the policy lets nobody off the last one
PERSONS = ("4001", "4003")  # whom the ledger takes a controller for
PLAYS = "4002"  # whom it takes a playbook for
SMTP_BLOCK = (25, 465, 587)  # of the default policy


def differing(seen, wanted):
    """`(seen, wanted)` without what is the same in both, as far as they are dicts."""
    if not (isinstance(seen, dict) and isinstance(wanted, dict)):
        return seen, wanted
    keys = sorted(key for key in {*seen, *wanted} if seen.get(key) != wanted.get(key))
    return {key: seen.get(key) for key in keys}, {key: wanted.get(key) for key in keys}


@dataclass
class Action:
    """One thing to do, and what became of it: `done`, `refused` or `unknown` (killed, or a playbook that failed)."""

    number: int
    verb: str
    args: dict
    kill: float | None = None
    playbook: str | None = None
    person: str = PERSONS[0]
    became: str | None = None
    answer: dict = field(default_factory=dict)


SAYING = {"hold": "note", "lift": "note", "exempt": "reason"}  # where an action's number goes along into the ledger


def plan_actions(rng, count, services, playbooks):
    """The actions, in the order they are handed out."""
    actions, begun, asked, exempt = [], [], [], []
    by_playbook = set(rng.sample(range(count), min(playbooks, count)))
    for number in range(count):
        choice, names = rng.random(), ["vps-%d" % n for n in rng.sample(range(1, services + 1), 1 if rng.random() < 0.8 else 2)]
        kind, duration, person = rng.choice(HOLDS + LIMITS), rng.choice((SHORT, LONG)), rng.choice(PERSONS)
        if choice < 0.45 or not begun:
            args = {"kind": kind, "service": names, "violation": "compromised", "case": "S-%d" % number, "duration": duration,
                    **OPTIONS.get(kind, {}), **({"iops": str(rng.choice((50, 80)))} if kind == "io_throttle" else {})}
            if kind == "drop":
                args.update(sources=",".join(sorted(rng.sample(REMOTES, 2))), direction=rng.choice(("in", "out", "both")))
            actions.append(Action(number, "hold", args))
            begun += [(name, args["case"]) for name in names]
        elif choice < 0.55:
            # Half of them agree, or ask once more, where somebody asked not long ago.
            args = {"kind": "terminate", "service": names, "violation": "compromised", "case": "S-%d" % number}
            if asked and rng.random() < 0.6:
                args, first = rng.choice(asked[-4:])
                person = first if rng.random() < 0.2 else next(other for other in PERSONS if other != first)
            else:
                asked.append((args, person))
                begun += [(name, args["case"]) for name in names]
            actions.append(Action(number, "hold", dict(args)))
        elif choice < 0.62:
            args = {"service": names[:1], "violation": "attack_target", "case": "S-%d" % number}
            actions.append(Action(number, "respond", args))
            begun.append((names[0], args["case"]))
        elif choice < 0.72:
            if exempt and rng.random() < 0.5:
                args = dict(rng.choice(exempt[-4:]), state=rng.choice(("present", "revoked")))
            else:
                args = {"service": names, "control": rng.choice(CONTROLS), "duration": duration, "state": "present"}
                exempt.append(args)
            actions.append(Action(number, "exempt", dict(args)))
        elif choice < 0.92:
            # What two have to ask for is seldom there to be lifted, if it isn't looked for.
            one = rng.choice(asked[-6:])[0] if asked and rng.random() < 0.25 else None
            name, case = (one["service"][0], one["case"]) if one else rng.choice(begun[-12:])
            actions.append(Action(number, "lift", {"service": [name], "case": case}))
        else:
            actions.append(Action(number, "reconcile", {}))
        actions[-1].person = person
        if actions[-1].verb in SAYING:
            actions[-1].args[SAYING[actions[-1].verb]] = "action %d" % number
        if number in by_playbook:
            actions[-1].person = PLAYS
            actions[-1].playbook = {"hold": "enforce"}.get(actions[-1].verb, actions[-1].verb)
        elif rng.random() < 0.25:
            actions[-1].kill = rng.uniform(0.0, 1.2)
    return actions


class Worker:
    """A controller in a process of its own, on the node."""

    def __init__(self, host, url, ahead=0):
        self.process = subprocess.Popen(
            [*host.enter, sys.executable, "-m", "tests.integration.soak.worker", url, str(ahead)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=host.environment(), bufsize=1)
        self.said = collections.deque(maxlen=60)
        threading.Thread(target=self._listen, daemon=True).start()
        self._answer()

    def _listen(self):
        for line in self.process.stderr:
            self.said.append(line)

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(timeout=PATIENCE)
            if self.process.returncode == -9 or self.process.returncode == 137:
                return None
            raise RuntimeError("a controller ended by itself (%s): %s" % (self.process.returncode, "".join(self.said)))
        return json.loads(line)

    def do(self, action):
        """The answer, or None when it was killed over it."""
        killer = None
        if action.kill is not None:
            killer = threading.Timer(action.kill, self.kill)
            killer.start()
        try:
            self.process.stdin.write(json.dumps({"verb": action.verb, "args": action.args, "person": action.person}) + "\n")
            return self._answer()
        except BrokenPipeError:
            return None
        finally:
            if killer is not None:
                killer.cancel()
                killer.join()

    def kill(self):
        """SIGKILL to the controller itself; nsenter, which waits for it, ends with it."""
        parent = self.process.pid
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in Path("/proc/%d/task/%d/children" % (parent, parent)).read_text().split():
                os.kill(int(child), signal.SIGKILL)

    def alive(self):
        return self.process.poll() is None

    def close(self):
        if self.alive():
            self.process.stdin.close()
            try:
                self.process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Soak:
    """One run of it, on one ledger."""

    def __init__(self, host, url, folder, seed, actions, controllers, playbooks, say=print):
        self.host, self.url, self.folder, self.seed, self.say = host, url, folder, seed, say
        self.actions = plan_actions(random.Random(seed), actions, host.services, playbooks)
        self.controllers, self.kills, self.failures = controllers, 0, []
        (folder / "catalogue.json").write_text(json.dumps(inside.catalogue(host.services)))

    def once(self, verb, ahead=0, **args):
        """One action by a controller of its own, which nobody kills."""
        worker = Worker(self.host, self.url, ahead)
        try:
            return worker.do(Action(-1, verb, args))
        finally:
            worker.close()

    def _lane(self, waiting):
        worker = None
        try:
            while True:
                try:
                    action = waiting.get_nowait()
                except queue.Empty:
                    return
                if worker is None or not worker.alive():
                    worker = Worker(self.host, self.url)
                action.answer = worker.do(action)
                if action.answer is None:
                    action.became = "unknown"
                    self.kills += 1
                else:
                    action.became = "done" if action.answer["said"] else "refused"
        except Exception as exc:
            self.failures.append(exc)
        finally:
            if worker is not None:
                worker.close()

    def _playbooks(self, waiting):
        try:
            while True:
                try:
                    action = waiting.get_nowait()
                except queue.Empty:
                    return
                done = self.play(action.playbook, action.args)
                # What a playbook that failed had written before is for the ledger to say.
                action.became = "done" if done.returncode == 0 else "unknown"
                action.answer = {"playbook": (done.stdout + done.stderr)[-1500:]}
        except Exception as exc:
            self.failures.append(exc)

    def play(self, name, args):
        """A real ansible-playbook on the node, as its own controller."""
        (self.folder / "hosts.aup.yml").write_text(json.dumps({
            "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": "default", "ledger_url": self.url,
            "connection_defaults": {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}}))
        collections_path = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(ROOT / ".build/dev")
        return subprocess.run(
            [*self.host.enter, str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.folder / "hosts.aup.yml"),
             "hosting.aup." + name, "-e", json.dumps(args)],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=self.folder, timeout=PATIENCE,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections_path, "ANSIBLE_HOME": str(self.folder / "home"),
                 "ANSIBLE_LOCALHOST_WARNING": "false", "SUDO_UID": PLAYS})

    def run(self):
        """Provision, soak, reconcile once, compare, give all back, compare. Raises AssertionError."""
        try:
            return self._run()
        except Exception:
            self.keep_papers()
            raise

    def keep_papers(self):
        """What the node and the ledger knew, for whoever has to find out why."""
        kept = ROOT / ".build" / "soak" / str(self.seed)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.host.root / "var/lib/hosting_aup", kept / "node", ignore_dangling_symlinks=True)
        with L.open_ledger(self.url) as ledger, ledger.read() as tx:
            for name in ("enforcement", "event", "baseline"):
                rows = tx.execute(sa.select(getattr(t, name))).mappings().all()
                (kept / (name + ".jsonl")).write_text("".join(json.dumps(dict(row), default=str) + "\n" for row in rows))
        (kept / "actions.jsonl").write_text("".join(json.dumps(vars(action)) + "\n" for action in self.actions))
        self.say("seed %d: what node and ledger knew is in .build/soak/%d" % (self.seed, self.seed))

    def _run(self):
        assert self.once("provision", catalogue=str(self.folder / "catalogue.json"))["outcome"] in ("changed", "unchanged")
        free, begin = self.host.seen(), time.monotonic()
        waiting, books = queue.Queue(), queue.Queue()
        for action in self.actions:
            (books if action.playbook else waiting).put(action)
        lanes = [threading.Thread(target=self._lane, args=(waiting,)) for _ in range(self.controllers)]
        lanes.append(threading.Thread(target=self._playbooks, args=(books,)))
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        if self.failures:
            raise self.failures[0]
        took = time.monotonic() - begin
        became = collections.Counter(action.became for action in self.actions)
        self.say("seed %d: %d actions in %.0f s (%s), %d controllers killed" % (
            self.seed, len(self.actions), took, ", ".join("%s %d" % item for item in sorted(became.items())), self.kills))
        last = self.once("reconcile", AHEAD)
        assert last["outcome"] in ("changed", "unchanged"), last
        seen = self.host.seen()
        self.check_something_done()
        terms = self.replay()
        held = self.check_ledger(terms, seen)
        self.check_node(free, held, terms, seen)
        again = self.once("reconcile", AHEAD)
        assert again["outcome"] == "unchanged", again
        self.give_back(free, held, terms)
        kinds = collections.Counter(enforcement["kind"] for enforcement in held)
        return {"became": dict(became), "kills": self.kills, "seconds": took, "held": dict(kinds), "proposed": len(terms.proposed),
                "exempt": len(terms.exempt()), "terminations over": sum(over for over, _active in terms.terminated.values())}

    # -- the model ------------------------------------------------------------------------------------------------

    def expected(self):
        """`{(case, service): statuses it may have}` from what the controllers said; None among them: not on record."""
        wanted = {}
        for action in self.actions:
            if action.verb not in ("hold", "respond") or action.became == "refused" or action.args.get("kind") == "terminate":
                continue
            end = "ended" if action.args.get("duration") == SHORT else "active"
            for name in action.args["service"]:
                wanted[action.args["case"], name] = {end} | ({None} if action.became == "unknown" else set())
        for action in self.actions:
            key = (action.args.get("case"), *action.args.get("service", ()))
            if action.verb != "lift" or key not in wanted or action.became == "refused":
                continue
            gone = {"ended", "cancelled"}
            wanted[key] = gone | (wanted[key] if action.became == "unknown" else wanted[key] & {None})
        return wanted

    def check_something_done(self):
        """A kind that is always refused would be tested by nothing."""
        tried, done = collections.Counter(), set()
        for action in (one for one in self.actions if one.verb in ("hold", "exempt")):
            what = action.verb, action.args.get("kind") or action.args.get("control"), action.args.get("state")
            tried[what] += action.became == "refused"
            if action.became == "done":
                done.add(what)
        never = "exempt", "mining", "present"
        assert never not in done
        assert not [what for what, times in tried.items() if times > 4 and what not in done | {never}], tried

    def replay(self):
        """What terminations and exemptions amount to, by the model: actions in the order in which they were committed.

        An action that was killed has its number on record or was never done. An answer that something was done or
        refused has to be true.
        """
        with L.open_ledger(self.url) as ledger, ledger.read() as tx:
            joined = t.event.outerjoin(t.event_detail, t.event_detail.c.event_number == t.event.c.number)
            events = tx.execute(sa.select(t.event.c.kind, t.event.c.refs, t.event_detail.c.body)
                                .select_from(joined).order_by(t.event.c.number)).all()
            kinds = dict(tx.execute(sa.select(t.enforcement.c.id, t.enforcement.c.kind)).all())
        by_word, committed, model = {"action %d" % one.number: one for one in self.actions if one.verb in SAYING}, set(), Model()
        for kind, refs, body in events:
            refs = json.loads(refs)
            if kind == "run_started":
                inputs = json.loads(body)["inputs"]
                action = by_word.get(inputs.get("note") or inputs.get("reason"))
                if action is not None:
                    assert action.number not in committed, "%s is on record twice" % action
                    committed.add(action.number)
                    model.do(action)
            elif kind in ("enforcement_ended", "enforcement_cancelled") and kinds[refs["enforcement"]] == "terminate":
                model.over(refs["case"], refs["service"])
        for action in by_word.values():
            if action.became != "unknown":
                assert (action.number in committed) == (action.became == "done"), action
        return model

    def check_ledger(self, terms, seen):
        """What the ledger holds is what the model says; returns the enforcements in force."""
        with L.open_ledger(self.url) as ledger, ledger.read() as tx:
            verified, found = tx.verify(), tx.execute(sa.select(t.enforcement).order_by(t.enforcement.c.number)).all()
            held, events = tx.active(), tx.execute(sa.select(t.event.c.kind, t.event.c.refs)).all()
            open_proposals = {(one["service"], one["case_id"]): one["by"] for one in L.proposals(tx)}
            exemptions = tx.execute(sa.select(t.exemption.c.service, t.exemption.c.control, t.exemption.c.status)).all()
        assert verified["ok"], verified["problems"]
        rows, terminations = collections.defaultdict(list), collections.defaultdict(list)
        for row in found:
            (terminations if row.kind == "terminate" else rows)[row.case_id, row.service].append(row)
        wanted = self.expected()
        assert set(rows) <= set(wanted), set(rows) - set(wanted)
        for key, statuses in wanted.items():
            assert len(rows[key]) <= 1, "%s is there twice" % (key,)
            status = rows[key][0].status if rows[key] else None
            # An end may come before a node was ever seen holding it.
            allowed = statuses | ({"cancelled"} if "ended" in statuses else set())
            if "active" in statuses and rows[key] and self._nothing_to_cap(rows[key][0], seen):
                allowed = allowed | {"opened"}
            assert status in allowed, (key, status, statuses, [a for a in self.actions if a.args.get("case") == key[0]])
        times = collections.Counter(
            (kind, json.loads(refs)["enforcement"]) for kind, refs in events if kind.startswith("enforcement_") and "enforcement" in json.loads(refs))
        assert not [key for key, number in times.items() if number > 1], "written twice"
        # Nobody's servers are terminated by one person, and what two asked for is done once.
        assert open_proposals == {(service, case): sorted("uid %s" % one for one in persons)
                                  for service, (case, persons) in terms.proposed.items()}
        assert set(terminations) == set(terms.terminated), (terminations, terms.terminated)
        for key, (over, active) in terms.terminated.items():
            statuses = [row.status for row in terminations[key]]
            assert len(statuses) == over + active and set(statuses[:over]) <= {"ended", "cancelled"}, (key, statuses)
            assert statuses[over:] == ["active"] * active, (key, statuses)
        assert {(one.service, one.control) for one in exemptions if one.status == "open"} == terms.exempt()
        assert len([one for one in exemptions if one.status == "expired"]) == len(terms.exemptions) - len(terms.exempt())
        return held

    @staticmethod
    def _nothing_to_cap(row, seen):
        """A guest that is off has no port on which a cap could be seen, and active is what was seen."""
        return row.kind == "bandwidth_cap" and seen["services"][row.service]["state"] == "off"

    @staticmethod
    def _set(rules, name, element):
        found = re.search(r"set %s \{(.*?)\n\t\}" % name, rules, re.DOTALL)
        elements = re.search(r"elements = \{(.*?)\}", found.group(1), re.DOTALL) if found else None
        return set(re.findall(element, elements.group(1))) if elements else set()

    def check_node(self, free, held, terms, seen):
        """The host shows just what these enforcements and exemptions amount to."""
        kinds = collections.defaultdict(list)
        for enforcement in held:
            kinds[enforcement["service"]].append(enforcement)
        once_terminated = {service for _case, service in terms.terminated}
        routes, links, wanted = set(), set(), collections.defaultdict(set)
        for number in range(1, self.host.services + 1):
            one = inside.service(number)
            mine, is_seen, was = kinds[one["name"]], seen["services"][one["name"]], free["services"][one["name"]]
            present = {enforcement["kind"] for enforcement in mine}
            dark = bool(present & {"suspend", "terminate"})
            states = {was["state"]}
            if was["state"] == "running" and "terminate" in present:
                states = {"off"}
            elif was["state"] == "running" and dark:
                # What was powered off is not booted only to be paused.
                states = {"paused", *(["off"] if one["name"] in once_terminated else [])}
            assert is_seen["state"] in states, (one, is_seen, mine)
            assert is_seen["link_down"] == dark, (one, is_seen, mine)
            iops = [enforcement["options"]["iops"] for enforcement in mine if enforcement["kind"] == "io_throttle"]
            assert is_seen["iops"] == min(iops, default=0), (one, is_seen, mine)
            if "null_route" in present:
                routes |= {one["ipv4"], one["ipv6"]}
            if is_seen["state"] == "off":
                continue
            links |= {one["tap"]} | (set(_tc.names(one["name"]).values()) if "bandwidth_cap" in present else set())
            wanted["block_out_tcp"] |= {one["tap"] + " . 6667"} if "port_block" in present else set()
            wanted["quarantine_ports"] |= {one["tap"]} if "quarantine" in present and not dark else set()
            wanted["dark_ports"] |= {one["tap"]} if dark else set()
            for name, element in _dropped(one["tap"], mine):
                wanted[name].add(element)
            # All were found running: the policy only observes them, unless they are exempt; a block closes in spite of both.
            if "smtp_block" in present:
                wanted["smtp_enforce"] |= {"%s . %d" % (one["tap"], port) for port in SMTP_BLOCK}
            elif (one["name"], "smtp_outbound") not in terms.exempt():
                wanted["smtp_observe"].add(one["tap"] + " . 25")
        assert set(seen["routes"]) == routes
        assert set(seen["links"]) == links | {"br0", "lo"}, (seen["links"], links)
        bridge = seen["rules"].partition("table inet")[0]
        for name in ("block_out_tcp", "quarantine_ports", "dark_ports", "smtp_enforce", "smtp_observe",
                     *("drop_%s%d%s" % (way, version, kind) for way in ("in", "out") for version in (4, 6) for kind in ("", "_nets"))):
            found = self._set(bridge, name, r'"tap\d+"(?: \. [0-9a-f.:/]+)?')
            assert {element.replace('"', "") for element in found} == wanted[name], (name, found, wanted[name])
        for name, family in (("null4", "."), ("null6", ":")):
            assert self._set(seen["rules"], name, r"[0-9a-f.:]*[.:][0-9a-f.:]+") == {one for one in routes if family in one}, (name, routes)

    def give_back(self, free, held, terms):
        """All is lifted by one who comes after: then the host is as it was, and the ledger holds nothing."""
        for name, control in sorted(terms.exempt()):
            assert self.once("exempt", AHEAD, service=[name], control=control, state="revoked", reason="over")["said"]
        names = sorted({*(enforcement["service"] for enforcement in held), *terms.proposed})
        for start in range(0, len(names), 5):
            done = self.once("lift", AHEAD, service=names[start:start + 5], case="all")
            assert done["said"] and done["outcome"] in (None, "changed", "unchanged"), done
        seen = self.host.seen()
        for part, wanted in free.items():
            assert seen[part] == wanted, (part, differing(seen[part], wanted))
        with L.open_ledger(self.url) as ledger, ledger.read() as tx:
            assert tx.active() == [] and tx.snapshot("kvm1")["baselines"] == [] and tx.snapshot("kvm1")["exemptions"] == []
            assert L.proposals(tx) == [] and tx.verify()["ok"]


class Model:
    """What terminations and exemptions amount to, action by action.

    `proposed` is `{service: (case, who asked)}`, `terminated` `{(case, service): [times over, active (0 or 1)]}`,
    `exemptions` `{(service, control): duration}`.
    """

    def __init__(self):
        self.proposed, self.terminated, self.exemptions, self._ending = {}, {}, {}, set()

    def do(self, action):
        args = action.args
        for name in args["service"]:
            if action.verb == "exempt" and args["state"] == "revoked":
                self.exemptions.pop((name, args["control"]), None)
            elif action.verb == "exempt":
                self.exemptions.setdefault((name, args["control"]), args["duration"])
            elif action.verb == "lift":
                if self.proposed.get(name, ("",))[0] == args["case"]:
                    del self.proposed[name]
                if self.terminated.get((args["case"], name), (0, 0))[1]:
                    self._ending.add((args["case"], name))
            elif args["kind"] == "terminate":
                self._ask(args["case"], name, action.person)

    def _ask(self, case, name, person):
        if self.terminated.get((case, name), (0, 0))[1]:
            return  # done, or still being taken back
        asked_for, persons = self.proposed.setdefault(name, (case, set()))
        assert asked_for == case, "%s is proposed for %s, and %s was not refused" % (name, asked_for, case)
        persons.add(person)
        if len(persons) == 2:
            del self.proposed[name]
            self.terminated.setdefault((case, name), [0, 0])[1] = 1

    def over(self, case, name):
        """A node was seen without it."""
        assert (case, name) in self._ending, "%s of %s ended, and nobody lifted it" % (name, case)
        self._ending.remove((case, name))
        self.terminated[case, name][0] += 1
        self.terminated[case, name][1] = 0

    def exempt(self):
        """Exemptions in force when what lasts an hour is over."""
        return {key for key, duration in self.exemptions.items() if duration == LONG}


def _dropped(tap, enforcements):
    """`(set, element)` of what drops mean for a port."""
    for enforcement in enforcements:
        if enforcement["kind"] != "drop":
            continue
        options = enforcement["options"]
        for way in ("in", "out") if options["direction"] == "both" else (options["direction"],):
            for source in options["sources"]:
                single = source.endswith(("/32", "/128"))
                yield ("drop_%s%d%s" % (way, 6 if ":" in source else 4, "" if single else "_nets"),
                       "%s . %s" % (tap, source.partition("/")[0] if single else source))


def soak(url, seed, actions=200, services=20, controllers=4, playbooks=10, say=print):
    """Run one soak on this ledger; returns figures."""
    say("soak: seed %d, %d actions, %d services, %d controllers, %d playbooks" % (seed, actions, services, controllers, playbooks))
    with tempfile.TemporaryDirectory(prefix="aup-soak-") as place, Host(services) as host:
        return Soak(host, url or "sqlite:///%s/ledger.db" % place, Path(place), seed, actions, controllers, playbooks, say).run()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--seed", type=int)
    for name, number in (("actions", 200), ("services", 20), ("controllers", 4), ("playbooks", 10)):
        parser.add_argument("--" + name, type=int, default=number)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    numbers = {name: getattr(given, name) for name in ("actions", "services", "controllers", "playbooks")}
    for kind in given.ledger or ["sqlite", "postgresql"]:
        if kind == "sqlite":
            print(kind, soak(None, seed, **numbers), flush=True)
            continue
        sys.path.insert(0, str(ROOT / "tests/integration/ledger"))
        from conftest import Server

        server = Server()
        try:
            print(kind, soak(server.new_database(), seed, **numbers), flush=True)
        finally:
            server.close()


if __name__ == "__main__":
    leave_on_signals()
    main()
