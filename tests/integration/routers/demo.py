# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story on routers (``make demo BACKEND=router``): every line printed is checked first. Run as root."""
from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from tests.integration.netns import exit_of
from tests.integration.routers.provider import Provider
from tests.integration.routers.router_lab import NEIGHBOUR, ROUTER, VICTIM, RouterLab, eventually

HOSTS = ("203.0.113.10/32", "2001:db8:100::10/128")
BOTH, NEITHER = [True, True], [False, False]


def say(text):
    """A line of the story."""
    print("%s  %s" % (time.strftime("%H:%M:%S"), text), flush=True)


def dropped(lab, space):
    """Whether an upstream's kernel drops both of the victim's addresses."""
    return all(lab.kernel(space, prefix) == "blackhole" for prefix in HOSTS)


def story(lab, provider):
    """Tell it; a claim that is not true raises AssertionError."""
    say("one edge (FRR), upstreams up1 (FRR) and up2 (BIRD), a witness (ExaBGP); from outside both services answer:")
    assert lab.reach() == {"victim": BOTH, "neighbour": BOTH}
    say("    vps-10 %s and its neighbour vps-20 %s" % (" ".join(VICTIM), " ".join(NEIGHBOUR)))
    provider.provision()

    opened = provider.null_route("vps-10", case="T-4711", duration="4h", rtbh="true")
    began = time.monotonic()
    done = provider.converge(run_id=opened["run_id"])
    assert done["outcome"] == "changed" and not done["errors"], done["errors"]
    say("vps-10 is attacked. %s" % opened["what"][-1])
    for step in done["steps"]:
        say("    edge(config)# %s" % step["commands"][0])
    say("    in the edge's forwarding table, announced and saved after %.1f s" % (time.monotonic() - began))
    for space, name in (("up1", "FRR"), ("up2", "BIRD")):
        eventually("%s drops it" % space, lambda s=space: dropped(lab, s))
        say("    the kernel of %s (%s) drops %s" % (space, name, " and ".join(HOSTS)))
    heard = eventually("the witness heard it", lambda: lab.heard().get(HOSTS[0]) and lab.heard().get(HOSTS[1]))
    say("    the witness heard it with the communities %s" % " ".join(heard))
    eventually("dark", lambda: lab.reach() == {"victim": NEITHER, "neighbour": BOTH})
    say("    from outside: vps-10 is dark on IPv4 and IPv6, its neighbour keeps serving on both")

    provider.late = 4 * 3600 + 1
    due = provider.ask(requests.end_what_is_due)
    assert [e["id"] for e in due["enforcements"]] == [opened["enforcements"][0]["id"]]
    say("four hours later (the clock is moved to %s) reconcile ends it" % iso(int(provider.clock())))
    done = provider.converge(run_id=due["run_id"])
    assert not done["errors"] and [step["action"] for step in done["steps"]] == ["remove", "remove"]
    eventually("all answer", lambda: lab.reach() == {"victim": BOTH, "neighbour": BOTH})
    eventually("withdrawn", lambda: all(lab.heard().get(prefix) is None for prefix in HOSTS))
    assert not dropped(lab, "up1") and not dropped(lab, "up2")
    say("    withdrawn from both upstreams and the witness; vps-10 answers again")
    assert lab.edge.running == lab.pristine
    say("    the edge's configuration is to the letter what it was")


def main():
    """Build the lab, tell the story, take the lab down."""
    say("building the network in namespaces …")
    with RouterLab() as lab, tempfile.TemporaryDirectory() as folder, Provider(Path(folder), lab.sshd.target(), ROUTER) as provider:
        story(lab, provider)
    say("taken down")
    return 0


if __name__ == "__main__":
    sys.exit(exit_of(main))
