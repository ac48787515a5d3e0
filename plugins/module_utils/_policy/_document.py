# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy document must look like, and the rules between its parts. PRIVATE to the collection."""

from __future__ import annotations

from decimal import Decimal

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._open_connections import CHOICES as OPEN_CONNECTIONS
from ansible_collections.hosting.aup.plugins.module_utils._policy._schema import (
    Amount,
    AnyMap,
    Boolean,
    Choice,
    Date,
    Duration,
    Exactly,
    Integer,
    ListOf,
    Map,
    Named,
    Percentage,
    Prefix,
    Problems,
    Share,
    Text,
    Version,
    describe,
    did_you_mean,
    one_of,
    optional,
    path_text,
    required,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy._template import fields_of, wrong_parts
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import (
    AMENDED_ON,
    CARRIED_BY_CODE,
    CARRIERS,
    CONTROLS,
    CURRENCIES,
    DNS_CHECKS,
    ENFORCEMENTS,
    FAULTS,
    FEE_DUE,
    FEE_UNITS,
    TRANSFER_DIRECTIONS,
    TRANSFER_MODES,
    MODES,
    NETWORKS,
    NOTICE_TIMINGS,
    NOTICE_UNKNOWN,
    OBLIGATIONS,
    PERMITS,
    POWER,
    STEP_CONDITIONS,
    STEP_MODES,
    UNTIL,
    WITHOUT_CASE,
)
from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration

NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
CLAUSE_ID = r"[a-z][a-z0-9_-]*(\.[0-9]+)+[a-z]?"
DEFAULT_ADOPTION = {"mode": "observe", "for": "7d"}
DEFAULT_MAX_DURATION = "30d"
WIDEST_DROP = {4: 16, 6: 32}  # lengths of the widest remote prefixes that a drop may name, by family

_NAME = Text("a name of small letters, digits, - and _ (ams, fra-2)", NAME)
_CLAUSE = Text("the number of a clause of this policy (house.1, xtom.13)", CLAUSE_ID)
_WORDS = Text()
_TEST = Text(
    "a test as path::name (tests/unit/policy/test_ladders.py::test_open)",
    r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*\.py::[A-Za-z_][A-Za-z0-9_]*",
)
_PORT = Integer(1, 65535, "a port from 1 to 65535")
_PORTS = ListOf(_PORT, shortest=1, unordered=True)
_RATE = Text(
    "a rate as a whole number with its unit (10 Mbit/s; kbit/s, Mbit/s, Gbit/s)",
    r"[1-9][0-9]{0,6} ?(kbit|Mbit|Gbit)/s",
)

_LINK_LOCAL = Text("an IPv6 link-local address in its short form (fe80::1)", r"fe80::[0-9a-f]{1,4}(:[0-9a-f]{1,4}){0,3}")
_PER_MINUTE = Integer(1, 1000000)

# Options of each control and enforcement: name -> (kind, default or None).
_CONTROL_OPTIONS = {
    "smtp_outbound": {"ports": (_PORTS, [25])},
    "anti_spoofing": {
        "gateways": (ListOf(_LINK_LOCAL, unordered=True), ["fe80::1"]),
        "storm_per_second": (Integer(10, 1000000), 500),
    },
    "mining": {
        "activities": (
            ListOf(Choice("mining", "farming", "plotting", "nodes"), shortest=1, unordered=True),
            ["farming", "mining", "nodes", "plotting"],
        ),
    },
    "tor_exit": {"relays_allowed": (Boolean(), True)},
    "irc_server": {
        "clients_allowed": (Boolean(), True),
        "listeners_refused": (Boolean(), False),
        "ports": (_PORTS, [194, *range(6660, 6670), 6697]),
    },
    "bittorrent": {},
    "reflection": {
        "ports": (_PORTS, [17, 19, 137, 427, 520, 1900, 3283, 3702, 5353, 11211]),
        "limited_ports": (_PORTS, [53, 111, 123, 161, 389]),
        "limited_rate": (_RATE, "10 Mbit/s"),
    },
    "new_connections": {
        "per_minute": (_PER_MINUTE, 6000),
        "destinations_per_minute": (_PER_MINUTE, 1500),
        "mail_per_minute": (_PER_MINUTE, 300),
    },
}
# On clusters: what becomes of connections that are open when a block begins.
_OPEN = {"open_connections": (Choice(*OPEN_CONNECTIONS), None)}
_ENFORCEMENT_OPTIONS = {
    "suspend": {"power": (Choice(*POWER), "pause")},
    "quarantine": {"rescue": (ListOf(Choice(*NETWORKS), single=True, unordered=True), ["rescue"]), **_OPEN},
    "null_route": {"rtbh": (Boolean(), False), "routed_prefixes": (Boolean(), False)},
    "drop": {"direction": (Choice("both", "in", "out"), "both")},
    "bandwidth_cap": {"rate": (_RATE, None)},
    "cpu_throttle": {"share": (Share(), None)},
    "io_throttle": {"iops": (Integer(1, 10000000), None), "bytes_per_second": (Integer(1, 10**12), None)},
    "smtp_block": {"ports": (_PORTS, [25]), **_OPEN},
    "port_block": {"ports": (_PORTS, None), **_OPEN},
    "terminate": {"keep_data": (Duration(), None)},
}


def _fields(options, with_defaults):
    return {
        name: optional(kind, default) if with_defaults and default is not None else optional(kind)
        for name, (kind, default) in options.items()
    }


def _settings(kind, **fields):
    """A map with the settings of a kind of enforcement; what belongs to other kinds is said where it stands."""
    hints = {option: "%s is of %s." % (option, ", ".join(name for name in ENFORCEMENTS if option in _ENFORCEMENT_OPTIONS[name]))
             for options in _ENFORCEMENT_OPTIONS.values() for option in options if option not in _ENFORCEMENT_OPTIONS[kind]}
    return Map(**fields).hinting(hints)


def _control(name):
    options = _CONTROL_OPTIONS[name]
    return Map(
        mode=required(Choice(*MODES)),
        clause=optional(_CLAUSE),
        options=optional(Map(**_fields(options, True)), {}),
        rules=optional(
            ListOf(
                Map(
                    when=required(
                        Map(
                            location=optional(ListOf(_NAME, shortest=1, single=True, unordered=True)),
                            account_type=optional(ListOf(_NAME, shortest=1, single=True, unordered=True)),
                        )
                    ),
                    mode=optional(Choice(*MODES)),
                    clause=optional(_CLAUSE),
                    options=optional(Map(**_fields(options, False))),
                )
            ),
            [],
        ),
        exhaustive=optional(Boolean(), False),
        adoption=optional(
            Map(**{"mode": required(Choice("observe", "enforce")), "for": optional(Duration())}),
            DEFAULT_ADOPTION,
        ),
    )


def _enforcement(name):
    fields = _fields(_ENFORCEMENT_OPTIONS[name], True)
    if name != "terminate":
        fields.update(default_duration=optional(Duration()), max_duration=optional(Duration()))
    return _settings(name, **fields)


_MEASURE = {
    "duration": optional(Duration()),
    "until": optional(Choice(*UNTIL)),
    "review": optional(Duration()),
    # Which options there are depends on the enforcement: read once that is known, in _check_measure.
    "options": optional(AnyMap()),
}
_ALTERNATIVE = Map(enforcement=required(Choice(*ENFORCEMENTS)), **_MEASURE)
_STEP = Map(
    enforcement=optional(Choice(*ENFORCEMENTS)),
    any_of=optional(ListOf(_ALTERNATIVE, shortest=2)),
    unless=optional(ListOf(_NAME, shortest=1, single=True, unordered=True)),
    after=optional(
        Map(
            condition=required(Choice(*STEP_CONDITIONS)),
            **{"for": optional(Duration()), "times": optional(Integer(2, 100))},
        )
    ),
    mode=optional(Choice(*STEP_MODES)),
    clause=optional(_CLAUSE),
    notice=optional(_NAME),
    **_MEASURE,
)

_CARRIER = Map(
    control=optional(Choice(*CONTROLS)),
    violation=optional(_NAME),
    audit=optional(_WORDS),
    obligation=optional(Choice(*OBLIGATIONS)),
    what=optional(_WORDS),
    human=optional(_WORDS),
    gap=optional(_WORDS),
    tests=optional(ListOf(_TEST, shortest=1, single=True)),
)
_VIOLATION_RULE = Map(
    when=required(
        Map(
            location=optional(ListOf(_NAME, shortest=1, single=True, unordered=True)),
            account_type=optional(ListOf(_NAME, shortest=1, single=True, unordered=True)),
            addons=optional(ListOf(_NAME, shortest=1, single=True, unordered=True)),
        )
    ),
    allowed=optional(Boolean()),
    clause=optional(_CLAUSE),
    fault=optional(Choice(*FAULTS)),
    fees=optional(ListOf(_NAME, single=True)),
    notice=optional(_NAME),
    remedy=optional(Text(longest=1000)),
    ladder=optional(ListOf(_STEP)),
)

POLICY = Map(
    schema=required(Exactly(1)),
    name=required(_NAME),
    version=required(Version()),
    effective=required(Date()),
    provider=required(
        Map(
            name=required(Text(longest=200)),
            abuse_contact=optional(Text(longest=200)),
            url=optional(Text("a web address (https://…)", r"https?://[^\s\"'<>]+")),
            law=optional(Text(longest=200)),
        )
    ),
    clauses=required(
        Named(
            Map(
                summary=required(_WORDS),
                source=optional(Text(longest=400)),
                held_by=optional(ListOf(_CARRIER, shortest=1)),
            ),
            "number of a clause (house.1)",
            pattern=CLAUSE_ID,
        )
    ),
    amendments=optional(
        Map(
            clauses=required(ListOf(_CLAUSE, shortest=1, single=True, unordered=True)),
            effective_on=optional(ListOf(Choice(*AMENDED_ON), shortest=1, single=True, unordered=True)),
            announced=optional(Duration()),
            grace=optional(Duration()),
            notice=optional(_NAME),
        )
    ),
    locations=required(ListOf(_NAME, shortest=1, unordered=True)),
    account_types=required(ListOf(_NAME, shortest=1, unordered=True)),
    controls=optional(
        Named(Map(), "control", CONTROLS, named_kinds={name: _control(name) for name in CONTROLS}), {}
    ),
    exemptions=optional(
        Named(
            Map(
                allowed=required(Boolean()),
                max_duration=optional(Duration()),
                requires=optional(ListOf(_WORDS), []),
                approver=optional(Text(longest=200)),
                clause=optional(_CLAUSE),
                checks=optional(ListOf(Choice(*DNS_CHECKS), shortest=1, single=True, unordered=True)),
                revoked_by=optional(ListOf(_NAME, shortest=1, single=True, unordered=True)),
            ),
            "control or permission",
            (*CONTROLS, *PERMITS),
        ),
        {},
    ),
    violations=optional(
        Named(
            Map(
                clause=required(_CLAUSE),
                fault=required(Choice(*FAULTS)),
                summary=optional(Text(longest=400)),
                fees=optional(ListOf(_NAME, single=True), []),
                notice=optional(_NAME),
                remedy=optional(Text(longest=1000)),
                allowed=optional(Boolean(), False),
                ladder=required(ListOf(_STEP)),
                rules=optional(ListOf(_VIOLATION_RULE), []),
                exhaustive=optional(Boolean(), False),
            ),
            "violation",
            pattern=NAME,
        ),
        {},
    ),
    enforcements=optional(
        Named(
            Map(),
            "enforcement",
            ENFORCEMENTS,
            named_kinds={name: _enforcement(name) for name in ENFORCEMENTS},
        ),
        {},
    ),
    fees=optional(
        Named(
            Map(
                amount=required(Amount()),
                maximum=optional(Amount()),
                currency=required(
                    Text("an ISO 4217 currency code in capitals (EUR)", "|".join(sorted(CURRENCIES)))
                ),
                per=optional(Choice(*FEE_UNITS), "once"),
                due=optional(Choice(*FEE_DUE), "case"),
                rounding=optional(Choice("started", "pro_rata")),
                clause=required(_CLAUSE),
            ),
            "fee",
            pattern=NAME,
        ),
        {},
    ),
    notices=optional(
        Named(
            Map(
                timing=required(Choice(*NOTICE_TIMINGS)),
                wait=optional(Duration()),
                clause=optional(_CLAUSE),
                subject=optional(Text("one line of text", r"[^\r\n]+", longest=200)),
                text=optional(Text(longest=20000)),
                unknown=optional(Choice(*NOTICE_UNKNOWN)),
            ),
            "notice",
            pattern=NAME,
        ),
        {},
    ),
    networks=optional(
        Map(
            **{
                name: optional(ListOf(Prefix(widest=(8, 16)), single=True, unordered=True), [])
                for name in NETWORKS
            }
        ),
        {},
    ),
    transfer=optional(
        Map(
            violation=required(_NAME),
            mode=required(Choice(*TRANSFER_MODES)),
            direction=optional(Choice(*TRANSFER_DIRECTIONS), "both"),
            notices=optional(ListOf(Percentage(), single=True, unordered=True), ["80%", "100%"]),
            notice=optional(_NAME),
            clause=required(_CLAUSE),
        )
    ),
    evidence=optional(
        Map(
            largest_mib=optional(Integer(1, 1 << 20, "a whole number of MiB from 1 to 1048576"), 256),
            personal_data=optional(Duration()),
            classes=optional(
                Named(
                    Map(
                        hash_only=optional(Boolean(), False),
                        retention=optional(Duration()),
                        violations=optional(ListOf(_NAME, single=True, unordered=True), []),
                        clause=optional(_CLAUSE),
                    ),
                    "class of evidence",
                    pattern=NAME,
                ),
                {},
            ),
        )
    ),
    guardrails=optional(
        Map(
            protected=optional(ListOf(Prefix(), single=True, unordered=True), []),
            max_services_per_run=optional(Integer(1, 100000), 5),
            max_duration=optional(Duration(), DEFAULT_MAX_DURATION),
            widest_drop=optional(Map(ipv4=optional(Integer(8, 32), WIDEST_DROP[4]), ipv6=optional(Integer(16, 128), WIDEST_DROP[6])), {}),
            max_steps_per_hour=optional(Integer(1, 100000)),
            catalogue_shrink_limit=optional(Percentage(), "20%"),
            terminate=optional(Map(persons=optional(Integer(2, 5), 2)), {}),
        ),
        {},
    ),
)


class PolicyDocumentError(PolicyError):
    """A policy document is wrong. `problems`: dicts with file, line, path, expected, found and hint."""

    def __init__(self, message, problems=(), **kwargs):
        super().__init__(message, **kwargs)
        self.problems = list(problems)


def _refusal(source, problems):
    """The error that lists all problems, one a line."""
    lines = []
    for problem in problems:
        place = problem["file"] if problem["line"] is None else "%s:%d" % (problem["file"], problem["line"])
        text = "%s: %s: expected %s; found %s." % (
            place,
            problem["path"],
            problem["expected"],
            problem["found"],
        )
        lines.append("%s %s" % (text, problem["hint"]) if problem["hint"] else text)
    count = "1 problem" if len(problems) == 1 else "%d problems" % len(problems)
    return PolicyDocumentError(
        "policy %s has %s:\n  %s\n" % (source, count, "\n  ".join(lines)),
        problems,
        target=source,
        remedy="Nothing was changed. Each key is explained in docs/policy-reference.md.",
    )


def located(problems, source, where=None):
    """Problems as plain dicts, each with the file and line of its path or the nearest above."""
    result = []
    for problem in problems:
        path, place = tuple(problem.path), None
        while where is not None and place is None:
            place = where(path)
            if not path:
                break
            path = path[:-1]
        file, line = place or (source, None)
        result.append(
            {
                "file": file,
                "line": line,
                "path": path_text(problem.path),
                "expected": problem.expected,
                "found": problem.found,
                "hint": problem.hint,
            }
        )
    return result


def read_document(document, source="<policy>", where=None):
    """The policy document in canonical form, defaults filled in.

    :param document: plain data, `extends` already merged
    :param source: what errors call it: the file
    :param where: function from a path (tuple) to its (file, line) or None
    :raises PolicyDocumentError: lists everything that is wrong
    """
    problems = Problems()
    result = POLICY.read(document, (), problems)
    if isinstance(result, dict):
        _Relations(result, problems).check()
    if problems:
        raise _refusal(source, located(problems, source, where))
    return _without_idle_keys(result)


def complete_document(document):
    """A document that was read and released before, with what has become a key since then filled in.

    It was valid when it was released and binds until another is: a collection that has become
    stricter must not keep anybody from suspending, or worse, from giving back. So nothing is
    refused here, and what is there is kept as it is.

    :param document: canonical form, perhaps of an older collection
    """
    return _filled(document, POLICY.read(document, (), Problems()))


def _filled(stored, read):
    if isinstance(stored, dict) and isinstance(read, dict):
        return {key: _filled(stored[key], read.get(key)) if key in stored else read[key] for key in {**read, **stored}}
    if isinstance(stored, list) and isinstance(read, list) and len(stored) == len(read):
        return [_filled(one, other) for one, other in zip(stored, read)]
    return stored


def _without_idle_keys(document):
    """The document without keys that another one leaves nothing to do.

    They are no errors: who extends a policy can set `allowed: false`, but can't take `approver` away.
    """
    for control in document["controls"].values():
        if control["adoption"]["mode"] == "enforce":
            control["adoption"].pop("for", None)
        else:
            control["adoption"].setdefault("for", DEFAULT_ADOPTION["for"])
    for exemption in document["exemptions"].values():
        if not exemption["allowed"]:
            exemption.pop("max_duration", None)
            exemption.pop("approver", None)
            exemption.pop("checks", None)
            exemption.pop("revoked_by", None)
            exemption["requires"] = []
    for fee in document["fees"].values():
        if fee["per"] == "once":
            fee.pop("rounding", None)
    for notice in document["notices"].values():
        if notice["timing"] != "before":
            notice.pop("wait", None)
    return document


def seconds_or_none(duration):
    """Seconds of a duration that may be absent or was already reported as wrong."""
    try:
        return None if duration is None else parse_duration(duration)
    except InputError:
        return None


def enforcement_defaults(kind):
    """The settings of a kind of enforcement that a policy says nothing of."""
    return _enforcement(kind).read({}, (), Problems())


class _Relations:
    """The rules between parts of a document. Parts missing or wrong by themselves are reported already."""

    def __init__(self, document, problems):
        self._document, self._problems = document, problems

    def check(self):
        for name, clause in self._part("clauses"):
            for number, carrier in enumerate(clause.get("held_by") or []):
                if isinstance(carrier, dict):
                    self._check_carrier(("clauses", name, "held_by", number), carrier)
        for number, clause in enumerate((self._document.get("amendments") or {}).get("clauses") or []):
            self._check_declared(("amendments", "clauses", number), clause, "clauses", "a clause")
        self._check_timing(("amendments", "notice"), (self._document.get("amendments") or {}).get("notice"), "amendment")
        for name, control in self._part("controls"):
            self._check_control(("controls", name), control)
        for name, exemption in self._part("exemptions"):
            self._check_exemption(("exemptions", name), exemption)
        for name, violation in self._part("violations"):
            self._check_violation(("violations", name), violation)
        for name, enforcement in self._part("enforcements"):
            self._check_enforcement(("enforcements", name), enforcement)
        for name, fee in self._part("fees"):
            self._check_fee(("fees", name), fee)
        for name, notice in self._part("notices"):
            self._check_notice(("notices", name), notice)
        if isinstance(self._document.get("transfer"), dict):
            self._check_transfer(self._document["transfer"])
        if isinstance(self._document.get("evidence"), dict):
            self._check_evidence(self._document["evidence"].get("classes") or {})

    def _part(self, name):
        return [
            (key, value) for key, value in self._document.get(name, {}).items() if isinstance(value, dict)
        ]

    def _check_declared(self, path, value, part, what):
        """A name used at path must be declared in a part of the document."""
        declared = self._document.get(part)
        if value is None or declared is None or value in declared:
            return
        if isinstance(declared, list) and None in declared:
            return
        if part == "clauses":
            expected = "a clause listed under clauses"
        else:
            expected = "%s declared under %s (%s)" % (what, part, ", ".join(sorted(declared)) or "none is")
        self._problems.add(path, expected, value, did_you_mean(value, list(declared)))

    def _check_clause(self, path, holder):
        self._check_declared(path + ("clause",), holder.get("clause"), "clauses", "a clause")

    def _check_control(self, path, control):
        self._check_clause(path, control)
        if control.get("mode") in ("observe", "enforce") and "clause" not in control:
            self._problems.say(path + ("clause",), "the clause this control rests on", "no such key")
        rules = control.get("rules") or []
        for number, rule in enumerate(rules):
            if isinstance(rule, dict):
                self._check_rule(path + ("rules", number), rule, control)
        self._check_rules_are_reached(path, rules)
        self._check_exhaustive(path, control)

    def _check_carrier(self, path, carrier):
        """One kind of carrier; code names its tests, a person or a gap has none."""
        kinds = [kind for kind in CARRIERS if kind in carrier]
        if len(kinds) != 1:
            self._problems.say(
                path, "one of %s" % ", ".join(CARRIERS), "%s" % (", ".join(kinds) or "none of them")
            )
            return
        kind = kinds[0]
        if kind == "violation":
            self._check_declared(path + ("violation",), carrier["violation"], "violations", "a violation")
        if kind in CARRIED_BY_CODE and "tests" not in carrier:
            self._problems.say(
                path + ("tests",),
                "the tests that show it (path::name)",
                "no such key",
                "What has no test yet is a gap: say what is missing.",
            )
        if kind not in CARRIED_BY_CODE and "tests" in carrier:
            self._problems.say(path + ("tests",), "no tests, as %s is no code" % kind, "tests")
        if (kind == "obligation") != ("what" in carrier):
            self._problems.say(
                path + ("what",),
                "what is owed, with obligation and nowhere else",
                "what" if "what" in carrier else "no such key",
            )

    def _check_exhaustive(self, path, holder):
        """With `exhaustive` no location or account type may be left to what holds without a rule."""
        if not holder.get("exhaustive"):
            return
        locations = self._document.get("locations") or []
        types = self._document.get("account_types") or []
        rest = {(location, account_type) for location in locations for account_type in types}
        for rule in holder.get("rules") or []:
            when = rule.get("when") if isinstance(rule, dict) else None
            if when is None or "addons" in when:
                continue
            rest -= {
                (location, account_type)
                for location in when.get("location", locations)
                for account_type in when.get("account_type", types)
            }
        if rest:
            self._problems.say(
                path + ("rules",),
                "a rule for each location and account type, as exhaustive is true",
                "none for %s" % ", ".join("%s/%s" % pair for pair in sorted(rest, key=str)[:6]),
                "Add it to a rule, or set exhaustive: false.",
            )

    def _check_when(self, path, when, words):
        if when == {}:
            self._problems.say(path + ("when",), words, "an empty map")
        for key, part, what in (
            ("location", "locations", "a location"),
            ("account_type", "account_types", "an account type"),
        ):
            for value in (when or {}).get(key) or []:
                self._check_declared(path + ("when", key), value, part, what)

    def _check_rule(self, path, rule, control):
        self._check_clause(path, rule)
        self._check_when(path, rule.get("when"), "location, account_type or both")
        if not {"mode", "options", "clause"} & set(rule):
            self._problems.say(path, "a rule that sets mode, options or clause", "a rule that only has when")
        if rule.get("mode") in ("observe", "enforce") and "clause" not in rule and "clause" not in control:
            self._problems.say(path + ("clause",), "the clause this rule rests on", "no such key")

    def _check_rules_are_reached(self, path, rules):
        locations = self._document.get("locations") or []
        types = self._document.get("account_types") or []
        taken = set()
        for number, rule in enumerate(rules):
            when = rule.get("when") if isinstance(rule, dict) else None
            if not when:
                return
            if "addons" in when:
                continue
            mine = {
                (location, account_type)
                for location in when.get("location", locations)
                for account_type in when.get("account_type", types)
            }
            if mine and mine <= taken:
                self._problems.say(
                    path + ("rules", number),
                    "a rule that can match",
                    "a rule never reached: earlier rules match all its cases",
                    "The first rule that matches wins: move it up or remove it.",
                )
            taken |= mine

    def _check_exemption(self, path, exemption):
        self._check_clause(path, exemption)
        for number, violation in enumerate(exemption.get("revoked_by") or []):
            self._check_declared(path + ("revoked_by", number), violation, "violations", "a violation")

    def _check_violation(self, path, violation):
        self._check_outcome(path, violation, violation)
        rules = violation.get("rules") or []
        for number, rule in enumerate(rules):
            if isinstance(rule, dict):
                at = path + ("rules", number)
                self._check_when(at, rule.get("when"), "location, account_type or addons")
                if not set(rule) - {"when"}:
                    self._problems.say(at, "a rule that changes the outcome", "a rule that only has when")
                whole = {key: value for key, value in violation.items() if key not in ("rules", "exhaustive")}
                if rule.get("allowed"):
                    # What is allowed has no ladder; the one of the violation is left behind.
                    whole = {"clause": violation.get("clause"), "fault": "none"}
                self._check_outcome(at, rule, dict(whole, **rule))
        self._check_rules_are_reached(path, rules)
        self._check_exhaustive(path, violation)

    def _check_outcome(self, path, written, whole):
        """What a violation or one of its rules says (`written`), and what is so then (`whole`)."""
        self._check_clause(path, written)
        for number, fee in enumerate(written.get("fees") or []):
            self._check_declared(path + ("fees", number), fee, "fees", "a fee")
        if whole.get("fault") == "none" and whole.get("fees"):
            self._problems.say(
                path + ("fees",),
                "no fees, as fault is none",
                describe(whole["fees"]),
                "Someone without fault is never charged.",
            )
        if whole.get("allowed") and (whole.get("ladder") or whole.get("fees")):
            self._problems.say(
                path + ("allowed",), "neither ladder nor fees where it is allowed", "allowed with them"
            )
        self._check_timing(path + ("notice",), written.get("notice"), None)
        ladder = whole.get("ladder") or []
        for number, step in enumerate(ladder):
            if isinstance(step, dict) and "ladder" in written:
                self._check_step(path + ("ladder", number), step)
        if {"ladder", "notice"} & set(written):
            self._check_end_is_reached(path + ("ladder",), ladder, whole.get("notice"))

    def _check_end_is_reached(self, path, ladder, notice):
        """Each step's condition must be able to come about."""
        gone, told = False, False
        for number, step in enumerate(ladder):
            if not isinstance(step, dict):
                return
            after = step.get("after") or {}
            condition = after.get("condition")
            timing, wait = self._timing(step.get("notice", notice))
            at = path + (number,)
            if gone:
                self._problems.say(
                    at,
                    "a step that can be reached",
                    "a step after terminate, which ends the service",
                    "Put terminate last, or give it an unless.",
                )
            if condition == "persists" and number == 0:
                self._problems.say(
                    at + ("after", "condition"),
                    "a condition that can come about",
                    "persists on the first step, which has no step before it",
                )
            if condition == "unanswered":
                if not told and timing != "before":
                    self._problems.say(
                        at + ("after", "condition"),
                        "a condition that can come about: unanswered needs a notice that goes out before",
                        "a notice that is %s" % ("not there" if timing is None else "timed '%s'" % timing),
                        "Name one whose timing is before, in the violation or the step.",
                    )
                elif "for" not in after and wait is None:
                    self._problems.say(
                        at + ("after", "for"),
                        "how long the customer has to answer (48h), here or as wait of the notice",
                        "no such key",
                    )
            told = told or timing in ("before", "with", "after")
            kinds = [m.get("enforcement") for m in step.get("any_of", [step]) if isinstance(m, dict)]
            gone = gone or (kinds == ["terminate"] and "unless" not in step)

    def _timing(self, notice):
        """(timing, wait) of a notice by name; (None, None) for none."""
        found = (self._document.get("notices") or {}).get(notice) if notice is not None else None
        return (found.get("timing"), found.get("wait")) if isinstance(found, dict) else (None, None)

    def _check_step(self, path, step):
        self._check_clause(path, step)
        self._check_timing(path + ("notice",), step.get("notice"), None)
        after = step.get("after") or {}
        if "times" in after and after.get("condition") != "repeated":
            self._problems.say(
                path + ("after", "times"),
                "times only with condition repeated",
                "condition %s" % after.get("condition"),
            )
        if "any_of" not in step:
            if "enforcement" not in step:
                self._problems.say(
                    path + ("enforcement",), "%s; or any_of" % one_of(ENFORCEMENTS), "no such key"
                )
            self._check_measure(path, step, step.get("mode"))
            return
        for key in ("enforcement", "duration", "until", "review", "options"):
            if key in step:
                self._problems.say(
                    path + (key,),
                    "either any_of or %s; with any_of each alternative has its own" % key,
                    "both",
                )
        for number, alternative in enumerate(step["any_of"]):
            if isinstance(alternative, dict):
                self._check_measure(path + ("any_of", number), alternative, step.get("mode"))

    def _check_measure(self, path, measure, mode):
        kind = measure.get("enforcement")
        if "duration" in measure and "until" in measure:
            self._problems.say(path + ("until",), "duration or until", "both")
        if measure.get("until") == "remedied" and "review" not in measure:
            self._problems.say(
                path + ("review",),
                "when an enforcement that lasts until remedied is looked at again (a duration)",
                "no such key",
            )
        if "review" in measure and "until" not in measure:
            self._problems.say(path + ("review",), "review only together with until", "no until")
        if kind == "terminate":
            if mode != "propose":
                self._problems.add(
                    path + ("enforcement",),
                    "mode propose for terminate, which nothing can undo",
                    kind,
                    "Set mode: propose on the step.",
                )
            for key in ("duration", "until", "review"):
                if key in measure:
                    self._problems.say(path + (key,), "no end for terminate", describe(measure[key]))
        if kind is None:
            return
        if "options" in measure and isinstance(measure["options"], dict):
            kinds = _settings(kind, **_fields(_ENFORCEMENT_OPTIONS[kind], False))
            measure["options"] = kinds.read(measure["options"], path + ("options",), self._problems)
        self._check_longest(path + ("duration",), measure.get("duration"), kind)

    def _longest(self, kind):
        """(seconds, key path in words) of the tightest maximum for a kind."""
        limits = []
        own = self._document.get("enforcements", {}).get(kind) or {}
        for holder, name in (
            (own, "enforcements.%s.max_duration" % kind),
            (self._document.get("guardrails") or {}, "guardrails.max_duration"),
        ):
            seconds = seconds_or_none(holder.get("max_duration"))
            if seconds is not None:
                limits.append((seconds, "%s (%s)" % (name, holder["max_duration"])))
        return min(limits) if limits else (None, None)

    def _check_longest(self, path, duration, kind):
        seconds = seconds_or_none(duration)
        longest, rule = self._longest(kind)
        if seconds is not None and longest is not None and seconds > longest:
            self._problems.add(path, "at most %s" % rule, duration)

    def _check_enforcement(self, path, enforcement):
        self._check_longest(path + ("default_duration",), enforcement.get("default_duration"), path[1])
        limit = (self._document.get("guardrails") or {}).get("max_duration")
        own, most = seconds_or_none(enforcement.get("max_duration")), seconds_or_none(limit)
        if own is not None and most is not None and own > most:
            self._problems.add(
                path + ("max_duration",),
                "at most guardrails.max_duration (%s)" % limit,
                enforcement["max_duration"],
            )

    def _check_fee(self, path, fee):
        self._check_clause(path, fee)
        if "amount" in fee and "maximum" in fee and Decimal(fee["maximum"]) < Decimal(fee["amount"]):
            self._problems.add(
                path + ("maximum",), "at least the amount (%s)" % fee["amount"], fee["maximum"]
            )

    def _check_transfer(self, transfer):
        """A mode that caps needs a cap on the violation's ladder, one that bills a fee by the unit of transfer."""
        self._check_clause(("transfer",), transfer)
        self._check_timing(("transfer", "notice"), transfer.get("notice"), "transfer")
        name, mode = transfer.get("violation"), transfer.get("mode")
        self._check_declared(("transfer", "violation"), name, "violations", "a violation")
        violation = (self._document.get("violations") or {}).get(name)
        if not isinstance(violation, dict):
            return
        ladder = [step for step in violation.get("ladder") or [] if isinstance(step, dict)]
        if mode in ("cap", "cap_until_paid") and not any(step.get("enforcement") == "bandwidth_cap" for step in ladder):
            self._problems.add(("transfer", "mode"), "a bandwidth_cap on the ladder of %s for mode %s" % (name, mode), "none there")
        fees = [(self._document.get("fees") or {}).get(fee) for fee in violation.get("fees") or []]
        if mode in ("bill", "cap_until_paid") and not any(isinstance(fee, dict) and fee.get("per") in ("TB", "TiB") for fee in fees):
            self._problems.add(("transfer", "mode"), "a fee per TB or TiB of %s for mode %s" % (name, mode), "none there")

    def _check_evidence(self, classes):
        """A violation is of one class of evidence; what keeps no file has nothing to keep for a time."""
        of = {}
        for name, one in sorted(classes.items()):
            path = ("evidence", "classes", name)
            self._check_clause(path, one)
            if one.get("hash_only") and "retention" in one:
                self._problems.say(path + ("retention",), "no retention with hash_only: no file is kept", describe(one["retention"]))
            for number, violation in enumerate(one.get("violations") or []):
                self._check_declared(path + ("violations", number), violation, "violations", "a violation")
                if of.setdefault(violation, name) != name:
                    self._problems.say(path + ("violations", number), "a violation of one class", "%s, which is of class %s" % (violation, of[violation]))

    def _check_notice(self, path, notice):
        self._check_clause(path, notice)
        fields = fields_of(notice.get("timing"))
        for key in ("subject", "text"):
            for written, name in wrong_parts(notice.get(key) or "", fields):
                self._problems.say(
                    path + (key,),
                    "only fields that exist (%s), and $$ for a dollar sign" % ", ".join("${%s}" % field for field in fields),
                    describe(written),
                    did_you_mean(name, list(fields)) or "Write ${field}; $$ is a dollar sign.",
                )

    def _check_timing(self, path, name, wanted):
        """A notice named where one about a case, about transfer or about a version belongs is such a one."""
        self._check_declared(path, name, "notices", "a notice")
        timing = self._timing(name)[0]
        if timing is not None and (timing != wanted if wanted else timing in WITHOUT_CASE):
            self._problems.say(
                path, "a notice whose timing is %s" % (wanted or "before, with, after or held"), "%s, which is timed '%s'" % (name, timing))
