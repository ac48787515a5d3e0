# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: do not use this fragment in other collections, it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    """Options of the kinds of enforcement, as `plugin_utils/_enforcement_options.py` reads them."""

    DOCUMENTATION = r"""
options:
  rate:
    description: Of V(bandwidth_cap), each way at layer 2, like V(10 Mbit/s), which is 10,000,000 bit/s. Without it the policy's.
    type: raw
  share:
    description:
      - Of V(cpu_throttle), how much processor time a guest gets, like V(20%) of all its processors' or V(0.5 cores). Without it the policy's.
    type: raw
  iops:
    description: Of V(io_throttle), operations per second of each disk. Without it the policy's.
    type: raw
  bytes_per_second:
    description: Of V(io_throttle), bytes per second of each disk. Without it the policy's.
    type: raw
  ports:
    description: Of V(port_block) and V(smtp_block), the destination ports; a list, or with commas between. Without it the policy's.
    type: raw
  protocol:
    description: Of V(port_block), V(tcp) or V(udp); V(tcp) when it isn't given.
    type: raw
  direction:
    description:
      - Of V(port_block), V(out) for what the guest sends or V(in) for what is sent to it; V(out) when it isn't given.
      - Of V(drop), V(in) for what the O(sources) send, V(out) for what is sent to them, V(both); V(both) when neither it nor
        the policy says.
    type: raw
  rtbh:
    description:
      - Of V(null_route), whether routers of the service's location announce it to their upstreams, so that traffic is
        dropped before it reaches this network.
      - Without it, what the policy says; V(false) when it says nothing.
    type: raw
  sources:
    description:
      - Of V(drop), the remote addresses and prefixes, IPv4 and IPv6, up to 50000; a list, or text with commas between.
      - Refused are prefixes wider than the policy's C(guardrails.widest_drop), the provider's own, and protected ones.
    type: raw
  routed_prefixes:
    description:
      - Of V(null_route), whether routers also drop the prefixes routed to the service, not only its own addresses.
      - Without it, what the policy says; V(false) when it says nothing.
    type: raw
"""
