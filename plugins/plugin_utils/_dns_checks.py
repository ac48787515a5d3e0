# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be in DNS before a service may send mail: checked, not believed. PRIVATE to the collection."""

from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._spf import check_host

try:
    import dns.exception
    import dns.resolver
    import dns.reversename
except ImportError:  # said when it is needed
    dns = None

_DOMAIN = re.compile(r"(?=.{4,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.IGNORECASE)
LIFETIME = 10


class DnsError(AupError):
    """A name server could not be asked: nothing is known, so nothing is granted."""

    code = "dns_unreachable"


class Lookup:
    """DNS through the given resolvers.

    :param resolvers: addresses; the system's when empty
    """

    def __init__(self, resolvers=(), port=53):
        if dns is None:
            raise InputError("checks in DNS need the Python package dnspython on the controller.", target="resolvers", remedy="Install it.")
        try:
            self._resolver = dns.resolver.Resolver(configure=not resolvers)
            if resolvers:
                self._resolver.nameservers = [str(ipaddress.ip_address(one)) for one in resolvers]
                self._resolver.port = port
        except (ValueError, dns.resolver.NoResolverConfiguration) as exc:
            raise InputError("resolvers: %s." % exc, target="resolvers", remedy="Give addresses of resolvers.") from exc
        self._resolver.lifetime = LIFETIME
        self._resolver.search = []

    def ask(self, name, kind):
        """The records as text, none when there are none.

        :raises DnsError: no answer
        """
        try:
            found = self._resolver.resolve(name, kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as exc:
            raise DnsError(
                "DNS did not answer for %s %s (%s)." % (name, kind, type(exc).__name__), target=str(name), retryable=True,
                remedy="Nothing was granted. Check the resolvers and try again.",
            ) from exc
        if kind == "TXT":
            return [b"".join(record.strings).decode("ascii", "replace") for record in found]
        return [record.to_text().rstrip(".").lower() for record in found]

    def pointers(self, address):
        """The names that the address points to."""
        return self.ask(dns.reversename.from_address(address), "PTR")


def fcrdns(lookup, addresses, _domain):
    """Each address has a name that has the address (forward-confirmed reverse DNS). Returns what is wrong."""
    wrong = []
    for address in addresses:
        names = lookup.pointers(address)
        if not names:
            wrong.append("%s has no PTR record" % address)
            continue
        kind = "A" if ipaddress.ip_address(address).version == 4 else "AAAA"
        if not any(
            ipaddress.ip_address(found) == ipaddress.ip_address(address) for name in names[:10] for found in lookup.ask(name, kind)
        ):
            wrong.append("%s points to %s, which has no %s record for it" % (address, ", ".join(names[:3]), kind))
    return wrong


def spf(lookup, addresses, domain):
    """Each address passes the domain's SPF record (RFC 7208), and not because everybody would. Returns what is wrong."""
    wrong = []
    for address in addresses:
        found = check_host(lookup, address, domain)
        if found.result == "none":
            return [found.why]
        if found.result == "permerror":
            wrong.append("the SPF record of %s is none to receivers (%s)" % (domain, found.why))
        elif found.result != "pass":
            wrong.append("the SPF record of %s does not permit %s (%s, %s)" % (domain, address, found.result, found.why))
        elif found.everybody:
            wrong.append("the SPF record of %s permits everybody (%s)" % (domain, found.why))
    return list(dict.fromkeys(wrong))


def dmarc(lookup, _addresses, domain):
    """The domain publishes one DMARC record (RFC 7489, 6.6.3). Returns what is wrong."""
    records = [text for text in lookup.ask("_dmarc.%s" % domain, "TXT") if re.match(r"v=DMARC1\s*(;|$)", text)]
    return [] if len(records) == 1 else ["%s publishes %s" % (domain, "no DMARC record" if not records else "%d DMARC records" % len(records))]


CHECKS = {"fcrdns": fcrdns, "spf": spf, "dmarc": dmarc}
OF_DOMAIN = ("spf", "dmarc")


def domain_name(text):
    """A domain's name. :raises InputError: it is none"""
    if not isinstance(text, str) or not _DOMAIN.fullmatch(text):
        raise InputError("domain %r is not a domain name." % (text,), target="domain", remedy="Give the one that mail is sent from, like example.net.")
    return text.lower()


def look_up(due, domain, resolvers=(), port=53):
    """{service id: what is not met} for `_ledger_requests.checks_due`.

    :param domain: the one that mail is sent from; needed for what is looked up of a domain
    :raises InputError: no usable domain or resolver
    :raises DnsError: it can't be known now
    """
    if any(name in OF_DOMAIN for _service, checks in due.values() for name in checks):
        domain = domain_name(domain)
    lookup = Lookup(resolvers, port)
    return {name: unmet(checks, lookup, service, domain) for name, (service, checks) in due.items()}


def unmet(checks, lookup, service, domain):
    """What of these checks a service does not meet, as sentences.

    :param checks: names from `CHECKS`
    :param service: of the catalogue
    :raises DnsError: it can't be known now
    """
    addresses = sorted({address for nic in service["nics"] for address in nic.get("addresses") or ()})
    wrong = []
    if {"fcrdns", "spf"} & set(checks) and not addresses:
        wrong.append("service %s has no address of its own" % service["id"])
    for name in checks:
        wrong += CHECKS[name](lookup, addresses, domain)
    return wrong
