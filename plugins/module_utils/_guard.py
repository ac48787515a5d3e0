# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guardrails: what no enforcement may do, whoever asks. Pure. PRIVATE to the collection."""

from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._errors import GuardError
from ansible_collections.hosting.aup.plugins.module_utils._time import duration_text

# Enforcements that act on addresses, wherever these are in use, not on the ports of the service's own guest.
ADDRESS_KINDS = frozenset(("null_route", "drop"))


def check_enforcement(policy, service_document, provider_prefixes, kind, node_addresses=(), targets=None):
    """Refuse an enforcement that would reach beyond the service or hit what must stay up.

    A service's own addresses are those of its NICs, its routed prefixes and its floating addresses. One it
    shares with others is none of its own: kinds that act on the guest's ports don't touch it, and kinds that
    act on addresses (`null_route`, `drop`) may not.

    :param policy: Policy, for `guardrails.protected` and the provider's own `networks`
    :param provider_prefixes: all prefixes of the provider, as text
    :param node_addresses: addresses of nodes, controllers, routers; protected too. A host name among them
        protects nothing, as no name is resolved here: such addresses belong under `guardrails.protected`
    :param targets: prefixes or addresses to act on, when narrower than all the service's own
    :returns: the prefixes acted on, as text: IPv4 first, each once
    :raises GuardError: names the rule that refused and what to do instead
    :raises PolicyError: unknown kind of enforcement
    """
    policy.enforcement(kind)
    name = service_document["id"]
    own, shared = _assignment(service_document)
    chosen = own if targets is None else [_network(target, name, "target") for target in targets]
    if kind in ADDRESS_KINDS and not chosen:
        raise GuardError(
            "%s acts on addresses, and service %r has none of its own." % (kind, name),
            target=name,
            remedy="Use suspend or quarantine, which act on its guest.",
            code="guard_no_address",
        )
    for network in chosen:
        if targets is not None or kind in ADDRESS_KINDS:
            _check_not_shared(network, shared, name)
        _check_within_assignment(network, own, name)
    provider = _provider(provider_prefixes)
    protected = _protected(policy, node_addresses)
    for network in chosen:
        if not any(_inside(network, prefix) for prefix in provider):
            raise GuardError(
                "%s of service %r is outside the provider's prefixes (%s)."
                % (_text(network), name, _listed(provider)),
                target=name,
                code="guard_foreign_address",
                remedy="Correct the service's addresses in the catalogue, or add the prefix to its "
                "prefixes if it is yours.",
            )
        for prefix, rule in protected:
            if _overlap(network, prefix):
                raise GuardError(
                    "%s of service %r is protected: it overlaps %s (%s)."
                    % (_text(network), name, _text(prefix), rule),
                    target=name,
                    code="guard_protected_address",
                    remedy="Nothing may cut it off. Correct the catalogue if the service doesn't have it, "
                    "or change %s." % rule,
                )
    return [str(network) for network in sorted(set(chosen), key=_order)]


def check_remotes(policy, remotes, provider_prefixes, node_addresses=()):
    """Refuse remote prefixes that a drop may not name: too wide, the provider's own, protected, or those of nodes.

    :param remotes: canonical prefixes, as text
    :param node_addresses: as those of `check_enforcement`
    :raises GuardError: names the prefix, the rule and what to do instead
    """
    widest = policy.guardrails.widest_drop
    networks = [_network(text, text, "sources") for text in remotes]
    for network in networks:
        if network.prefixlen < widest[network.version]:
            raise GuardError(
                "%s is wider than a drop may be: /%d (policy %s, guardrails.widest_drop)." % (network, widest[network.version], policy.key),
                target="sources", code="guard_wide_drop",
                remedy="Name narrower prefixes. Whole networks are blocked at the upstream, or not at all.")
    kept = [(network, "the provider's own prefixes") for network in _provider(provider_prefixes)]
    kept += _protected(policy, node_addresses)
    hit = first_overlap(networks, kept)
    if hit:
        raise GuardError(
            "%s may not be dropped: it overlaps %s (%s)." % (_text(hit[0]), _text(hit[1]), hit[2]),
            target="sources", code="guard_protected_address",
            remedy="Leave it out: a drop names remote addresses only. A service of your own is held by its own enforcement.")


def first_overlap(networks, kept):
    """`(network, what it overlaps, why that is kept)` of the first that overlaps one of a few, or None.

    :param networks: many
    :param kept: `[(network, why)]`, few
    """
    for version in (4, 6):
        ranges = [(int(one.network_address), int(one.broadcast_address), one, why) for one, why in kept if one.version == version]
        for network in networks:
            if network.version != version:
                continue
            first, last = int(network.network_address), int(network.broadcast_address)
            for low, high, one, why in ranges:
                if low <= last and first <= high:
                    return network, one, why
    return None


def check_not_anothers(service_document, kind, services):
    """Refuse an enforcement on addresses that another service has as well: it would hit that one too.

    A catalogue in which two services have one address is refused when it is read; this is for what came in otherwise.

    :param services: `{id: service document}` of the catalogue
    :raises GuardError: names the address and the other service
    """
    if kind not in ADDRESS_KINDS:
        return
    name = service_document["id"]
    own = _assignment(service_document)[0]
    for other, document in services.items():
        if other == name:
            continue
        for theirs in _assignment(document)[0]:
            for network in own:
                if _overlap(network, theirs):
                    raise GuardError(
                        "%s of service %r overlaps %s of service %r." % (_text(network), name, _text(theirs), other),
                        target=name,
                        code="guard_anothers_address",
                        remedy="Correct the catalogue: an address is one service's. Or act on the guest (suspend, quarantine).",
                    )


def check_count(policy, number_of_services, break_glass=None, lifting=False, kind=None):
    """Refuse a run over more services than `guardrails.max_services_per_run`. Lifting is never capped.

    :param break_glass: the reason for going over the cap; recorded and reviewed
    :param kind: the enforcement; `terminate` can't be undone, so no reason lifts its cap
    :returns: the reason when it was needed, else None
    :raises GuardError: over the cap without a reason
    """
    cap = policy.guardrails.max_services_per_run
    if lifting or number_of_services <= cap:
        return None
    rule = "policy %s, guardrails.max_services_per_run" % policy.key
    if kind == "terminate":
        raise GuardError(
            "terminate for %d services: at most %d in one run (%s)." % (number_of_services, cap, rule),
            target="guardrails.max_services_per_run",
            code="guard_too_many_services",
            remedy="Terminate them in several runs; break_glass does not apply to what can't be undone.",
        )
    reason = break_glass.strip() if isinstance(break_glass, str) else ""
    if not reason:
        raise GuardError(
            "%d services in one run: at most %d (%s)." % (number_of_services, cap, rule),
            target="guardrails.max_services_per_run",
            code="guard_too_many_services",
            remedy="Name fewer services, or say why they must go together in break_glass: it is recorded "
            "and reviewed.",
        )
    return reason


def check_duration(policy, kind, seconds):
    """Refuse an enforcement that lasts longer than the policy allows for its kind.

    :param seconds: how long; None for one that ends when remedied or by decision, which has no length
    :raises GuardError: zero or negative, or longer than allowed; names the rule
    :raises PolicyError: unknown kind of enforcement
    """
    terms = policy.enforcement(kind)
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds <= 0:
        raise GuardError(
            "%s for %r seconds: a duration is above zero." % (kind, seconds),
            target="duration",
            remedy="Give a duration like 48h.",
            code="guard_duration",
        )
    if seconds > terms.max_seconds:
        longest = duration_text(terms.max_seconds)
        raise GuardError(
            "%s for %s: at most %s (policy %s, %s)."
            % (kind, duration_text(seconds), longest, policy.key, terms.max_rule),
            target="duration",
            code="guard_duration",
            remedy="Use %s or less; a longer one needs a new version of the policy." % longest,
        )


def _assignment(service):
    """(own, shared) networks of a service document."""
    name, own, shared = service["id"], [], []
    for nic in service["nics"]:
        for key in ("addresses", "prefixes", "floating"):
            own.extend(_network(text, name, key) for text in nic.get(key) or ())
        shared.extend(_network(entry["address"], name, "shared") for entry in nic.get("shared") or ())
    # What is listed as both is in use by others too.
    return [network for network in own if network not in shared], shared


def _network(text, name, key):
    network = _parsed(text)
    if network is None:
        raise GuardError(
            "%r (%s of service %r) is not an IPv4 or IPv6 address or prefix." % (text, key, name),
            target=name,
            remedy="Correct it in the catalogue.",
            code="guard_bad_address",
        )
    return network


def _parsed(text):
    """The network of an address or prefix, or None for what is neither."""
    try:
        # ip_network takes numbers and bytes for addresses too.
        return ipaddress.ip_network(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _check_not_shared(network, shared, name):
    for prefix in shared:
        if _overlap(network, prefix):
            raise GuardError(
                "%s is shared: service %r and others use it." % (_text(prefix), name),
                target=name,
                remedy="Use an enforcement on the guest (suspend, quarantine); it leaves the others alone.",
                code="guard_shared_address",
            )


def _check_within_assignment(network, own, name):
    if not any(_inside(network, prefix) for prefix in own):
        raise GuardError(
            "%s is wider than what service %r is assigned (%s)." % (_text(network), name, _listed(own)),
            target=name,
            remedy="Act on the service's own addresses only.",
            code="guard_wider_than_assigned",
        )


def _provider(prefixes):
    networks = []
    for text in prefixes:
        network = _parsed(text)
        # A default route as "our prefix" would switch the rule off.
        if network is None or network.prefixlen == 0:
            raise GuardError(
                "%r is no prefix of a provider." % (text,),
                target="prefixes",
                code="guard_bad_prefix",
                remedy="List the provider's own prefixes in the catalogue, like 192.0.2.0/24, 2001:db8::/32.",
            )
        networks.append(network)
    if not networks:
        raise GuardError(
            "the catalogue lists no prefixes of the provider, so no address can be told to be its own.",
            target="prefixes",
            remedy="List them under prefixes in the catalogue.",
            code="guard_no_prefixes",
        )
    return [
        network
        for version in (4, 6)
        for network in ipaddress.collapse_addresses(one for one in networks if one.version == version)
    ]


def _protected(policy, node_addresses):
    """(network, rule that protects it) of everything an enforcement must not touch."""
    result = [
        (ipaddress.ip_network(prefix), "guardrails.protected of policy %s" % policy.key)
        for prefix in policy.guardrails.protected
    ]
    for name, prefixes in sorted(policy.document["networks"].items()):
        result.extend(
            (ipaddress.ip_network(prefix), "networks.%s of policy %s" % (name, policy.key))
            for prefix in prefixes
        )
    for address in node_addresses:
        network = _parsed(address)
        if network is not None:
            result.append((network, "the addresses of the nodes"))
    return result


def _inside(network, other):
    return network.version == other.version and network.subnet_of(other)


def _overlap(network, other):
    return network.version == other.version and network.overlaps(other)


def _order(network):
    return (network.version, int(network.network_address), network.prefixlen)


def _text(network):
    """An address without the length of a host prefix, as people write it."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _listed(networks):
    texts = [_text(network) for network in networks]
    return ", ".join(texts[:6]) + (", …" if len(texts) > 6 else "") if texts else "none"
