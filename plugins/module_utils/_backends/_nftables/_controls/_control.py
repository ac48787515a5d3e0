# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all controls on a guest's packets have in common. Pure. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import spec

# Samples of evidence stay this long in the kernel; a pass takes them into the node's state.
SAMPLE_SECONDS = 3600
SAMPLE = "size 8192; flags dynamic,timeout; timeout 1h;"
_INTERFACE = {"from": "iifname", "to": "oifname"}
# One guest may not fill the room of all: so many samples it adds at most.
_PACE = "limit rate 10/minute burst 10 packets"


class Control:
    """One control on the packets of guests' ports; see the package for how to write one.

    :cvar name: as policies call it
    :cvar letter: one letter of its own, for the names of chains (`from_ai`)
    :cvar directions: `from`, `to` or both: which of a port's packets it sees
    :cvar sets: `{name: SetSpec}` of its own, in both tables; names begin with the control's
    :cvar counters: named counters of its own, in both tables; names begin with the control's
    :cvar samples: `((set, match, key, type, words), …)`: of each packet refused or observed the key is kept as evidence
        in a set of `ifname . type`, if the match holds: `("seen4", "meta protocol ip", "ip saddr", "ipv4_addr", "source ")`;
        match None: rules of its own keep it, by the line `_sample` gives. The words, which may be left out, go before it
        where people read it
    :cvar phrases: `{set: words for a diff, or None}`; a `%s` takes the last part of the element
    :cvar reload: `((as nft lists it, as it must be read again), …)`, bridge table; see `_plan.snapshot_script`
    """

    name = ""
    letter = ""
    directions = ("from",)
    sets = {}
    counters = ()
    samples = ()
    phrases = {}
    reload = ()

    def rules(self, family, direction, parameters):
        """The lines of its chain: `return` what is not its business, `goto` self.hit(direction) what is refused.

        :param family: bridge or inet
        :param direction: from or to (a port)
        :param parameters: what the desired state says for the whole node
        """
        raise NotImplementedError

    def chains(self, family, parameters):
        """Further chains, as text, each `    chain NAME {\\n … }\\n`."""
        return ""

    def port_elements(self, port, quoted, family):
        """`{set: elements}` of one port, for its own table.

        :param port: of the filter model; `port["controls"][name]` holds mode and options
        :param quoted: its name as nft wants it
        """
        return {}

    def node_elements(self, parameters):
        """`{set: elements}` for both tables."""
        return {}

    def refuse(self, family, direction):
        """The verdict on what is refused."""
        return "drop"

    # -- the same for all -------------------------------------------------------------------

    def hit(self, direction):
        """The chain a packet goes to that is to be refused or counted."""
        return "%s_hit_%s" % (self.name, direction)

    def entry(self, direction):
        """The chain a port's packets come in by."""
        return "%s_%s" % (self.name, direction)

    def all_sets(self):
        """Its own sets, and those all controls have."""
        found = dict(self.sets)
        found[self.name + "_enforce"] = spec("ifname", counted=True)
        found[self.name + "_observe"] = spec("ifname", counted=True)
        for name, _match, _key, kind in self.each_sample():
            found["%s_%s" % (self.name, name)] = spec("ifname . " + kind, dynamic=SAMPLE)
        if self.samples:
            found[self.name + "_pace"] = spec("ifname", dynamic=SAMPLE)
        return found

    def control_of_set(self):
        """`{counted set: what its counts are evidence for}`."""
        return {self.name + "_enforce": self.name + "_refused", self.name + "_observe": self.name + "_observed"}

    def all_phrases(self):
        """Words for the sets all controls have, and its own."""
        return dict({self.name + "_enforce": self.name + " enforced", self.name + "_observe": self.name + " observed"},
                    **{name: self.phrases.get(name) for name in self.sets})

    def text(self, family, parameters):
        """All its chains."""
        parts = [self.chains(family, parameters)]
        for direction in self.directions:
            hit = ["%s %s" % (match, self._sample(name, key, direction))
                   for name, match, key, _kind in self.each_sample() if match is not None]
            parts.append(chain(self.hit(direction), hit + self.verdict(direction, family)))
            parts.append(chain(self.entry(direction), self.rules(family, direction, parameters)))
        return "".join(parts)

    def each_sample(self):
        """`(set, match, key, type)` of each."""
        return [one[:4] for one in self.samples]

    def _sample(self, name, key, direction="from"):
        """The line that keeps a sample, at a bounded pace."""
        interface = _INTERFACE[direction]
        return "update @%s_pace { %s %s } update @%s_%s { %s . %s counter }" % (
            self.name, interface, _PACE, self.name, name, interface, key)

    def verdict(self, direction, family):
        """The lines that refuse or count a packet by the port's mode."""
        interface = _INTERFACE[direction]
        return ["%s @%s_enforce %s" % (interface, self.name, self.refuse(family, direction)),
                "%s @%s_observe return" % (interface, self.name)]

    def judged(self, port, quoted, family):
        """`port_elements` with the port's mode."""
        found = {name: set(elements) for name, elements in self.port_elements(port, quoted, family).items()}
        found.setdefault("%s_%s" % (self.name, port["controls"][self.name]["mode"]), set()).add(quoted)
        return found


def chain(name, rules):
    """Text of a chain without a hook."""
    return "    chain %s {\n%s    }\n" % (name, "".join("        %s\n" % rule for rule in rules))
