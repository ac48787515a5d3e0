# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a domain's SPF record says of an address: check_host() of RFC 7208. PRIVATE to the collection.

Everything in a record is somebody else's text. It costs at most ten terms that look something up (4.6.4), two of them
in vain, ten addresses of one MX, and nothing in it is run.
"""

from __future__ import annotations

import ipaddress
import re
from collections import namedtuple
from urllib.parse import quote

LOOKUPS, VOID_LOOKUPS, MX_NAMES, PTR_NAMES = 10, 2, 10, 10

Verdict = namedtuple("Verdict", "result why everybody")
Verdict.__doc__ = "none, neutral, pass, fail, softfail or permerror; the term that decided, or what is wrong; whether it decides so for any address."

_RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_TERM = re.compile(r"([+\-~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)((?::[^\s]*?)?)((?:/\d{1,3})?(?://\d{1,3})?)", re.IGNORECASE)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_MACRO = re.compile(r"%(?:\{([slodipvh])(\d{0,3})(r?)([.+,/_=-]*)\}|([%_-]))", re.IGNORECASE)
_LABEL = re.compile(r"[^\s.]{1,63}")


class _Wrong(Exception):
    """The record can't be evaluated: permerror."""


class _Check:
    """One address against one domain, with what it may cost."""

    def __init__(self, lookup, address, domain):
        self._lookup, self._domain = lookup, domain
        self._address = ipaddress.ip_address(address)
        self._lookups = self._void = 0

    def verdict(self, domain):
        """What the record of a domain says.

        :raises _Wrong: nothing that can be evaluated
        """
        records = [one for one in self._lookup.ask(domain, "TXT") if re.match(r"v=spf1(?: |\Z)", one, re.IGNORECASE)]
        if not records:
            return Verdict("none", "%s publishes no SPF record" % domain, False)
        if len(records) > 1:
            raise _Wrong("%s publishes %d SPF records" % (domain, len(records)))
        terms, redirect = _parse(records[0], domain)
        for text, sign, name, target, prefixes in terms:
            everybody = self._matches(domain, name, target, prefixes)
            if everybody is not None:
                return Verdict(_RESULTS[sign], "%s of %s" % (text, domain), everybody)
        if redirect is None or any(name == "all" for _text, _sign, name, _target, _prefixes in terms):
            return Verdict("neutral", "no term of %s is about it" % domain, False)
        self._count()
        target = self._expand(redirect, domain)
        found = self.verdict(target)
        if found.result == "none":
            raise _Wrong("redirect=%s of %s leads to no SPF record" % (target, domain))
        return found

    def _matches(self, domain, name, target, prefixes):
        """None when a mechanism doesn't match, else whether it matches any address."""
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            network = _network(name, target, prefixes)
            return network.prefixlen == 0 if self._address.version == network.version and self._address in network else None
        self._count()
        wanted = self._expand(target, domain) if target else domain
        if name == "include":
            found = self.verdict(wanted)
            if found.result == "none":
                raise _Wrong("include:%s of %s leads to no SPF record" % (wanted, domain))
            return found.everybody if found.result == "pass" else None
        if name == "exists":
            return False if self._ask(wanted, "A") else None
        if name == "ptr":
            return False if self._pointed(wanted) else None
        names = [wanted]
        if name == "mx":
            names = [record.split()[-1] for record in self._ask(wanted, "MX")]
            if len(names) > MX_NAMES:
                raise _Wrong("%s has more than %d MX" % (wanted, MX_NAMES))
        length = prefixes[self._address.version == 6]
        for host in names:
            for found in self._ask(host, "A" if self._address.version == 4 else "AAAA", of_mx=name == "mx"):
                if self._address in ipaddress.ip_network((found, length), strict=False):
                    return length == 0
        return None

    def _pointed(self, wanted):
        kind = "A" if self._address.version == 4 else "AAAA"
        for name in self._lookup.pointers(str(self._address))[:PTR_NAMES]:
            if (name == wanted.lower() or name.endswith("." + wanted.lower())) and any(
                    ipaddress.ip_address(one) == self._address for one in self._lookup.ask(name, kind)):
                return True
        return False

    def _ask(self, name, kind, of_mx=False):
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.rstrip(".").split(".")):
            raise _Wrong("%r is no name to look up" % name[:80])
        found = self._lookup.ask(name, kind)
        if not found and not of_mx:
            self._void += 1
            if self._void > VOID_LOOKUPS:
                raise _Wrong("more than %d lookups find nothing" % VOID_LOOKUPS)
        return found

    def _count(self):
        self._lookups += 1
        if self._lookups > LOOKUPS:
            raise _Wrong("it takes more than %d lookups" % LOOKUPS)

    def _expand(self, text, domain):
        """The macros of a domain-spec (RFC 7208, 7). The sender is postmaster of the domain that is checked."""
        values = {
            "s": "postmaster@%s" % self._domain, "l": "postmaster", "o": self._domain, "d": domain, "p": "unknown", "h": self._domain,
            "i": str(self._address) if self._address.version == 4 else ".".join(self._address.exploded.replace(":", "")),
            "v": "in-addr" if self._address.version == 4 else "ip6",
        }

        def value(match):
            letter, digits, reverse, delimiters, literal = match.groups()
            if literal is not None:
                return {"%": "%", "_": " ", "-": "%20"}[literal]
            parts = re.split("[%s]" % re.escape(delimiters or "."), values[letter.lower()])
            parts = parts[::-1] if reverse else parts
            if digits:
                if int(digits) == 0:
                    raise _Wrong("the macro %s keeps nothing" % match.group(0))
                parts = parts[-int(digits):]
            return quote(".".join(parts), safe="") if letter.isupper() else ".".join(parts)

        if "%" in _MACRO.sub("", text):
            raise _Wrong("%r has a macro that is none" % text[:80])
        name = _MACRO.sub(value, text).rstrip(".")
        while len(name) > 253:
            name = name.partition(".")[2]
        return name


def _network(name, target, prefixes):
    try:
        network = ipaddress.ip_network("%s/%d" % (target, prefixes[name == "ip6"]), strict=False)
    except ValueError as exc:
        raise _Wrong("%s:%s is no network" % (name, target)) from exc
    if network.version != (4 if name == "ip4" else 6):
        raise _Wrong("%s:%s is of the other family" % (name, target))
    return network


def _parse(record, domain):
    """([(as written, sign, mechanism, target, (length v4, length v6))], redirect or None): one mistake anywhere spoils the record (4.6)."""
    terms, modifiers = [], {}
    for text in record.split(" ")[1:]:
        if not text:
            continue
        match = _TERM.fullmatch(text)
        modifier = None if match else _MODIFIER.fullmatch(text)
        if modifier:
            name = modifier.group(1).lower()
            if name in ("redirect", "exp"):
                if name in modifiers or not modifier.group(2):
                    raise _Wrong("%s= of %s stands there twice or empty" % (name, domain))
                modifiers[name] = modifier.group(2)
            continue
        if match is None:
            raise _Wrong("%r of %s is no term of SPF" % (text[:80], domain))
        terms.append(_term(text, domain, *match.groups()))
    return terms, modifiers.get("redirect")


def _term(text, domain, sign, name, target, lengths):
    name, wrong = name.lower(), _Wrong("%r of %s is no term of SPF" % (text[:80], domain))
    if name in ("ip4", "ip6"):
        if "//" in lengths or not target[1:]:
            raise wrong
        length = lengths[1:] or ("32" if name == "ip4" else "128")
        prefixes = (int(length), int(length))
    else:
        four, _slashes, six = lengths.partition("//")
        prefixes = (int(four[1:] or 32), int(six or 128))
        if lengths and name not in ("a", "mx") or name == "all" and target or target == ":" or name in ("include", "exists") and not target:
            raise wrong
    if prefixes[0] > 32 and name != "ip6" or prefixes[1] > 128:
        raise wrong
    return text[:120], sign or "+", name, target[1:], prefixes


def check_host(lookup, address, domain):
    """What the SPF record of a domain says of an address that sends mail for it.

    :param lookup: `ask(name, kind)` and `pointers(address)`, as `_dns_checks.Lookup` has them
    :returns: Verdict
    :raises DnsError: a name server did not answer (temperror)
    """
    try:
        return _Check(lookup, address, domain).verdict(domain)
    except _Wrong as exc:
        return Verdict("permerror", str(exc), False)
