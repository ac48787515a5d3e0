# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs, profiles and what is refused of them before nft sees it."""
from __future__ import annotations

import re
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls import CONTROLS
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._profiled import braced, number
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._signs import sign, start
from ansible_collections.hosting.aup.plugins.module_utils._controls import TERMS, Decision
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

Setting = namedtuple("Setting", "mode options")
PORTS = st.lists(st.integers(1, 65535), min_size=1, max_size=6, unique=True)
MINUTE = st.integers(1, 1000000)
OPTIONS = {
    "irc_server": st.fixed_dictionaries({"clients_allowed": st.booleans(), "listeners_refused": st.booleans(), "ports": PORTS}),
    "reflection": st.fixed_dictionaries({"ports": PORTS, "limited_ports": PORTS,
                                         "limited_rate": st.integers(1, 9999).map("{} kbit/s".format)}),
    "new_connections": st.fixed_dictionaries({"per_minute": MINUTE, "destinations_per_minute": MINUTE, "mail_per_minute": MINUTE}),
}


class ByPlace:
    """The part of a policy that says what a control is where."""

    locations, account_types = frozenset(["ams", "fra"]), frozenset(["business", "personal"])

    def __init__(self, settings):
        self.settings = settings

    def control(self, name, location, account_type):
        return self.settings[location, account_type]

    def unknown_port(self, name, location):
        return self.settings[location, None]


def holds(match, payload):
    """Whether a packet that carries this payload matches, as the kernel compares it."""
    for offset, size, value in re.findall(r"@ih,(\d+),(\d+) 0x([0-9a-f]+)", match):
        at, length = int(offset) // 8, int(size) // 8
        assert length <= 16 and length * 2 == len(value)
        if payload[at:at + length] != bytes.fromhex(value):
            return False
    return True


@given(st.binary(min_size=1, max_size=50), st.integers(0, 40), st.binary(max_size=100))
def test_a_sign_is_the_words_at_their_place_and_nothing_else(words, offset, payload):
    carried = payload[:offset].ljust(offset, b".") + words + payload[offset:]
    assert holds(sign(words, offset), carried)
    assert holds(sign(words, offset), payload) == (payload[offset:offset + len(words)] == words)
    assert not holds(sign(words, offset), carried[:offset + len(words) - 1])


def test_the_start_of_words_is_a_key_in_network_order():
    assert start(b"GET /") == "0x4745"


@pytest.mark.parametrize("name", sorted(OPTIONS))
@given(st.data())
def test_every_guest_has_a_profile_the_node_knows(name, data):
    """Wherever it is, whoever it is, known or not; and equal options are one profile."""
    terms = TERMS[name]
    few = data.draw(st.lists(OPTIONS[name], min_size=1, max_size=3))
    settings = {(location, account): Setting(data.draw(st.sampled_from(("off", "observe", "enforce"))), data.draw(st.sampled_from(few)))
                for location in ByPlace.locations for account in (*ByPlace.account_types, None)}
    profiles = terms.parameters({"house@1": ByPlace(settings)}, None, None, 0)["profiles"]
    judged = [setting for setting in settings.values() if setting.mode != "off"]
    named = {terms.options(None, Decision(setting.mode, setting.options, None, ""))["profile"] for setting in judged}
    assert named == set(profiles) and len(profiles) <= len(few)
    # What is sent for the node makes rules, and each guest's element leads to a chain of them.
    for family in ("bridge", "inet"):
        text = CONTROLS[name].chains(family, {"profiles": profiles})
        for profile in profiles:
            port = {"name": "tap1", "controls": {name: {"mode": "observe", "profile": profile}}}
            for elements in CONTROLS[name].port_elements(port, '"tap1"', family).values():
                for element in elements:
                    if " : goto " in element:
                        assert "    chain %s {\n" % element.rpartition(" ")[2] in text


@given(OPTIONS["reflection"])
def test_a_limited_port_is_not_refused_as_well(options):
    found = TERMS["reflection"].profile_options(options)
    assert not set(found["ports"]) & set(found["limited_ports"])
    assert set(found["ports"]) | set(found["limited_ports"]) == set(options["ports"]) | set(options["limited_ports"])


@pytest.mark.parametrize("bad", ["", "x; drop", "0123456789AB", "0123456789ab ", None, 7])
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_profile_that_is_none_never_reaches_nft(name, bad):
    port = {"name": "tap1", "controls": {name: {"mode": "observe", "profile": bad}}}
    with pytest.raises(InputError):
        CONTROLS[name].port_elements(port, '"tap1"', "bridge")


@pytest.mark.parametrize("bad", [[], [0], [65536], ["80; drop"], [True]])
def test_ports_that_are_none_never_reach_nft(bad):
    with pytest.raises(InputError):
        braced(bad)


@pytest.mark.parametrize("bad", [0, -1, True, "60", 1.5, None, 10 ** 13])
def test_limits_that_are_none_never_reach_nft(bad):
    with pytest.raises(InputError):
        number(bad, "per_minute")
