# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A case's document as one HTML page. Pure. PRIVATE to the collection.

The page is made of text alone: no script, no link, no picture, nothing is fetched. Every value goes through `_text`;
the page's own policy (CSP) refuses whatever might get past it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import unicodedata

_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,"Segoe UI","DejaVu Sans",sans-serif;color:#1b1f24;background:#f4f5f7;margin:0}
main{max-width:64rem;margin:0 auto;padding:2rem;background:#fff;min-height:100vh}
header{border-bottom:2px solid #1b1f24;margin-bottom:1.5rem;padding-bottom:.75rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid #d5d9de;padding-bottom:.25rem}
p{margin:.25rem 0 .75rem}
.quiet{color:#57606a}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.25rem;margin:0}
dt{color:#57606a}
dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th{text-align:left;font-weight:600;border-bottom:1px solid #8c959f;padding:.35rem .75rem .35rem 0;vertical-align:bottom}
td{border-bottom:1px solid #e3e6ea;padding:.4rem .75rem .4rem 0;vertical-align:top;overflow-wrap:break-word}
td.said{overflow-wrap:anywhere}
table.log{table-layout:fixed}
table.log td{overflow-wrap:anywhere}
.log th:first-child{width:12.5rem}
.log th:last-child{width:14rem}
.log.by th:nth-child(3){width:8rem}
td.sum{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.time{white-space:nowrap;font-variant-numeric:tabular-nums}
code{font:.8rem/1.4 ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.said{white-space:pre-wrap;overflow-wrap:anywhere}
.tag{display:inline-block;border:1px solid #8c959f;border-radius:.2rem;padding:0 .4rem;font-size:.8rem;white-space:nowrap}
.bad{border-color:#a40e26;color:#a40e26;font-weight:600}
footer{margin-top:2.5rem;border-top:1px solid #d5d9de;padding-top:.75rem;font-size:.8rem;color:#57606a}
@media print{body{background:#fff;font-size:10.5pt}main{max-width:none;padding:0}h2{break-after:avoid}tr{break-inside:avoid}}
"""
_POLICY = "default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'" % (
    base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii"))

_EVENTS = {
    "case_opened": "Case opened",
    "case_closed": "Case closed",
    "case_fault_decided": "Fault decided",
    "enforcement_opened": "Measure decided",
    "enforcement_active": "Measure seen in force",
    "enforcement_ending": "Measure to be ended",
    "enforcement_ended": "Measure seen gone",
    "enforcement_cancelled": "Measure withdrawn before it was in force",
    "enforcement_proposed": "Measure proposed",
    "enforcement_confirmed": "Measure confirmed by another person",
    "proposal_withdrawn": "Proposal withdrawn",
    "baseline_recorded": "State before the measure recorded",
    "baseline_closed": "State before the measure given back",
    "charge_recorded": "Charged",
    "charge_waived": "Charge waived",
    "charge_credited": "Charge credited",
    "charges_exported": "Charges taken by billing",
    "exemption_added": "Exemption given",
    "exemption_revoked": "Exemption revoked",
    "exemption_expired": "Exemption ended",
    "details_erased": "Personal details erased",
    "notice_queued": "Notice to be sent",
    "notice_held": "Notice held back",
    "notice_delivered": "Notice delivered",
    "notice_bounced": "Notice came back",
    "evidence_added": "Evidence added",
    "evidence_removed": "File of evidence removed, its digest stays",
    "evidence_restored": "File of evidence put in place again",
    "evidence_disclosed": "Evidence disclosed",
    "legal_hold_placed": "Legal hold placed",
    "legal_hold_released": "Legal hold released",
    "no_notice_placed": "Notices locked",
    "no_notice_released": "Notices no longer locked",
    "usage_threshold": "Part of the transfer used",
    "usage_window_closed": "Window of transfer over",
}
_KINDS = {
    "suspend": "Suspension", "quarantine": "Quarantine", "terminate": "Termination", "null_route": "Null route",
    "smtp_block": "Mail ports closed", "port_block": "Ports closed", "bandwidth_cap": "Bandwidth cap",
    "drop": "Remote addresses dropped",
    "cpu_throttle": "Processor limit", "io_throttle": "Disk limit",
}
_FAULT = {"customer": "the customer's", "none": "nobody's (no fault of the customer)", "unknown": "not decided"}
_UNTIL = {"time": "until the time given", "remedied": "until it is remedied", "decision": "until it is decided otherwise"}


def visible(text):
    """Text with what could hide or turn it around made visible: controls, format characters (bidi), lone surrogates.

    Unicode categories Cc (but line break and tab), Cf, Cs, Co, and the separators U+2028 and U+2029.
    """
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else "\\u%04x" % ord(char) if ord(char) < 0x10000 else "\\U%08x" % ord(char)
        for char in str(text))


def _text(value):
    return html.escape(visible(value), quote=True)


def _time(value):
    return _text(re.sub(r"^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})Z$", r"\1 \2 UTC", value)) if value else ""


def _flat(value):
    """A value of refs, options or details as text."""
    if isinstance(value, dict):
        return ", ".join("%s: %s" % (name, _flat(one)) for name, one in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return ", ".join(_flat(one) for one in value)
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _table(head, rows, empty, kind=None):
    if not rows:
        return '<p class="quiet">%s</p>' % _text(empty)
    return "<table%s><thead><tr>%s</tr></thead><tbody>%s</tbody></table>" % (
        ' class="%s"' % kind if kind else "",
        "".join("<th>%s</th>" % _text(one) for one in head), "".join("<tr>%s</tr>" % "".join(row) for row in rows))


def _td(content, kind=None):
    return "<td%s>%s</td>" % (' class="%s"' % kind if kind else "", content)


def _section(title, content):
    return "<section><h2>%s</h2>%s</section>" % (_text(title), content)


def case_page(document):
    """The page, as text.

    :param document: of `case_file`
    """
    case, internal = document["case"], document["view"] == "internal"
    title = "Case %s" % case["id"]
    parts = [
        _section("The case", _facts(case, document["clauses"])),
        _section("Measures", _measures(document["enforcements"], internal)),
        _section("Notices and deadlines", _notices(document["notices"], internal)),
        _section("Evidence", _evidence(document["evidence"], internal)),
        *([_section("Holds, locks and disclosures", _register(document))] if internal else []),
        _section("Charges", _charges(document["charges"])),
        _section("Exemptions", _exemptions(document["exemptions"], internal)),
        _section("What happened", _timeline(document["timeline"], internal)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="%s">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="referrer" content="no-referrer">'
        "<title>%s</title><style>%s</style></head><body><main><header><h1>%s</h1><p class=\"quiet\">%s</p></header>%s"
        "<footer>%s</footer></main></body></html>\n"
    ) % (_POLICY, _text(title), _STYLE, _text(title), _subtitle(document), "\n".join(parts), _footer(document))


def _subtitle(document):
    case = document["case"]
    whom = "for account %s" % _text(document["account"]) if document["view"] == "customer" else "internal: not for customers"
    return "%s, %s &middot; %s &middot; %s" % (
        _text(case["provider"] or ""), _text("policy %s" % case["policy"]), _text(case["status"]), whom)


def _facts(case, clauses):
    summaries = {one["clause"]: one["summary"] for one in clauses}
    clause = _text(case["clause"] or "none")
    if case["clause"] in summaries:
        clause += ": " + _text(summaries[case["clause"]])
    rows = [
        ("Violation", _text(case["violation"])), ("Clause", clause), ("Fault", _text(_FAULT.get(case["fault"], case["fault"]))),
        ("Services", _text(", ".join(case["services"]) or "none")), ("Accounts", _text(", ".join(case["accounts"]) or "not known")),
        ("Opened", _time(case["opened_at"])), ("Closed", _time(case["closed_at"]) or "it is open"),
    ]
    others = [(one, text) for one, text in sorted(summaries.items()) if one != case["clause"]]
    rows += [("Clause %s" % _text(one), _text(text)) for one, text in others]
    return "<dl>%s</dl>" % "".join("<dt>%s</dt><dd>%s</dd>" % row for row in rows)


def _measures(enforcements, internal):
    rows = []
    for one in enforcements:
        what = "<b>%s</b> %s<br>%s" % (_text(_KINDS.get(one["kind"], one["kind"])), _text("(%s) of %s" % (one["id"], one["service"])), _text(one["reason"]))
        if one["options"]:
            what += '<br><span class="quiet">%s</span>' % _text(_flat(one["options"]))
        if internal and one["nodes"]:
            where = "; ".join("%s: %s, %s" % (n["node"], n["state"].replace("_", " "), n["seen_at"]) for n in one["nodes"])
            what += '<br><span class="quiet">%s</span>' % _text(where)
        when = ["decided %s" % _time(one["opened_at"])]
        when += ["in force since %s" % _time(one["verified_at"])] if one["verified_at"] else ["not seen in force"]
        when += ["gone since %s" % _time(one["ended_at"])] if one["ended_at"] else []
        end = _time(one["ends_at"]) or _text(_UNTIL[one["until"]])
        before = "<br>".join("<code>%s</code><br>%s" % (_text(p["digest"]), "recorded %s" % _time(p["captured_at"])
                             + (", given back %s" % _time(p["given_back_at"]) if p["given_back_at"] else "")) for p in one["prior_state"])
        rows.append([_td(what), _td('<span class="tag">%s</span>' % _text(one["status"])), _td(_text(one["clause"] or "")),
                     _td("<br>".join(when)), _td(end), _td(before)])
    return _table(("Measure", "Status", "Clause", "When", "Until", "State before (digest)"), rows, "No measure was taken.")


def _notices(notices, internal):
    rows = []
    for one in notices:
        what = "<b>%s</b> (%s)" % (_text(one["subject"] or one["name"]), _text(one["id"]))
        if one["body"]:
            what += '<div class="said">%s</div>' % _text(one["body"])
        if internal and one.get("recipient"):
            what += '<div class="quiet">%s</div>' % _text("to %s" % one["recipient"])
        rows.append([_td(what), _td('<span class="tag">%s</span>' % _text(one["status"])), _td(_time(one["delivered_at"]), "time"),
                     _td(" ".join(x for x in (_time(one["deadline_at"]), _text(one["deadline"] or "")) if x))])
    return _table(("Notice", "Status", "Delivered", "Deadline for an answer"), rows, "No notice.")


_KEPT = {"kept": "kept", "hash_only": "hash alone", "removed": "removed"}


def _evidence(evidence, internal):
    rows = []
    for one in evidence:
        what = "<code>%s</code>" % _text(one["sha256"])
        if internal:
            name = "name erased" if one["erased"] else one["name"] or "no name"
            what = "<b>%s</b> (%s)<br>%s" % (_text(name), _text(one["id"]), what)
        cells = [_td(what, "said"), _td(_text(one["media_type"])), _td(_time(one["added_at"]), "time")]
        if internal:
            cells += [_td(_text(one["size"]), "sum"), _td('<span class="tag">%s</span><br>%s' % (_text(_KEPT[one["status"]]), _text(one["class"]))),
                      _td(_text(one["added_by"] or ""))]
        rows.append(cells)
    head = ("File (SHA-256)", "Media type", "Added", *(("Bytes", "Kept", "By") if internal else ()))
    return _table(head, rows, "No file is attached.")


def _register(document):
    rows = [[_td(_text({"legal_hold": "Legal hold", "no_notice": "Notices locked"}[one["kind"]])), _td(_time(one["placed_at"]), "time"),
             _td(_text(one["actor"] or "")), _td(_text(one["reason"] or "erased"), "said")] for one in document["flags"]]
    rows += [[_td(_text("Disclosed (%s)" % one["reference"])), _td(_time(one["disclosed_at"]), "time"), _td(_text(one["actor"] or "")),
              _td(_text("to %s, %s: %s" % (one["recipient"] or "erased", one["basis"] or "erased", ", ".join(one["digests"]))), "said")]
             for one in document["disclosures"]]
    return _table(("What", "When", "By", "Why"), rows, "None.")


def _charges(charges):
    rows = [
        [_td(_text(one["id"])), _td(_text(one["fee"] + (": credit of %s" % one["credit_of"] if one["kind"] == "credit" else ""))),
         _td(_text(one["clause"])), _td(_text(one["account"])),
         _td(_text("%s %s" % (one["quantity"].rstrip("0").rstrip(".") if "." in one["quantity"] else one["quantity"], one["unit"]) if one["quantity"] else "")),
         _td(_text("%s%s %s" % ("\u2212" if one["kind"] == "credit" else "", one["amount"], one["currency"])), "sum"),
         _td('<span class="tag">%s</span>' % _text(one["status"])), _td(_time(one["charged_at"]), "time")]
        for one in charges
    ]
    return _table(("No.", "Fee", "Clause", "Account", "Quantity", "Sum", "Status", "Charged"), rows, "Nothing was charged.")


def _exemptions(exemptions, internal):
    rows = [
        [_td(_text(one["id"])), _td(_text("%s from %s" % (one["service"], one["control"]))), _td(_text(one["clause"] or "")),
         _td(_time(one["starts_at"])), _td(_time(one["ends_at"]) or "it is revoked"), _td('<span class="tag">%s</span>' % _text(one["status"])),
         *([_td(_text(one["reason"]), "said")] if internal else [])]
        for one in exemptions
    ]
    head = ("No.", "Service and control", "Clause", "From", "Until", "Status") + (("Reason",) if internal else ())
    return _table(head, rows, "None at that time.")


def _timeline(timeline, internal):
    rows = []
    for one in timeline:
        what = "<b>%s</b>" % _text(_EVENTS.get(one["kind"], one["kind"].replace("_", " ").capitalize()))
        refs = {name: value for name, value in one["refs"].items() if name != "case"}
        if refs:
            what += '<br><span class="quiet">%s</span>' % _text(_flat(refs))
        if internal:
            what += "".join('<div class="said">%s: %s</div>' % (_text(name), _text(_flat(value))) for name, value in one["said"].items())
            what += '<br><span class="tag bad">not what its digest says</span>' if not one["intact"] else ""
        row = [_td(_time(one["at"]), "time"), _td(what)]
        row += [_td(_text("erased" if one["erased"] else one["actor"] or ""))] if internal else []
        rows.append([*row, _td("%s<br><code>%s</code>" % (_text(one["event"]), _text(one["digest"])))])
    head = ("Time", "Event") + (("By",) if internal else ()) + ("No. in the log, digest",)
    return _table(head, rows, "Nothing.", "log by" if internal else "log")


def _footer(document):
    ledger = document["ledger"]
    return _text("Made from ledger %s, epoch %d, at event %d with digest %s. Each event's digest covers the digest of the event before it; "
                 "the provider can prove by the whole log that none was changed, removed or put in." % (
                     ledger["id"], ledger["epoch"], ledger["event"], ledger["digest"]))
