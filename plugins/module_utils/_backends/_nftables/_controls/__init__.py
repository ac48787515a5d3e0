# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls on guests' packets, one file each, put together for the node that needs them. Pure. PRIVATE to the collection.

`smtp_outbound` is older and lives in `_ruleset`: it binds ports nobody knows by rules. All others bind ports that
the filter model names. How a packet comes to them:

    prerouting:  iifname vmap @from_controls        one lookup of the port, for all controls together
    from_ai:     jump anti_spoofing_from            the profile of the port: the controls that judge it
                 jump irc_server_from
    irc_server_from:  …  goto irc_server_hit_from   what the control's file says
    irc_server_hit_from:  samples; iifname @irc_server_enforce drop; iifname @irc_server_observe return

and the same with `to_`, `oifname` and postrouting for what goes to a port. Both tables have the same chains: the
bridge table's are reached by bridged ports, the inet table's by routed taps. A port that no control judges isn't in
the map. A control nobody on the node is under has neither sets nor rules.

To add a control NAME:

1. here: a file `_NAME.py` with a subclass of `Control` (its docstring says what to give), and a line in `_ALL`;
2. `module_utils/_controls/`: what `resolve` sends to the node for it, a subclass of `Terms`, and a line there;
3. options in `_policy/_document.py`; words for the counts in `plugin_utils/_explain.py`.

A control never accepts: it returns (next control) or goes to `hit`. Counts per port, folding when a port goes, first
and last time, samples, disarming, exemption and modes come with the base class and the filter model. Per-element
counters of sets of your own go into `control_of_set`. Dynamic sets (meters, limits) are given `dynamic=` text with a
size: they are never compared with anything and, unless they are `samples`, begin anew when the rules are rebuilt.
In the bridge table write `meta protocol ip` / `ip6` before a match on an IP header: a tag hides it otherwise.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._anti_spoofing import AntiSpoofing
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._control import SAMPLE_SECONDS, Control, chain
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._mining import Mining
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._bittorrent import BitTorrent
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._irc_server import IrcServer
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._new_connections import NewConnections
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._reflection import Reflection
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import spec
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

__all__ = ["CONTROLS", "CONTROL_OF_SET", "COUNTERS", "DIRECTIONS", "MAPS", "PHRASES", "RELOAD", "SAMPLES", "SAMPLE_SECONDS", "SETS",
           "Control", "chain", "chosen", "jumps", "port_elements", "text"]

_ALL = (AntiSpoofing(), Mining(), Reflection(), BitTorrent(), IrcServer(), NewConnections())

CONTROLS = {control.name: control for control in _ALL}
DIRECTIONS = ("from", "to")
MAPS = {direction + "_controls": spec("ifname : verdict") for direction in DIRECTIONS}
SETS = dict(MAPS)
CONTROL_OF_SET, PHRASES, SAMPLES = {}, dict.fromkeys(MAPS), {}
for _control in _ALL:
    SETS.update(_control.all_sets())
    CONTROL_OF_SET.update(_control.control_of_set())
    PHRASES.update(_control.all_phrases())
    SAMPLES.update(("%s_%s" % (_control.name, one[0]), (_control.name, "".join(one[4:]))) for one in _control.samples)
COUNTERS = tuple(name for control in _ALL for name in control.counters)
RELOAD = tuple(pair for control in _ALL for pair in control.reload)


def chosen(model):
    """The controls in use on this node, in the order they judge.

    :raises InputError: for a control this version has no rules for
    """
    wanted = model.get("controls") or {}
    for name in wanted:
        if name not in CONTROLS:
            raise InputError("control %r has no rules here." % (name,), target=str(name),
                             remedy="Run with the collection that made the desired state.")
    return [control for control in _ALL if control.name in wanted]


def _judging(port, controls, direction):
    """Letters of the controls that judge a port's packets in a direction."""
    return "".join(control.letter for control in controls
                   if direction in control.directions and control.name in (port.get("controls") or {}))


def _profiles(model, controls, direction):
    """All profiles to have: those in use, and those that are one exemption away, so that it changes elements only."""
    letters = [control.letter for control in controls if direction in control.directions]
    found = {"".join(letters)} | set(letters)
    found.update("".join(letter for letter in letters if letter != left) for left in letters)
    found.update(_judging(port, controls, direction) for port in model["ports"])
    return sorted(found - {""})


def sets_of(controls):
    """`{name: SetSpec}` of the controls in use."""
    found = {}
    for control in controls:
        found.update(control.all_sets())
        found.update((direction + "_controls", MAPS[direction + "_controls"]) for direction in control.directions)
    return found


def jumps(controls, direction):
    """The line that leads a port's packets to its controls, for the base chain; empty without any."""
    if not any(direction in control.directions for control in controls):
        return ""
    return "        %s vmap @%s_controls\n" % ("iifname" if direction == "from" else "oifname", direction)


def text(family, model, controls):
    """The chains of all controls in use and of all profiles."""
    by_letter = {control.letter: control for control in controls}
    parts = [control.text(family, model["controls"][control.name]) for control in controls]
    for direction in DIRECTIONS:
        parts += [chain("%s_%s" % (direction, profile), ["jump " + by_letter[letter].entry(direction) for letter in profile])
                  for profile in _profiles(model, controls, direction)]
    return "".join(parts)


def port_elements(port, quoted, family, controls):
    """`{set: elements}` of one port, for its own table.

    :raises InputError: for a mode that is neither observe nor enforce
    """
    found = {}
    for control in controls:
        setting = (port.get("controls") or {}).get(control.name)
        if setting is None:
            continue
        if setting["mode"] not in ("observe", "enforce"):
            raise InputError("mode %r of %s for port %s is neither observe nor enforce." % (
                setting["mode"], control.name, port["name"]), target=port["name"], remedy="Correct the desired state.")
        found.update(control.judged(port, quoted, family))
    for direction in DIRECTIONS:
        profile = _judging(port, controls, direction)
        if profile:
            found[direction + "_controls"] = {"%s : jump %s_%s" % (quoted, direction, profile)}
    return found
