# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a test node: programs of other releases on this release's files, and the other way round; what was seen, as JSON.

The programs are /run/older, /run/now and /run/newer, run by the distribution's Python as their unit would run them.

    python -m tests.integration.keeper.two_versions
"""
from __future__ import annotations

import json
import time
from pathlib import Path

import libvirt

from ansible_collections.hosting.aup.plugins.module_utils._wire import pack, unpack
from tests.integration.soak import inside, pairs

FILES = Path("/var/lib/hosting_aup")


def program(name, *words, text=None):
    """Run one of the programs: `{"rc", "said"}`."""
    rc, out, err = inside.run(["/usr/bin/python3", "-I", "/run/" + name, "--clock", "trusted", *words], text)
    return {"rc": rc, "said": (out + err).strip()}


class Story:
    """A host under the module of this release."""

    def __init__(self):
        self.house = pairs.House()
        self.house.now = int(time.time()) - 100
        connection = libvirt.open("qemu:///system")
        self.running, self.off = connection.lookupByName("vps-1"), connection.lookupByName("vps-2")

    def held(self, share=None):
        """vps-1 suspended by an enforcement whose time is over by now; a processor throttle of vps-2 without end."""
        self.house.ends = {"suspend": self.house.now + 50}
        self.house.options["cpu_throttle"] = {"share": share}
        self.house.converge_all({"vps-1": ["suspend", "port_block"], "vps-2": ["cpu_throttle"] if share else []})
        return unpack((FILES / "desired.z").read_text())["format"]

    def seen(self):
        return {"state": self.running.state()[0], "quota": self.off.schedulerParametersFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG)["global_quota"],
                "rules": pairs.seen(inside.observe(2))["rules"]}

    def ended(self):
        return [entry["what"] for entry in self.house.node.state.journal.read()["entries"]]

    def free(self):
        """All over, and the journal taken in."""
        journal = self.house.node.state.journal.untaken()
        if journal:
            self.house.node.state.journal.drop(journal["journal"], journal["entries"][-1]["number"])
        self.house.converge_all({})


def main():
    story, found = Story(), {}
    # An older program on this release's files: what it can read it carries out, and this release goes on from there.
    found["format"] = [story.held("20%")]
    found["older passes"] = {"done": program("older", "pass"), "seen": story.seen(), "journal": story.ended(),
                             "then": program("now", "pass"), "journal then": story.ended()}
    story.free()
    # What it would misread it leaves alone, whole.
    found["format"].append(story.held("0.4 cores"))
    before, boot = story.seen(), story.off.XMLDesc(0)
    found["older refuses"] = {
        "done": program("older", "pass"), "same": story.seen() == before, "state": before["state"], "quota": before["quota"],
        "hook": program("older", "hook", "vps-2", "start", "begin", "-", text=boot), "journal": story.ended(),
        "then": program("now", "pass"), "seen": story.seen(), "journal then": story.ended()}
    story.free()
    # A newer one on this release's files; what it adds to them this release keeps.
    story.held("20%")
    found["newer passes"] = {"done": program("newer", "pass"), "seen": story.seen(), "journal": story.ended(),
                             "hand": program("newer", "hold", "vps-1", "--reason", "x"), "held": story.seen()["state"],
                             "kept": "of_a_newer_release" in json.loads((FILES / "state.json").read_text())}
    found["then now"] = {"done": program("now", "pass"), "released": program("now", "release", "vps-1"), "seen": story.seen(),
                         "kept": "of_a_newer_release" in json.loads((FILES / "state.json").read_text())}
    story.free()
    # And this release under a newer one's desired state.
    story.held("20%")
    later = dict(unpack((FILES / "desired.z").read_text()), format=3)
    (FILES / "desired.z").write_text(pack(later))
    before = story.seen()
    found["now refuses"] = {"done": program("now", "pass"), "same": story.seen() == before, "newer": program("newer", "pass"),
                            "seen": story.seen()}
    story.free()
    found["free"] = story.seen()
    print(json.dumps(dict(found, wrong=story.house.errors)))


if __name__ == "__main__":
    main()
