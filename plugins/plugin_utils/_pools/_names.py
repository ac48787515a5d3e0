# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking resolvers for the addresses of pools. PRIVATE to the collection.

Only the verb that refreshes the data comes here. Neither converging nor the node's keeper resolves a name: a resolver
that is slow, gone or lying must not change what a customer's packets may do.
"""

from __future__ import annotations

import ipaddress
import re
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

Answer = namedtuple("Answer", "addresses ttl problem")
Answer.__doc__ = """What a name has: `addresses` as a sorted tuple of texts, `ttl` in seconds (the shortest of the chain).

`problem` is None, `nothing` (the name or its addresses don't exist) or `failed` (no usable answer from the resolvers).
"""

_AT_ONCE = 32
_FORM = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?")


def read_resolver(text):
    """(address, port) of `192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53` or `[2001:db8::53]:5353`.

    :raises InputError: anything else
    """
    found = _FORM.fullmatch(str(text))
    try:
        if found:
            address, port = found.group("six") or found.group("four"), int(found.group("port") or 53)
            if 1 <= port <= 65535:
                return str(ipaddress.ip_address(address)), port
        return str(ipaddress.ip_address(str(text))), 53
    except ValueError:
        pass
    raise InputError("resolver %r is no address." % (text,), target="resolvers",
                     remedy="Give addresses like 192.0.2.53, 2001:db8::53 or [2001:db8::53]:5353.")


def resolve_names(hosts, resolvers, timeout=8.0):
    """`{host: Answer}` of names and addresses; addresses answer for themselves.

    :param resolvers: [(address, port)]
    :param timeout: seconds for one question, over all resolvers
    :raises InputError: without resolvers, or without dnspython
    """
    try:
        import dns.nameserver
        import dns.resolver
    except ImportError:
        raise InputError("resolving the names of pools needs the Python package dnspython.", target="dnspython",
                         remedy="Install it for the Python that runs Ansible.") from None
    if not resolvers:
        raise InputError("no resolver is given.", target="resolvers",
                         remedy="Set aup_resolvers to the addresses of resolvers that you trust.")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in resolvers]
    resolver.lifetime = timeout
    resolver.timeout = min(timeout, 2.0)

    answers, names = {}, []
    for host in hosts:
        try:
            answers[host] = Answer((str(ipaddress.ip_address(host)),), 0, None)
        except ValueError:
            names.append(host)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for host, answer in zip(names, pool.map(lambda name: _ask(resolver, name), names)):
            answers[host] = answer
    return answers


def _ask(resolver, host):
    import dns.exception
    import dns.name
    import dns.resolver

    found, ttls, failed = set(), [], False
    try:
        name = dns.name.from_text(host + ".")
    except dns.exception.DNSException:
        return Answer((), 0, "nothing")
    for kind in ("A", "AAAA"):
        try:
            answer = resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            break
        except (dns.exception.DNSException, OSError):
            failed = True
            continue
        if answer.rrset is not None:
            found.update(str(ipaddress.ip_address(record.address)) for record in answer.rrset)
            ttls.append(answer.chaining_result.minimum_ttl)
    if failed:
        # Half an answer is none: the other family would look as if it had gone.
        return Answer((), 0, "failed")
    return Answer(tuple(sorted(found)), min(ttls, default=0), None if found else "nothing")
