# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From names to data that nodes act on: what is refused, what stays, and for how long."""
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._pools import _data
from ansible_collections.hosting.aup.plugins.plugin_utils._pools._lists import Endpoint, PoolList
from ansible_collections.hosting.aup.plugins.plugin_utils._pools._names import Answer

NOW, HOUR, DAY = 1_800_000_000, 3600, 86400
SETTINGS = _data.Settings(observe_seconds=DAY, keep_seconds=DAY, stale_seconds=7 * DAY, most_addresses=8, accept_size=False,
                          accept_networks=())
SPARED = [("45.67.0.0/16", "the provider's own prefixes"), ("104.16.0.0/13", "Cloudflare"), ("45.90.28.1/32", "a resolver"),
          ("2a0c:1::/32", "the provider's own prefixes")]


def listed(*endpoints):
    return [PoolList("l", "0" * 64, frozenset(Endpoint(host, port, "mining") for host, port in endpoints), {}, [])]


def given_by(*addresses, ttl=300):
    return Answer(tuple(addresses), ttl, None if addresses else "nothing")


def run(former, lists, answers, now=NOW, **changes):
    return _data.update(former, lists, answers, _data.Spared(SPARED), now, SETTINGS._replace(**changes))


def keys(document):
    return {(e["address"], e["port"]) for e in document["endpoints"]}


def test_address_and_port_of_both_families_and_the_address_alone_on_common_ports():
    done = run(None, listed(("a.example.com", 3333), ("b.example.com", 443), ("c.example.com", None)), {
        "a.example.com": given_by("45.9.1.1", "2a01:4f8::1"), "b.example.com": given_by("45.9.1.2"),
        "c.example.com": given_by("45.9.1.3")})
    assert keys(done.document) == {("45.9.1.1", 3333), ("2a01:4f8::1", 3333), ("45.9.1.2", None), ("45.9.1.3", None)}
    assert {e["first_seen"] for e in done.document["endpoints"]} == {NOW} and not done.notes


@pytest.mark.parametrize("address, part", [
    ("45.67.1.1", "provider's own"), ("2a0c:1::7", "provider's own"), ("104.16.9.9", "Cloudflare"), ("45.90.28.1", "a resolver"),
    ("0.0.0.0", "no public"), ("127.0.0.1", "no public"), ("::", "no public"), ("::1", "no public"), ("10.1.1.1", "no public"),
    ("224.0.0.1", "no public"), ("255.255.255.255", "no public"), ("ff02::1", "no public"), ("169.254.169.254", "no public"),
    ("64:ff9b::2d09:101", "NAT64"), ("::ffff:45.9.1.1", "IPv4 address"), ("2002:2d09:101::", "6to4"), ("100.64.0.1", "no public"),
])
def test_addresses_that_never_become_data(address, part):
    lists = listed(("a.example.com", 1), ("b.example.com", 2))
    former = run(None, lists, {"a.example.com": given_by("45.9.1.1"), "b.example.com": given_by("45.9.1.2")}).document
    done = run(former, lists, {"a.example.com": given_by(address), "b.example.com": given_by("45.9.1.2")}, now=NOW + HOUR)
    assert keys(done.document) == keys(former)
    assert len(done.notes) == 1 and "a.example.com" in done.notes[0] and part in done.notes[0]


def test_one_bad_address_does_not_spoil_the_others_of_its_name():
    done = run(None, listed(("a.example.com", 1)), {"a.example.com": given_by("45.9.1.1", "104.16.0.1")})
    assert keys(done.document) == {("45.9.1.1", 1)} and len(done.notes) == 1


@pytest.mark.parametrize("answer, part", [
    (given_by(), "no address"), (given_by(*("45.9.%d.%d" % (n // 250, n % 250) for n in range(5000))), "5000 addresses"),
    (Answer((), 0, "failed"), "no usable answer"),
])
def test_a_name_that_says_nonsense_keeps_its_former_addresses_until_they_are_stale(answer, part):
    lists = listed(("a.example.com", 1), ("b.example.com", 2))
    good = {"a.example.com": given_by("45.9.1.1"), "b.example.com": given_by("45.9.1.2")}
    former = run(None, lists, good).document
    later = run(former, lists, dict(good, **{"a.example.com": answer}), now=NOW + 3 * DAY)
    assert keys(later.document) == keys(former) and part in later.notes[0] and later.summary["kept"] == 1
    with pytest.raises(InputError, match="shrank"):  # one of two is half of it
        run(former, lists, dict(good, **{"a.example.com": answer}), now=NOW + 8 * DAY)
    gone = run(former, lists, dict(good, **{"a.example.com": answer}), now=NOW + 8 * DAY, accept_size=True)
    assert keys(gone.document) == {("45.9.1.2", 2)}


def test_a_new_address_counts_as_new_and_an_old_one_keeps_its_date_while_names_rotate():
    lists = listed(("a.example.com", 1))
    first = run(None, lists, {"a.example.com": given_by("45.9.1.1")}).document
    second = run(first, lists, {"a.example.com": given_by("45.9.1.2")}, now=NOW + HOUR).document
    assert {e["address"]: e["first_seen"] for e in second["endpoints"]} == {"45.9.1.1": NOW, "45.9.1.2": NOW + HOUR}
    third = run(second, lists, {"a.example.com": given_by("45.9.1.1")}, now=NOW + 2 * HOUR).document
    assert {e["address"]: e["first_seen"] for e in third["endpoints"]} == {"45.9.1.1": NOW, "45.9.1.2": NOW + HOUR}
    fourth = run(third, lists, {"a.example.com": given_by("45.9.1.1")}, now=NOW + 2 * DAY, accept_size=True).document
    assert keys(fourth) == {("45.9.1.1", 1)}


def test_a_name_taken_off_the_list_and_an_address_that_became_ours_go_at_once():
    lists = listed(*(("h%d.example.com" % n, 1) for n in range(8)))
    answers = {"h%d.example.com" % n: given_by("45.9.1.%d" % (n + 1)) for n in range(8)}
    former = run(None, lists, answers).document
    del answers["h0.example.com"]
    done = _data.update(former, listed(*(("h%d.example.com" % n, 1) for n in range(1, 8))), answers,
                        _data.Spared([*SPARED, ("45.9.1.2/32", "the provider's own prefixes")]), NOW + 1, SETTINGS)
    assert keys(done.document) == {("45.9.1.%d" % n, 1) for n in range(3, 9)}


def many(size, addresses_each=1):
    lists = listed(*(("h%d.example.com" % n, 1) for n in range(size)))
    return lists, {"h%d.example.com" % n: given_by(*(
        str(ipaddress.ip_address("45.9.0.0") + n * 8 + k) for k in range(addresses_each))) for n in range(size)}


@pytest.mark.parametrize("before, after, refused", [
    ((40, 1), (20, 1), "shrank"), ((40, 1), (21, 1), None), ((40, 1), (80, 1), None), ((40, 1), (81, 1), "doubled"),
    ((40, 1), (40, 3), "doubled"), ((3, 1), (19, 1), None),
])
def test_the_band(before, after, refused):
    former = run(None, *many(*before)).document
    if refused is None:
        assert len(run(former, *many(*after)).document["endpoints"]) >= after[0]
        return
    with pytest.raises(InputError, match=refused) as caught:
        run(former, *many(*after))
    assert "former data stays" in caught.value.remedy
    assert run(former, *many(*after), accept_size=True).document


def test_when_most_names_fail_the_resolvers_are_at_fault():
    lists, answers = many(10)
    former = run(None, lists, answers).document
    for host in list(answers)[:6]:
        answers[host] = Answer((), 0, "failed")
    with pytest.raises(InputError, match="6 of 10") as caught:
        run(former, lists, answers)
    assert caught.value.target == "resolvers"


def test_nothing_left_is_refused():
    with pytest.raises(InputError, match="no address is left"):
        run(None, listed(("a.example.com", 1)), {"a.example.com": given_by("10.0.0.1")})


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.dictionaries(st.sampled_from(["h%d.example.com" % n for n in range(6)]),
                       st.lists(ADDRESSES, max_size=12), min_size=1))
def test_whatever_names_say_nothing_spared_comes_through(said):
    lists = listed(*((host, 7) for host in said))
    answers = {host: given_by(*sorted(set(addresses))) for host, addresses in said.items()}
    try:
        document = run(None, lists, answers).document
    except InputError:
        return
    for entry in document["endpoints"]:
        address = ipaddress.ip_address(entry["address"])
        assert address.is_global and not address.is_multicast
        assert not any(address in ipaddress.ip_network(prefix) for prefix, _what in SPARED
                       if ipaddress.ip_network(prefix).version == address.version)
        assert entry["hosts"] and all(entry["address"] in answers[host].addresses for host in entry["hosts"])
