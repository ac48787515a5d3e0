# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new version of a policy changes, and for whom. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import CONTROLS
from ansible_collections.hosting.aup.plugins.module_utils._resolve import versions_of
from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._matrix import outcome_text, outcomes
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import evidence_text, fee_text, option_text, personal_text, span, transfer_text


def difference(old, new):
    """What changes from one Policy to another.

    :returns: dict of lists: clauses, controls, violations, fees, exemptions, evidence, guardrails (each item has before and
        after, None where it isn't there), locations and account_types (added, removed), addons
        (all that change an outcome), and `owed`: what the old
        version promises its customers about a change
    """
    addons = sorted({*old.addons(), *new.addons()})
    return {
        "old": old.key,
        "new": new.key,
        "clauses": _by_name(
            {name: clause["summary"] for name, clause in old.clauses.items()},
            {name: clause["summary"] for name, clause in new.clauses.items()},
            "clause",
        ),
        "locations": _sets(old.locations, new.locations),
        "account_types": _sets(old.account_types, new.account_types),
        "controls": _controls(old, new),
        "violations": _violations(old, new, addons),
        "addons": addons,
        "fees": _by_name(_fees(old), _fees(new), "fee") + _by_name(_transfer(old), _transfer(new), "fee"),
        "exemptions": _by_name(old.document["exemptions"], new.document["exemptions"], "control"),
        "evidence": _by_name(_evidence(old), _evidence(new), "class"),
        "guardrails": _by_name(old.document["guardrails"], new.document["guardrails"], "guardrail"),
        "owed": owed(old),
    }


def owed(policy):
    """What a version promises about the change to the next one, as a dict; None where it promises nothing."""
    amendments = policy.document.get("amendments")
    if amendments is None:
        return None
    return {key: amendments.get(key) for key in ("clauses", "effective_on", "announced", "grace")}


def _by_name(before, after, what):
    return [
        {what: name, "before": before.get(name), "after": after.get(name)}
        for name in sorted(set(before) | set(after))
        if before.get(name) != after.get(name)
    ]


def _sets(before, after):
    return {"added": sorted(after - before), "removed": sorted(before - after)}


def _fees(policy):
    return {name: fee_text(fee) for name, fee in policy.document["fees"].items()}


def _transfer(policy):
    terms = policy.transfer()
    return {} if terms is None else {"transfer above the allowance": transfer_text(terms)}


def _evidence(policy):
    kept = {name: evidence_text(terms) for name, terms in {"general": {}, **policy.evidence()["classes"]}.items()}
    return {**kept, "personal data": personal_text(policy.evidence())}


def _places(old, new):
    return [
        (location, account_type)
        for location in sorted(old.locations | new.locations)
        for account_type in sorted(old.account_types | new.account_types)
    ]


def _setting(policy, control, location, account_type):
    if location not in policy.locations or account_type not in policy.account_types:
        return None
    setting = policy.control(control, location, account_type)
    return {"mode": setting.mode, "options": dict(setting.options), "clause": setting.clause}


def _controls(old, new):
    rows = []
    for control in CONTROLS:
        for location, account_type in _places(old, new):
            before = _setting(old, control, location, account_type)
            after = _setting(new, control, location, account_type)
            if _effect(before) != _effect(after):
                rows.append(
                    {
                        "control": control,
                        "location": location,
                        "account_type": account_type,
                        "before": before,
                        "after": after,
                    }
                )
    return rows


def _effect(setting):
    """A setting without what is idle while the control is off; a place that isn't declared has none."""
    return setting if setting is None or setting["mode"] != "off" else {"mode": "off"}


def _outcomes(policy, addons):
    return {
        key: {part: row[part] for part in ("allowed", "clause", "fault", "steps", "fees", "notice")}
        for key, row in outcomes(policy, addons).items()
    }


def _violations(old, new, addons):
    before, after = _outcomes(old, addons), _outcomes(new, addons)
    rows = []
    for key in sorted(set(before) | set(after)):
        name, location, account_type, chosen = key
        if before.get(key) != after.get(key):
            rows.append(
                {
                    "violation": name,
                    "location": location,
                    "account_type": account_type,
                    "addons": list(chosen),
                    "before": before.get(key),
                    "after": after.get(key),
                }
            )
    return rows


def released_version(new, release, policies):
    """The Policy that a new one takes the place of: the last of its name in the release, or else the release's default."""
    named = [policy for policy in policies.values() if policy.name == new.name]
    named = [policy for policy in named if policy.key != new.key] or named
    return max(named, key=lambda policy: (policy.effective, policy.key)) if named else policies[release["default_policy"]]


def concerned_services(found, new, old, release, policies, catalogue):
    """Which services of a release a difference concerns, and how.

    Concerned can be services that are under a policy of the old one's name.

    :param found: what `difference` returned
    :param release: the release, for its default policy
    :param policies: {key: Policy} of the release
    :param catalogue: its catalogue document
    :returns: `[{"service", "customer", "location", "account_type", "controls", "violations", "fees", "exemptions", "refused"}]`:
        names of what changes for it; refused says why the new version doesn't take it at all, else None
    """
    # Fees and exemptions know no places: they concern everybody.
    fees, exemptions = [row["fee"] for row in found["fees"]], [row["control"] for row in found["exemptions"]]
    controls, violations = {}, {}
    for row in found["controls"]:
        controls.setdefault((row["location"], row["account_type"]), set()).add(row["control"])
    for row in found["violations"]:
        place = (row["location"], row["account_type"], tuple(row["addons"]))
        violations.setdefault(place, set()).add(row["violation"])
    result = []
    for name, service in sorted(catalogue["services"].items()):
        if versions_of(policies, release, service.get("policy"))[0].name != old.name:
            continue
        place = (service["location"], service["account_type"])
        addons = tuple(sorted(set(found["addons"]) & set(service["addons"])))
        row = {
            "service": name,
            "customer": service.get("customer"),
            "location": place[0],
            "account_type": place[1],
            "controls": sorted(controls.get(place, ())),
            "violations": sorted(violations.get((*place, addons), ())),
            "fees": fees,
            "exemptions": exemptions,
            "refused": _refused(new, *place),
        }
        if any(row[part] for part in ("controls", "violations", "fees", "exemptions", "refused")):
            result.append(row)
    return result


def _refused(policy, location, account_type):
    try:
        policy.control(CONTROLS[0], location, account_type)
    except PolicyError as error:
        return str(error)
    return None


def diff_lines(found, services=None):
    """A difference in lines for people.

    :param services: what `concerned_services` returned, or None where there is no ledger to ask
    """
    lines = ["%s → %s" % (found["old"], found["new"])]
    for part, what in (("locations", "location"), ("account_types", "account type")):
        for word, names in sorted(found[part].items()):
            lines += ["%s %s: %s" % (what, word, name) for name in names]
    lines += ["clause %s" % _change(row["clause"], row["before"], row["after"]) for row in found["clauses"]]
    lines += _control_lines(found["controls"])
    lines += _violation_lines(found["violations"])
    for part, what in (("fees", "fee"), ("exemptions", "control"), ("evidence", "class"), ("guardrails", "guardrail")):
        label = {"exemptions": "exemption from", "evidence": "evidence:"}.get(part, what)
        lines += ["%s %s" % (label, _change(row[what], row["before"], row["after"])) for row in found[part]]
    if len(lines) == 1:
        lines.append("nothing changes")
    lines += _owed_lines(found["owed"])
    if services is not None:
        customers = len({row["customer"] for row in services})
        lines.append("%d service%s concerned, of %d customer%s" % (
            len(services), "" if len(services) == 1 else "s", customers, "" if customers == 1 else "s"))
        for row in services:
            changed = row["refused"] or ", ".join(
                [*row["controls"], *row["violations"], *("fee %s" % one for one in row["fees"]), *("exemption from %s" % one for one in row["exemptions"])])
            lines.append("  %s (%s, %s): %s" % (row["service"], row["location"], row["account_type"], changed))
    return lines


def lines_for(found, rows):
    """What of a difference concerns these services, for their customer: as `diff_lines`, and of their places alone.

    :param rows: of `concerned_services`
    """
    places = {(row["location"], row["account_type"]) for row in rows}
    own = {
        part: [row for row in found[part] if (row["location"], row["account_type"]) in places
               and any(row[part[:-1]] in one[part] for one in rows)]
        for part in ("controls", "violations")
    }
    lines = _control_lines(own["controls"]) + _violation_lines(own["violations"])
    lines += ["fee %s" % _change(row["fee"], row["before"], row["after"]) for row in found["fees"]]
    lines += ["exemption from %s: changed" % row["control"] for row in found["exemptions"]]
    return lines + sorted({"no longer taken: %s" % row["refused"] for row in rows if row["refused"]})


def _change(name, before, after):
    if before is None:
        return "%s is new: %s" % (name, after)
    if after is None:
        return "%s is gone; it was: %s" % (name, before)
    return "%s: %s → %s" % (name, before, after)


def _mode(setting):
    if setting is None:
        return "not declared"
    options = ", ".join("%s %s" % (key, option_text(value)) for key, value in sorted(setting["options"].items()))
    if setting["mode"] == "off":
        return "off"
    return "%s [%s]%s" % (setting["mode"], setting["clause"], " (%s)" % options if options else "")


def _outcome(row):
    return "not stated" if row is None else outcome_text(row)


def _control_lines(rows):
    """Equal changes of one control in one line, with all the places they are at."""
    places = {}
    for row in rows:
        where = "%s/%s" % (row["location"], row["account_type"])
        places.setdefault((row["control"], _mode(row["before"]), _mode(row["after"])), []).append(where)
    return [
        "control %s (%s): %s → %s" % (name, ", ".join(where), before, after)
        for (name, before, after), where in places.items()
        if {before, after} != {"off", "not declared"}
    ]


def _violation_lines(rows):
    """Equal changes of one violation in one line, with all the places they are at."""
    places = {}
    for row in rows:
        where = "%s/%s%s" % (row["location"], row["account_type"], "".join(" with " + a for a in row["addons"]))
        places.setdefault((row["violation"], _outcome(row["before"]), _outcome(row["after"])), []).append(where)
    return [
        "violation %s (%s): %s → %s" % (name, ", ".join(where), before, after)
        for (name, before, after), where in places.items()
    ]


def _owed_lines(promised):
    if promised is None:
        return ["the old version promises nothing about changes"]
    clauses = ", ".join(promised["clauses"])
    lines = []
    if promised["announced"]:
        lines.append("owed by %s: a material change is told %s ahead" % (clauses, span(parse_duration(promised["announced"]))))
    if promised["grace"]:
        lines.append(
            "owed by %s: who terminates over it keeps the old version for %s" % (clauses, span(parse_duration(promised["grace"])))
        )
    if promised["effective_on"]:
        lines.append("in force on %s [%s]" % (" or ".join(promised["effective_on"]), clauses))
    return lines
