# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy document for tests, and ways to change one thing in it."""

from __future__ import annotations

import copy

DOCUMENT = {
    "schema": 1,
    "name": "house",
    "version": "3",
    "effective": "2026-01-01",
    "provider": {"name": "House"},
    "clauses": {"house.1": {"summary": "no spam"}, "house.2": {"summary": "port 25 closed"}},
    "locations": ["ams", "fra"],
    "account_types": ["business", "personal"],
    "controls": {
        "smtp_outbound": {
            "mode": "enforce",
            "clause": "house.2",
            "rules": [
                {"when": {"location": "ams", "account_type": "business"}, "mode": "observe"},
                {"when": {"location": ["fra"]}, "options": {"ports": [587, 25, 25]}},
            ],
        },
        "anti_spoofing": {"mode": "off"},
    },
    "exemptions": {"smtp_outbound": {"allowed": True, "max_duration": "90d", "requires": ["PTR"]}},
    "violations": {
        "spam": {
            "clause": "house.1",
            "fault": "customer",
            "fees": "clean_up",
            "notice": "told",
            "ladder": [
                {"enforcement": "suspend", "duration": "48h", "options": {"power": "destroy"}},
                {
                    "any_of": [
                        {"enforcement": "null_route", "duration": "24h"},
                        {"enforcement": "suspend", "until": "remedied", "review": "7d"},
                    ],
                    "unless": "ddos_mitigation",
                    "after": {"condition": "persists", "for": "2h"},
                    "mode": "propose",
                },
            ],
        },
        "attacked": {"clause": "house.1", "fault": "none", "ladder": [{"enforcement": "suspend"}]},
    },
    "enforcements": {"suspend": {"power": "shutdown", "default_duration": "24h", "max_duration": "10d"}},
    "fees": {"clean_up": {"amount": "60.00", "currency": "EUR", "clause": "house.1"}},
    "notices": {"told": {"timing": "with", "text": "Dear {{ customer }}"}},
    "networks": {"smarthosts": ["192.0.2.25", "2001:DB8:0::25"], "rescue": "198.51.100.0/28"},
    "guardrails": {"protected": ["192.0.2.1", "2001:db8::1"], "max_services_per_run": 2},
}


def changed(path, value):
    """The document with the value at a path (tuple) set; a list index one past the end appends."""
    document = copy.deepcopy(DOCUMENT)
    here = document
    for part in path[:-1]:
        here = here[part] if isinstance(here, list) else here.setdefault(part, {})
    if isinstance(here, list) and path[-1] == len(here):
        here.append(value)
    else:
        here[path[-1]] = value
    return document


def without(path):
    document = copy.deepcopy(DOCUMENT)
    here = document
    for part in path[:-1]:
        here = here[part]
    del here[path[-1]]
    return document
