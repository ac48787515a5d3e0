# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's address plan (documentation prefixes only) and its services: data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass

# The provider's own prefixes; the lower half of each is one flat network on the nodes' bridges.
PROVIDER_PREFIXES = ("192.0.2.0/24", "2001:db8:1::/48")
GATEWAYS = ("192.0.2.1", "2001:db8:1::1")
GATEWAYS_WITH_LENGTH = ("192.0.2.1/25", "2001:db8:1::1/64")

# Outside: a mail sink and a web server; the provider's smarthost; the desk from which a responder looks.
SINK = ("198.51.100.25", "2001:db8:ff::25")
WEB = ("198.51.100.80", "2001:db8:ff::80")
SMARTHOST = ("192.0.2.200", "2001:db8:1:200::25")
RESCUE = ("203.0.113.10", "2001:db8:aa::10")
RESCUE_PREFIXES = ("203.0.113.0/24", "2001:db8:aa::/64")
OUTSIDE_ADDRESSES = tuple(
    f"{address}/{128 if ':' in address else 32}" for pair in (SINK, WEB, SMARTHOST, RESCUE) for address in pair
)
MAIL_PORTS = (25, 465, 587)
WEB_PORTS = (80,)

BRIDGE = "br0"
UPLINK = "eth1"
MANAGEMENT = "mgmt0"


@dataclass(frozen=True)
class GuestPlan:
    """One guest: its service id, addresses, and how it is plugged in (``tap`` None: libvirt picks a name)."""

    name: str
    number: int
    tap: str | None = None
    routed: bool = False
    acpi: str = "obey"

    @property
    def mac(self) -> str:
        return f"52:54:00:aa:{self.number // 100:02x}:{self.number % 100:02x}"

    @property
    def uuid(self) -> str:
        return f"6b1f0a52-0000-4000-8000-{self.number:012d}"

    @property
    def ipv4(self) -> str:
        return f"192.0.2.{130 if self.routed else self.number - 1000 + 10}"

    @property
    def ipv6(self) -> str:
        return "2001:db8:1:130::2" if self.routed else f"2001:db8:1::{self.number}"

    @property
    def addresses(self) -> tuple[str, str]:
        return (self.ipv4, self.ipv6)

    @property
    def gateways(self) -> tuple[str, str]:
        return ("192.0.2.129", "2001:db8:1:130::1") if self.routed else GATEWAYS

    @property
    def kernel_words(self) -> str:
        length = (32, 64) if self.routed else (25, 64)
        nic = f"eth0,{self.ipv4}/{length[0]},{self.gateways[0]},{self.ipv6}/{length[1]},{self.gateways[1]}"
        return f"aup.name={self.name} aup.acpi={self.acpi} aup.nic={nic}"


@dataclass(frozen=True)
class NodePlan:
    """One KVM host and the guests that live on it."""

    number: int
    guests: tuple[GuestPlan, ...]

    @property
    def name(self) -> str:
        return f"kvm{self.number}"

    @property
    def bridge_addresses(self) -> tuple[str, str]:
        return (f"192.0.2.{100 + self.number}", f"2001:db8:1::{100 + self.number}")

    @property
    def management(self) -> str:
        return f"10.66.{self.number}.2"

    @property
    def controller(self) -> str:
        return f"10.66.{self.number}.1"


def nodes(count: int = 1) -> tuple[NodePlan, ...]:
    """The first node carries vps-1001 (fixed tap name), vps-1002 (dynamic one, ignores the power button) and the
    routed vps-1003; each further node carries one bridged guest."""
    first = (
        GuestPlan("vps-1001", 1001, tap="tap1001"),
        GuestPlan("vps-1002", 1002, acpi="ignore"),
        GuestPlan("vps-1003", 1003, routed=True),
    )
    plans = [NodePlan(1, first)]
    for number in range(2, count + 1):
        plans.append(NodePlan(number, (GuestPlan(f"vps-{1002 + number}", 1002 + number),)))
    return tuple(plans)
