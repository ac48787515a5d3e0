# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of ports and of mining pools, as far as a cluster's firewall takes them."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._proxmox._firewall import MOST_POOL_SETS, MOST_POOLS, pools_by_ports, port_lists

PORTS = st.lists(st.integers(1, 65535), max_size=256)


@given(PORTS)
def test_lists_of_ports_are_what_the_server_takes_and_say_the_same(ports):
    seen: list[int] = []
    for text in port_lists(ports):
        assert len(text.replace(":", ",").split(",")) <= 15
        for item in text.split(","):
            first, _, last = item.partition(":")
            seen += range(int(first), int(last or first) + 1)
    assert seen == sorted(set(ports))


@given(st.lists(st.tuples(st.integers(1, 40), st.none() | st.integers(1, 90)), max_size=400))
def test_pools_are_kept_by_their_ports_up_to_a_limit(pairs):
    endpoints = [[f"198.51.100.{number}", port] for number, port in pairs]
    kept, left = pools_by_ports(endpoints)
    wanted: dict[str, set] = {}
    for address, port in endpoints:
        wanted.setdefault(address, set()).add(port)
    found = {address: ports for ports, addresses in kept.items() for address in addresses}
    assert all((ports is None) == (None in wanted[address]) and (ports is None or set(ports) == wanted[address])
               for address, ports in found.items())
    assert len(found) + left == len(wanted) and len(kept) <= MOST_POOL_SETS and (left == 0 or len(kept) == MOST_POOL_SETS)


def test_more_pools_than_the_cluster_is_given():
    whole = [[f"10.{number >> 8}.{number & 255}.1", 3333] for number in range(MOST_POOLS + 5)]
    kept, left = pools_by_ports([*whole, ["192.0.2.1", None]])
    assert left == 6 and kept[None] == ["192.0.2.1"] and len(kept[3333,]) == MOST_POOLS - 1
