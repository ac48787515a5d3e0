# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy says about one service, violation, enforcement or exemption. PRIVATE to the collection."""

from __future__ import annotations

import ipaddress
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy._document import (
    complete_document,
    enforcement_defaults,
    read_document,
    seconds_or_none,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy._schema import did_you_mean
from ansible_collections.hosting.aup.plugins.module_utils._policy._template import STANDARD
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import (
    CONTROLS,
    ENFORCEMENTS,
    NETWORKS,
    PERMITS,
)

ControlSetting = namedtuple(
    "ControlSetting", "control mode options clause reason adoption_mode adoption_seconds"
)
ControlSetting.__doc__ = """What a control is for one location and account type.

mode: off|observe|enforce; options: dict, not to be changed; clause: number, or None when off; reason: which
part of the policy says so; adoption_mode: observe|enforce, what guests that were there before adoption get;
adoption_seconds: how long that lasts, None when adoption_mode is enforce.
"""

ExemptionTerms = namedtuple("ExemptionTerms", "control allowed max_seconds requires approver clause reason checks revoked_by")
ExemptionTerms.__doc__ = (
    "Whether and how a control may be relaxed for one service. max_seconds None: no limit."
)

EnforcementTerms = namedtuple("EnforcementTerms", "kind options default_seconds max_seconds max_rule")
EnforcementTerms.__doc__ = """How an enforcement is done.

options: dict with defaults; default_seconds None: the policy has no default; max_seconds: the tightest limit,
and max_rule the key that sets it.
"""

Violation = namedtuple("Violation", "name clause fault summary fees notice ladder allowed reason remedy")
Violation.__doc__ = """A violation and its ladder of LadderStep, in order.

allowed: the policy permits it there: fault none, no fees, no ladder; reason: which part of the policy says so;
remedy: what the customer is to do, or None.
"""

LadderStep = namedtuple("LadderStep", "alternatives unless after mode clause notice said")
LadderStep.__doc__ = """One step: any one of its alternatives (Measure).

unless: add-ons that spare it; after: None or a dict condition, seconds, times; mode: act|propose; clause: its
own or the violation's; notice: its own or the violation's, or None; said: whether the policy states the mode,
without which automation only proposes.
"""

Measure = namedtuple("Measure", "enforcement until seconds review_seconds options")
Measure.__doc__ = """An enforcement as a ladder sets it.

until: time|remedied|decision; seconds only with time; review_seconds: when it is looked at again; options:
the policy's options of that enforcement, with what this step sets over them.
"""

Guardrails = namedtuple(
    "Guardrails",
    "protected max_services_per_run max_seconds max_duration catalogue_shrink_percent terminate_persons"
    " max_steps_per_hour widest_drop",
)
Guardrails.__doc__ = (
    "Limits on what a run may do. protected: prefixes as text; max_duration: the text as written;"
    " max_steps_per_hour: steps taken by time alone, in any hour; widest_drop: {4: length, 6: length} of the widest"
    " remote prefix that a drop may name."
)


class Policy:
    """A validated policy. Make one with `from_document`.

    `document` is the canonical document with all defaults; don't change it.
    """

    def __init__(self, document):
        self.document = document
        self.name = document["name"]
        self.version = document["version"]
        self.key = "%s@%s" % (self.name, self.version)
        self.digest = digest(document)
        self.provider = document["provider"]
        self.effective = document["effective"]
        self.clauses = document["clauses"]
        self.locations = frozenset(document["locations"])
        self.account_types = frozenset(document["account_types"])
        self.guardrails = _guardrails(document["guardrails"])
        self._settings = {}

    @classmethod
    def from_document(cls, document, source="<policy>", where=None):
        """Read and validate a plain dict, `extends` already merged.

        :param source: what errors call the document: its file
        :param where: function from a key path (tuple) to (file, line) or None, for errors
        :raises PolicyDocumentError: lists everything that is wrong
        """
        return cls(read_document(document, source, where))

    @classmethod
    def from_released(cls, document):
        """A policy of a release, as the ledger keeps it: binding as it stands, whatever has become stricter since."""
        return cls(complete_document(document))

    def __repr__(self):
        return "<Policy %s>" % self.key

    def control(self, name, location, account_type):
        """What a control is for a service at a location with an account type; the first match wins.

        A known control that the policy says nothing of is off.

        :raises PolicyError: unknown control, or a location or account type the policy doesn't declare
        """
        key = (name, location, account_type)
        setting = self._settings.get(key)
        if setting is None:
            self._check_account_type(account_type)
            setting = self._settings[key] = self._setting(name, location, account_type)
        return setting

    def unknown_port(self, control, location):
        """What a control is for a guest port of no known service: rules by account type don't apply to it.

        :raises PolicyError: unknown control or location
        """
        key = (control, location)
        setting = self._settings.get(key)
        if setting is None:
            setting = self._settings[key] = self._setting(control, location, None)
        return setting

    def violation(self, name, location=None, account_type=None, addons=()):
        """What a violation means for a service at a location with an account type and add-ons.

        The first rule that matches wins. Location and account type may only be left out where the violation
        has no rules.

        :raises PolicyError: none of this name; or a location or account type the policy doesn't declare
        """
        known = self.document["violations"]
        if name not in known:
            raise self._no_such("violation", name, known)
        whole, reason = known[name], "policy %s, violations.%s" % (self.key, name)
        if location is not None or account_type is not None or whole["rules"]:
            self._check_location(location)
            self._check_account_type(account_type)
        for number, rule in enumerate(whole["rules"]):
            if self._matches(rule["when"], location, account_type, addons):
                whole = dict(whole, **rule)
                reason += ".rules[%d] (location %s, account type %s)" % (number, location, account_type)
                break
        if whole["allowed"]:
            return Violation(name, whole["clause"], "none", whole.get("summary"), (), None, (), True, reason, None)
        return Violation(
            name,
            whole["clause"],
            whole["fault"],
            whole.get("summary"),
            tuple(whole["fees"]),
            whole.get("notice"),
            tuple(self._step(step, whole) for step in whole["ladder"]),
            False,
            reason,
            whole.get("remedy"),
        )

    def measure(self, violation, kind, location=None, account_type=None, addons=()):
        """The first measure of an enforcement kind on a violation's ladder, or None when the ladder has none.

        :raises PolicyError: as `violation`; or no such kind of enforcement
        """
        self._check_kind(kind)
        for step in self.violation(violation, location, account_type, addons).ladder:
            for measure in step.alternatives:
                if measure.enforcement == kind:
                    return measure
        return None

    @staticmethod
    def _matches(when, location, account_type, addons):
        return (
            location in when.get("location", (location,))
            and account_type in when.get("account_type", (account_type,))
            and ("addons" not in when or bool(set(when["addons"]) & set(addons)))
        )

    def addons(self):
        """The add-ons that change an outcome, sorted."""
        found = set()
        for violation in self.document["violations"].values():
            ladders = [violation["ladder"]]
            for rule in violation["rules"]:
                found.update(rule["when"].get("addons", ()))
                ladders.append(rule.get("ladder", ()))
            for ladder in ladders:
                for step in ladder:
                    found.update(step.get("unless", ()))
        return sorted(found)

    def enforcement(self, kind):
        """How an enforcement is done. :raises PolicyError: no such kind; lists the known ones."""
        self._check_kind(kind)
        terms = self._terms_as_written(kind)
        options = {
            key: value for key, value in terms.items() if key not in ("default_duration", "max_duration")
        }
        longest, rule = self.guardrails.max_seconds, "guardrails.max_duration"
        own = seconds_or_none(terms.get("max_duration"))
        if own is not None and own <= longest:
            longest, rule = own, "enforcements.%s.max_duration" % kind
        return EnforcementTerms(kind, options, seconds_or_none(terms.get("default_duration")), longest, rule)

    def exemption(self, control):
        """Whether and how a control may be relaxed. What the policy doesn't mention is not allowed.

        :raises PolicyError: unknown control
        """
        if control not in PERMITS:
            self._check_control(control)
        terms = self.document["exemptions"].get(control)
        if terms is None:
            return ExemptionTerms(
                control, False, None, (), None, None, "policy %s has no exemptions.%s" % (self.key, control), (), ()
            )
        return ExemptionTerms(
            control,
            terms["allowed"],
            seconds_or_none(terms.get("max_duration")),
            tuple(terms["requires"]),
            terms.get("approver"),
            terms.get("clause"),
            "policy %s, exemptions.%s" % (self.key, control),
            tuple(terms.get("checks", ())),
            tuple(terms.get("revoked_by", ())),
        )

    def networks(self, name):
        """The prefixes of a named network, as text; none overlaps another.

        :raises PolicyError: no such network
        """
        if name not in NETWORKS:
            raise self._no_such("network", name, NETWORKS)
        prefixes = [ipaddress.ip_network(prefix) for prefix in self.document["networks"][name]]
        return [
            str(prefix)
            for version in (4, 6)
            for prefix in ipaddress.collapse_addresses(one for one in prefixes if one.version == version)
        ]

    def rescue_prefixes(self):
        """The prefixes that still reach a quarantined guest."""
        prefixes = {
            prefix
            for name in self.enforcement("quarantine").options["rescue"]
            for prefix in self.networks(name)
        }
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
        return [
            str(prefix)
            for version in (4, 6)
            for prefix in ipaddress.collapse_addresses(one for one in networks if one.version == version)
        ]

    def clause_summary(self, clause):
        """What a clause says, in the policy's words, or None for a clause it doesn't list."""
        return self.clauses.get(clause, {}).get("summary")

    def fee(self, name):
        """A fee as a dict: amount, currency, per, clause … :raises PolicyError: no such fee"""
        return self._named("fee", "fees", name)

    def transfer(self):
        """How transfer above the allowance is dealt with: violation, mode, direction, notices (percent), clause; or None."""
        terms = self.document.get("transfer")
        return None if terms is None else dict(terms, notices=sorted(int(one.rstrip("%")) for one in terms["notices"]))

    def evidence(self):
        """How evidence is kept: largest_mib, personal_data (how long after a case), and classes with hash_only, retention, violations, clause."""
        return self.document.get("evidence") or {"largest_mib": 256, "classes": {}}

    def notice(self, name):
        """A notice as a dict: timing, wait, subject, text … :raises PolicyError: no such notice"""
        return self._named("notice", "notices", name)

    def notice_without_case(self, timing):
        """(name, subject, text, unknown) of the notice about transfer or about a version to come (timing `transfer`, `amendment`).

        That which `transfer.notice` or `amendments.notice` names, else the standard text under the name of its timing.
        """
        part = self.document.get("transfer" if timing == "transfer" else "amendments") or {}
        name = part.get("notice")
        if name is None:
            return (timing, *STANDARD[timing], "ask")
        return (name, *self.notice_text(name), self.notice(name).get("unknown", "ask"))

    def notice_text(self, name):
        """(subject, text) templates of a notice: its own, else those of its timing.

        :raises PolicyError: no such notice
        """
        notice = self.notice(name)
        subject, text = STANDARD[notice["timing"]]
        return notice.get("subject", subject), notice.get("text", text)

    def wait_seconds(self, name):
        """How long a notice that goes out before leaves to answer, or None. :raises PolicyError: no such notice"""
        return seconds_or_none(self.notice(name).get("wait"))

    def notice_of_action(self, name):
        """The notice that tells of a measure already taken, where `name` is one that was to go out before: its name, or None."""
        if name is None or self.notice(name)["timing"] != "before":
            return name
        known = self.document["notices"]
        return next((other for timing in ("with", "after") for other in sorted(known) if known[other]["timing"] == timing), None)

    def _named(self, what, part, name):
        if name not in self.document[part]:
            raise self._no_such(what, name, self.document[part])
        return self.document[part][name]

    def _terms_as_written(self, kind):
        """A kind's settings; for one the policy says nothing of, those of an empty entry."""
        terms = self.document["enforcements"].get(kind)
        return enforcement_defaults(kind) if terms is None else terms

    def _setting(self, name, location, account_type):
        """The setting for a location and an account type; None is an unknown one, which no rule names."""
        self._check_control(name)
        self._check_location(location)
        control = self.document["controls"].get(name)
        if control is None:
            return ControlSetting(
                name, "off", {}, None, "policy %s says nothing of %s" % (self.key, name), "observe", None
            )
        adoption = control["adoption"]
        adoption_seconds = seconds_or_none(adoption.get("for")) if adoption["mode"] == "observe" else None
        options, mode, clause = dict(control["options"]), control["mode"], control.get("clause")
        subject = "location %s, %s" % (
            location,
            "account type unknown" if account_type is None else "account type %s" % account_type,
        )
        reason = "policy %s, controls.%s (no rule for %s)" % (self.key, name, subject)
        if not control["rules"]:
            reason = "policy %s, controls.%s" % (self.key, name)
        for number, rule in enumerate(control["rules"]):
            when = rule["when"]
            if location not in when.get("location", (location,)):
                continue
            if "account_type" in when and account_type not in when["account_type"]:
                continue
            mode, clause = rule.get("mode", mode), rule.get("clause", clause)
            options.update(rule.get("options", {}))
            reason = "policy %s, controls.%s.rules[%d] (%s)" % (self.key, name, number, subject)
            break
        return ControlSetting(name, mode, options, clause, reason, adoption["mode"], adoption_seconds)

    def _step(self, step, violation):
        after = step.get("after")
        if after is not None:
            after = {
                "condition": after["condition"],
                "seconds": seconds_or_none(after.get("for")),
                "times": after.get("times"),
            }
        return LadderStep(
            tuple(self._measure(measure) for measure in step.get("any_of", (step,))),
            tuple(step.get("unless", ())),
            after,
            step.get("mode", "act"),
            step.get("clause", violation["clause"]),
            step.get("notice", violation.get("notice")),
            "mode" in step,
        )

    def _measure(self, measure):
        kind = measure["enforcement"]
        terms = self.enforcement(kind)
        seconds = seconds_or_none(measure.get("duration"))
        until = "time" if seconds is not None else measure.get("until")
        if until is None:
            seconds = terms.default_seconds
            until = "decision" if seconds is None else "time"
        options = dict(terms.options, **measure.get("options", {}))
        return Measure(kind, until, seconds, seconds_or_none(measure.get("review")), options)

    def _check_control(self, name):
        if name not in CONTROLS:
            raise self._no_such("control", name, CONTROLS)

    def _check_location(self, location):
        if location not in self.locations:
            raise self._no_such("location", location, self.locations, "Declare it under locations.")

    def _check_kind(self, kind):
        if kind not in ENFORCEMENTS:
            raise self._no_such("enforcement", kind, ENFORCEMENTS)

    def _check_account_type(self, account_type):
        if account_type not in self.account_types:
            raise self._no_such(
                "account type", account_type, self.account_types, "Declare it under account_types."
            )

    def _no_such(self, what, value, known, remedy=None):
        known = sorted(known)
        close = did_you_mean(value, known)
        return PolicyError(
            "policy %s has no %s %s. It has: %s."
            % (self.key, what, repr(value)[:80], ", ".join(known) or "none"),
            target=what,
            remedy=" ".join(text for text in (close, remedy) if text) or "Use one of these.",
        )


def _guardrails(document):
    return Guardrails(
        tuple(document["protected"]),
        document["max_services_per_run"],
        seconds_or_none(document["max_duration"]),
        document["max_duration"],
        int(document["catalogue_shrink_limit"].rstrip("%")),
        document["terminate"]["persons"],
        document.get("max_steps_per_hour", document["max_services_per_run"]),
        {4: document["widest_drop"]["ipv4"], 6: document["widest_drop"]["ipv6"]},
    )
