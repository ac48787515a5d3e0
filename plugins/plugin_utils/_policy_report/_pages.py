# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of documentation about one policy, as Markdown that a lawyer can read. PRIVATE to the collection."""

from __future__ import annotations

from collections import Counter

from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._coverage import (
    GAP,
    HELD,
    PARTLY,
    PERSON,
    UNSTATED,
    coverage,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._matrix import grouped, where_text
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._side_by_side import (
    controls_side_by_side,
    side_by_side,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import (
    evidence_text,
    fee_text,
    transfer_text,
    notice_text,
    option_text,
    personal_text,
    span,
)

_HEAD = """\
<!--
Copyright (c) 2026 hosting.aup contributors
SPDX-License-Identifier: GPL-3.0-or-later
Generated from policies/{source} by scripts/policy-docs. Do not edit.
-->
"""
_STATES = {
    HELD: "held",
    PARTLY: "held in part",
    PERSON: "by a person",
    GAP: "**gap**",
    UNSTATED: "**not stated**",
}
_KINDS = {
    "control": "Control",
    "ladder": "Ladder",
    "audit": "Audit",
    "obligation": "Owed",
    "human": "A person",
    "gap": "Missing",
}


def _cell(text):
    """Text that can't end or forge a cell of a table, or become markup of a page."""
    text = " ".join(str(text).split())
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "'")):
        text = text.replace(sign, safe)
    return text.replace("*", "\\*")


def _row(*cells):
    return "| %s |" % " | ".join(cells)


def _test_name(test):
    """`test_smtp.py::test_exempt` for the reader; the whole id is in the policy."""
    return "`%s`" % test.rpartition("/")[2]


def page(policy, served, source):
    """The page of one policy.

    :param served: Served
    :param source: the file's name, for the head
    """
    rows = coverage(policy, served)
    provider = policy.provider
    lines = [
        _HEAD.format(source=source),
        "# Policy %s" % policy.name,
        "",
        "%s; version %s, in force from %s%s." % (
            _cell(provider["name"]),
            policy.version,
            policy.effective,
            "; governed by the law of %s" % _cell(provider["law"]) if "law" in provider else "",
        ),
        "Locations: %s. Account types: %s." % (
            ", ".join(sorted(policy.locations)), ", ".join(sorted(policy.account_types))
        ),
        "",
        "This page summarises; the provider's published text decides.",
        "",
        *_amendments(policy),
        *_clauses(rows),
        *_outcomes(policy, served),
        *_controls(policy, served),
        *_fees(policy),
        *_transfer(policy),
        *_exemptions(policy),
        *_evidence(policy),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _amendments(policy):
    amendments = policy.document.get("amendments")
    if amendments is None:
        return []
    parts = []
    if "effective_on" in amendments:
        parts.append("a new version is in force on %s" % " or ".join(amendments["effective_on"]))
    if "announced" in amendments:
        parts.append("a material change is told %s ahead" % span(parse_duration(amendments["announced"])))
    if "grace" in amendments:
        parts.append("who terminates over it keeps the prior version for %s" % span(parse_duration(amendments["grace"])))
    return ["Changes: %s (%s)." % ("; ".join(parts), ", ".join(amendments["clauses"])), ""]


def _clauses(rows):
    counted = Counter(row["state"] for row in rows)
    total = ", ".join("%d %s" % (counted[s], _STATES[s].strip("*")) for s in _STATES if counted[s])
    lines = [
        "## Clauses: how each is held, and how that is tested",
        "",
        "%d clauses: %s." % (len(rows), total),
        "",
        '"Held in part" means that code carries some of it and the rest is named as missing. A ladder is the list of',
        "measures that a runbook opens, with their lengths, when it is started with the name of a violation.",
        "",
        _row("Clause", "What it says", "State", "How it is held", "Tests"),
        _row(*["---"] * 5),
    ]
    for row in rows:
        held = "<br>".join("%s: %s" % (_KINDS[one["kind"]], _cell(one["text"])) for one in row["carriers"])
        tests = list(dict.fromkeys(_test_name(test) for one in row["carriers"] for test in one["tests"]))
        lines.append(
            _row(row["clause"], _cell(row["summary"]), _STATES[row["state"]], held or "nothing is said", "<br>".join(tests))
        )
    return [*lines, ""]


def _outcomes(policy, served):
    unserved = sorted(
        {
            measure.enforcement
            for name in policy.document["violations"]
            for location in policy.locations
            for account_type in policy.account_types
            for step in policy.violation(name, location, account_type).ladder
            for measure in step.alternatives
        }
        - set(served.enforcements)
    )
    lines = [
        "## What follows from what",
        "",
        "By violation, location, account type and add-on. Steps are taken from left to right, each when its condition",
        "comes about; in brackets the clause. Fees are owed only where the fault is the customer's. A step is proposed and",
        "a person confirms it, unless it says *by itself*; termination is only ever proposed, and another person agrees.",
        "",
    ]
    if unserved:
        lines += ["Not carried out by this version: %s." % ", ".join("`%s`" % kind for kind in unserved), ""]
    lines += [
        _row("Violation", "Where", "Add-on", "Clause", "Fault", "First step", "Further steps", "Fees", "Notice"),
        _row(*["---"] * 9),
    ]
    for row in grouped(policy):
        name = row["violation"] + (": %s" % _cell(row["summary"]) if row["summary"] else "")
        if row["allowed"]:
            steps = ["**allowed**", ""]
        else:
            first, *further = row["steps"] or ["none: a person decides"]
            steps = [_cell(first), "; then ".join(_cell(one) for one in further)]
        lines.append(
            _row(
                name,
                row["where"],
                row["addons"],
                row["clause"],
                row["fault"],
                *steps,
                "; ".join(_cell(fee) for fee in row["fees"]),
                "" if row["allowed"] else row["notice"] or notice_text(None),
            )
        )
    return [*lines, ""]


def _controls(policy, served):
    lines = [
        "## Standing controls",
        "",
        "A control that isn't listed is off. Observed means counted and let pass.",
        "",
        _row("Control", "Where", "Mode", "Clause", "Options", "Carried out"),
        _row(*["---"] * 6),
    ]
    found = False
    for control in sorted(policy.document["controls"]):
        settings = {}
        for location in sorted(policy.locations):
            for account_type in sorted(policy.account_types):
                one = policy.control(control, location, account_type)
                options = ", ".join("%s %s" % (key, option_text(value)) for key, value in sorted(one.options.items()))
                key = (one.mode, one.clause, options) if one.mode != "off" else ("off", "", "")
                settings.setdefault(key, set()).add((location, account_type))
        if set(settings) == {("off", "", "")}:
            continue
        found = True
        for (mode, clause, options), places in settings.items():
            carried = "" if mode == "off" else "yes" if control in served.controls else "**not by this version**"
            lines.append(_row(control, where_text(policy, places), mode, clause, _cell(options), carried))
    return [*lines, ""] if found else ["## Standing controls", "", "None.", ""]


def _fees(policy):
    fees = policy.document["fees"]
    if not fees:
        return []
    lines = ["## Fees", "", _row("Fee", "Amount"), _row("---", "---")]
    return [*lines, *(_row(name, _cell(fee_text(fee))) for name, fee in sorted(fees.items())), ""]


def _transfer(policy):
    terms = policy.transfer()
    if terms is None:
        return []
    return ["## Transfer", "", "Counted over windows of 30 days from the service's own day: %s [%s]." % (transfer_text(terms), terms["clause"]), ""]


def _exemptions(policy):
    allowed = {name: terms for name, terms in sorted(policy.document["exemptions"].items()) if terms["allowed"]}
    if not allowed:
        return []
    lines = ["## What a service may be let through, or permitted on record", "",
             _row("From, or what", "At most", "What must be in order", "Looked up in DNS", "Clause"), _row(*["---"] * 5)]
    for name, terms in allowed.items():
        longest = span(parse_duration(terms["max_duration"])) if terms.get("max_duration") else "no limit"
        lines.append(_row(name, longest, "; ".join(_cell(one) for one in terms["requires"]), ", ".join(terms.get("checks") or ()), terms.get("clause") or ""))
    return [*lines, ""]


def _evidence(policy):
    classes = policy.evidence()["classes"]
    lines = ["## Evidence", "", "Kept from the end of the case; a legal hold stops the end.", "",
             _row("Class", "Of cases about", "Kept", "Clause"), _row(*["---"] * 4)]
    for name, terms in sorted({"general": {}, **classes}.items()):
        of = ", ".join(terms.get("violations") or ()) or ("all others" if name == "general" else "what a person says")
        lines.append(_row(name, of, evidence_text(terms), terms.get("clause") or ""))
    return [*lines, "", "Whom notices went to, what they said, and what people wrote of a case: %s." % personal_text(policy.evidence()), ""]


def index_page(policies, served):
    """The page that lists all policies.

    :param policies: Policy objects
    """
    lines = [
        _HEAD.format(source=""),
        "# The policies that are shipped",
        "",
        "Each page says for every clause how it is held and how that is tested, and what follows from which violation.",
        "What the same violation leads to under each of them: [side by side](matrix.md).",
        "",
        "Carried out by this version: the controls %s; the enforcements %s." % (
            _code(served.controls), _code(served.enforcements)
        ),
        "",
        _row("Policy", "Provider", "Version", "Clauses", *(_STATES[one].strip("*") for one in _STATES)),
        _row(*["---"] * (4 + len(_STATES))),
    ]
    for policy in policies:
        rows = coverage(policy, served)
        counted = Counter(row["state"] for row in rows)
        lines.append(
            _row(
                "[%s](%s.md)" % (policy.name, policy.name),
                _cell(policy.provider["name"]),
                policy.version,
                str(len(rows)),
                *(str(counted[one]) for one in _STATES),
            )
        )
    return "\n".join(lines) + "\n"


def matrix_page(policies):
    """All policies side by side: what follows from the same violation under each.

    :param policies: Policy objects
    """
    policies = list(policies)
    lines = [
        _HEAD.format(source=""),
        "# The same violation under each policy",
        "",
        "Every violation by policy, location, account type and set of add-ons, as `hosting.aup.respond` decides it: the ladder",
        "is followed to its end by the code that decides in earnest, and what it answered is what stands here. Equal outcomes",
        "of a policy are one row.",
        "",
        "- A step is proposed and a person confirms it, unless it says *by itself*. Termination is only ever proposed, and",
        "  another person agrees.",
        "- Steps come from left to right, each at the next call, or when what it names is so.",
        "- An empty *Add-ons* means that none changes anything. Fees are owed only where the case finds the fault to be the",
        "  customer's, and never by a victim.",
        "- Location, account type and violation are the policy's own words; any other is refused, and none is a default.",
        "",
    ]
    violation = None
    rows = side_by_side(policies)
    for row in rows:
        if row["violation"] != violation:
            violation = row["violation"]
            words = dict.fromkeys(one["summary"] for one in rows if one["violation"] == violation and one.get("summary"))
            lines += [
                "",
                "## %s" % violation,
                "",
                *(["In the policies' words: %s." % "; ".join(_cell(one) for one in words), ""] if words else []),
                _row("Policy", "Where", "Add-ons", "Fault", "First", "Then", "Fees", "Told", "Clause"),
                _row(*["---"] * 9),
            ]
        if row["policy"] is None:
            lines.append(_row(", ".join(row["unruled"]), "", "", "", "*no such rule*", "", "", "", ""))
            continue
        what = row["outcome"]
        if what.allowed:
            first, then, told = "**allowed**", "", ""
        else:
            first, *rest = what.turns or ["no step: a person decides"]
            first, then, told = _cell(first), "; then ".join(_cell(one) for one in rest), what.notice
        lines.append(_row("[%s](%s.md)" % (row["policy"], row["policy"]), row["where"], row["addons"], what.fault, first, then,
                          "; ".join(_cell(fee) for fee in what.fees), told, what.clause))
    lines += [
        "",
        "## Standing controls",
        "",
        "A control that isn't listed for a policy is off there. Observed means counted and let pass.",
        "",
        _row("Control", "Policy", "Where", "Mode", "Clause"),
        _row(*["---"] * 5),
    ]
    lines += [_row(one["control"], "[%s](%s.md)" % (one["policy"], one["policy"]), one["where"], one["mode"], one["clause"])
              for one in controls_side_by_side(policies)]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _code(names):
    return ", ".join("`%s`" % name for name in sorted(names))
