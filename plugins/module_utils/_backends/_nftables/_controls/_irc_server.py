# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""IRC servers: links to other servers, and listeners. Pure. PRIVATE to the collection.

What policies forbid is the server that links to a network. A link shows by words that only servers send, at the
beginning of a segment: `CAPAB START ` (InspIRCd), `CAPAB :` and `SVINFO 6 ` (TS6), `PROTOCTL EAUTH=` (UnrealIRCd) on
any port, `SERVER ` (RFC 2813) only where one of the ports is IRC's, because text may begin so. Both directions are
looked at: the called server's first words may stand behind a `PASS`, which clients send as well.

A listener on an IRC port may as well be a bouncer: it is counted, and refused only where the policy says so. Nothing a
client sends is a sign. Not seen: links over TLS, links whose words all stand behind a `PASS` in one segment.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._profiled import (
    ProfiledControl,
    braced,
    chain,
)
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._signs import FLOW_SAMPLES, sign, start
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import spec


class IrcServer(ProfiledControl):
    """Options of a profile: `ports`, `listeners_refused`, `clients_allowed`."""

    name = "irc_server"
    letter = "i"
    directions = ("from", "to")
    sets = {
        "irc_server_profile_from": spec("ifname : verdict"),
        "irc_server_profile_to": spec("ifname : verdict"),
        "irc_server_listeners": spec("ifname", counted=True),
    }
    samples = FLOW_SAMPLES

    def rules(self, family, direction, parameters):
        """TCP only."""
        return ["meta l4proto tcp " + self.by_profile(direction, parameters)]

    def profile_chains(self, family, direction, name, options):
        """Listeners and clients by flags and ports, links by words."""
        hit, ports = " goto " + self.hit(direction), braced(options["ports"])
        words = name + "_words"
        first = []
        if direction == "from":
            first.append("tcp sport %s tcp flags & (syn | ack) == syn | ack %s" % (
                ports, hit if options["listeners_refused"] else "goto irc_server_listener"))
            if not options["clients_allowed"]:
                first.append("tcp dport %s tcp flags & (syn | ack) == syn %s" % (ports, hit))
        first.append("@ih,0,16 vmap { %s }" % ", ".join(
            "%s : goto %s" % (start(two), words) for two in (b"SE", b"CA", b"SV", b"PR")))
        return chain(name, first) + chain(words, [
            sign(b"CAPAB START ") + hit,
            sign(b"CAPAB :") + hit,
            sign(b"SVINFO ") + " @ih,56,8 0x30-0x39 " + sign(b" ", 8) + hit,
            sign(b"PROTOCTL EAUTH=") + hit,
            "tcp sport %s " % ports + sign(b"SERVER ") + hit,
            "tcp dport %s " % ports + sign(b"SERVER ") + hit,
        ])

    def chains(self, family, parameters):
        """Those of the profiles, and the one that counts listeners."""
        return super().chains(family, parameters) + chain(
            "irc_server_listener", ["%s %s" % (match, self._sample(name, key)) for name, match, key, _kind in self.each_sample()]
            + ["iifname @irc_server_listeners return"])

    def port_elements(self, port, quoted, family):
        """Also whether its listeners are only counted."""
        found = super().port_elements(port, quoted, family)
        found["irc_server_listeners"] = {quoted}
        return found

    def control_of_set(self):
        """A listener that is only counted counts as observed."""
        return dict(super().control_of_set(), irc_server_listeners="irc_server_observed")
