# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a policy in words that need no knowledge of its file format. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._time import duration_text, parse_duration

FAULT = {"none": "none", "customer": "the customer's", "unknown": "decided per case"}
TIMING = {"with": "with the measure", "after": "after the measure", "held": "held back until released"}
_UNITS = {"hour": "hour", "TB": "TB (10^12 bytes)", "TiB": "TiB (2^40 bytes)"}


def option_text(value):
    """The value of an option: `25, 465`, `yes`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value)


def span(seconds):
    """`48 h`, `7 days`, `90 min`."""
    text = duration_text(seconds)
    if text.endswith("h") and seconds % 86400 == 0 and seconds > 2 * 86400:
        return "%d days" % (seconds // 86400)
    return "%s %s" % (text[:-1], {"h": "h", "m": "min", "s": "s"}[text[-1]])


def measure_text(measure):
    """What is done and until when: `suspended for 48 h`."""
    options, kind = measure.options, measure.enforcement
    ports = options.get("ports")
    done = {
        "suspend": "suspended",
        "quarantine": "quarantined (runs on; only the rescue networks reach it)",
        "null_route": "its addresses null-routed",
        "drop": "traffic with the remote addresses concerned dropped",
        "bandwidth_cap": "bandwidth capped%s" % (" at %s" % options["rate"] if "rate" in options else ""),
        "cpu_throttle": "processors throttled%s" % (" to %s" % options["share"] if "share" in options else ""),
        "io_throttle": "disks throttled%s" % (" to %s IOPS" % options["iops"] if "iops" in options else ""),
        "smtp_block": "outgoing mail closed (port %s)" % ", ".join(str(port) for port in ports or ()),
        "port_block": "port %s closed" % ", ".join(str(port) for port in ports)
        if ports
        else "the port concerned closed",
        "terminate": "terminated",
    }[kind]
    if kind == "terminate":
        return done
    if measure.until == "time":
        end = "for %s" % span(measure.seconds)
    else:
        end = "until remedied" if measure.until == "remedied" else "until decided"
        if measure.review_seconds:
            end += ", looked at again after %s" % span(measure.review_seconds)
    return "%s %s" % (done, end)


def condition_text(after):
    """When a step's turn comes, or '' for at once."""
    if after is None:
        return ""
    seconds, times = after["seconds"], after["times"]
    return {
        "persists": "if it goes on%s" % (" for %s" % span(seconds) if seconds else ""),
        "unanswered": "if unanswered%s" % (" for %s" % span(seconds) if seconds else " in time"),
        "repeated": "if repeated%s%s"
        % (" %d times" % times if times else "", " within %s" % span(seconds) if seconds else ""),
        "harms_others": "if others are harmed",
    }[after["condition"]]


def step_text(step, unserved=()):
    """One step of a ladder; kinds in `unserved` are marked with °."""
    done = "; or ".join(
        measure_text(one) + ("°" if one.enforcement in unserved else "") for one in step.alternatives
    )
    if step.mode == "propose":
        done = "proposed to a person: %s" % done
    elif step.said:
        done = "by itself: %s" % done
    condition = condition_text(step.after)
    return "%s%s [%s]" % (condition + ": " if condition else "", done, step.clause)


def fee_text(fee):
    """`60.00 EUR once, when suspended [alteron.26]`."""
    amount = "%s %s" % (
        "%s to %s" % (fee["amount"], fee["maximum"]) if "maximum" in fee else fee["amount"],
        fee["currency"],
    )
    unit = "once" if fee["per"] == "once" else "per %s" % _UNITS[fee["per"]]
    if fee.get("rounding"):
        unit += " begun" if fee["rounding"] == "started" else ", pro rata"
    when = ", when suspended" if fee["due"] == "suspension" else ""
    return "%s %s%s [%s]" % (amount, unit, when, fee["clause"])


_TRANSFER = {
    "bill": "what is above the allowance is billed when the window ends",
    "cap": "above the allowance the service is capped until the window ends",
    "cap_until_paid": "above the allowance the service is capped until the window ends or more is bought",
}


def transfer_text(terms):
    """What transfer above the allowance leads to, in words."""
    counted = "bytes both ways" if terms["direction"] == "both" else "bytes the service sends"
    told = " and ".join("%d %%" % one for one in terms["notices"])
    return "%s; %s (violation %s)%s" % (counted, _TRANSFER[terms["mode"]], terms["violation"], "; told at %s" % told if told else "")


def transfer_follows(policy, terms, violation):
    """What follows above the allowance, for the customer.

    :param policy: for its fees
    :param terms: of `Policy.transfer()`
    :param violation: the Violation it names, at the service's place
    """
    fees = [fee_text(policy.fee(name)) for name in violation.fees if policy.fee(name)["per"] in ("TB", "TiB")]
    if terms["mode"] == "bill":
        return "what is above is billed when the window ends: %s" % "; ".join(fees)
    step = next(step for step in violation.ladder if any(m.enforcement == "bandwidth_cap" for m in step.alternatives))
    rate = next(m for m in step.alternatives if m.enforcement == "bandwidth_cap").options.get("rate")
    until = "until the window ends" + (" or more is bought (%s)" % "; ".join(fees) if terms["mode"] == "cap_until_paid" and fees else "")
    return "%sthe service is limited%s %s" % (
        "we decide whether " if step.mode == "propose" else "", " to %s" % rate if rate else " in bandwidth", until)


def evidence_text(terms):
    """How long evidence of a class is kept.

    :param terms: of the policy's `evidence.classes`, or {} for a class it doesn't name
    """
    if terms.get("hash_only"):
        return "the digest alone, never a file"
    return "files for %s after the case was closed" % span(parse_duration(terms["retention"])) if "retention" in terms else "files without an end"


def personal_text(evidence):
    """How long personal data of a case is kept."""
    text = evidence.get("personal_data")
    return "emptied %s after it was closed" % span(parse_duration(text)) if text else "kept until somebody erases it"


def notice_text(notice):
    """When the customer is told."""
    if notice is None:
        return "none stated"
    if notice["timing"] == "before":
        return "before the measure%s" % (", %s to answer" % span(parse_duration(notice["wait"])) if "wait" in notice else "")
    return TIMING[notice["timing"]]
