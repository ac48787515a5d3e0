# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls whose options differ between guests of one node. Pure. PRIVATE to the collection.

Policies give few distinct options, by location and account type. Each is a *profile*: chains of its own with ports
and limits spelled out in the rules, and one element per port that leads there. So options cost a packet nothing.
"""
from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import _names
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._control import Control, chain
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

_PROFILE = re.compile(r"[0-9a-f]{12}")


def braced(ports):
    """Ports as an anonymous set.

    :raises InputError: for what is no port, or none at all
    """
    numbers = sorted({int(_names.tcp_port(port)) for port in ports})
    if not numbers:
        raise InputError("a control has an empty list of ports.", target="ports", remedy="Correct the desired state.")
    return "{ %s }" % ", ".join(map(str, numbers))


def number(value, what):
    """A limit as text.

    :raises InputError: if it is not a whole number from 1 to 10 ** 12
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10 ** 12:
        raise InputError("%s %r is not a whole number above zero." % (what, value), target=what,
                         remedy="Correct the desired state.")
    return "%d" % value


class ProfiledControl(Control):
    """A control with profiles; subclasses give `profile_chains` and lead packets to `by_profile`."""

    def profile_chains(self, family, direction, name, options):
        """Chains of one profile, as text; the one packets come in by is called `name`."""
        raise NotImplementedError

    def by_profile(self, direction, parameters):
        """The rule that leads a packet to its port's profile.

        With one profile on the node it leads there at once: that spares a lookup. When tables are replaced, a packet half way
        through the former rules finds their maps empty, so fewer maps let fewer of them out.
        """
        if len(parameters["profiles"]) == 1:
            return "goto " + self._chain(direction, *parameters["profiles"])
        return "%s vmap @%s_profile_%s" % ("iifname" if direction == "from" else "oifname", self.name, direction)

    def chains(self, family, parameters):
        """Chains of all profiles."""
        parts = []
        for profile, options in sorted(parameters["profiles"].items()):
            for direction in self.directions:
                parts.append(self.profile_chains(family, direction, self._chain(direction, profile), options))
        return "".join(parts)

    def port_elements(self, port, quoted, family):
        """The port's element in the map of profiles."""
        profile = port["controls"][self.name]["profile"]
        return {"%s_profile_%s" % (self.name, direction): {"%s : goto %s" % (quoted, self._chain(direction, profile))}
                for direction in self.directions}

    def _chain(self, direction, profile):
        if not isinstance(profile, str) or not _PROFILE.fullmatch(profile):
            raise InputError("profile %r of %s is none." % (profile, self.name), target=self.name,
                             remedy="Correct the desired state.")
        return "%s_%s_%s" % (self.name, direction, profile)


__all__ = ["ProfiledControl", "braced", "chain", "number"]
