# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API answered, read strictly: the parts that decide something are of the kind they have to be. Pure. PRIVATE.

What answers may be another version, a proxy's page, or half an answer. Taken as it comes, it would be a traceback that ends
the run for all guests, or worse, a guest that seems to be gone.
"""
from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")
_SCALARS = (str, int, float, type(None))
MOST_TEXT = 65536


class BadReply(NodeError):
    """An answer that isn't one of Proxmox VE."""

    code = "bad_reply"

    def __init__(self, what, why):
        super().__init__("%s: the answer is not one of Proxmox VE: %s." % (what, why), retryable=True, target="api",
                         remedy="Look at what the cluster answers there (pvesh get), and at proxies before it; then run hosting.aup.reconcile.")


def mapping(found, what):
    """An object."""
    if not isinstance(found, dict):
        raise BadReply(what, "%s in place of an object" % type(found).__name__)
    return found


def flat(found, what):
    """An object of texts and numbers alone."""
    for key, value in mapping(found, what).items():
        if not isinstance(value, _SCALARS):
            raise BadReply(what, "%s is no text or number" % key[:40])
    return found


def rows(found, what, *keys):
    """A list of objects, each with these keys as texts or numbers; what else it has may be of any kind.

    :raises BadReply: anything else, and not with what is well: half a list would be taken for all there is
    """
    if not isinstance(found, list):
        raise BadReply(what, "%s in place of a list" % type(found).__name__)
    for row in found:
        if not isinstance(row, dict):
            raise BadReply(what, "%s among objects" % type(row).__name__)
        for key in keys:
            value = row.get(key)
            if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "" or len(str(value)) > MOST_TEXT:
                raise BadReply(what, "an entry without %s" % key)
    return found


def rules(found, what):
    """Rules of a firewall."""
    for rule in rows(found, what, "type", "action"):
        flat({key: value for key, value in rule.items() if key != "errors"}, what)
        if not whole(rule.get("enable", 0)):
            raise BadReply(what, "enable of a rule is no number")
    return found


def entries(found, what):
    """Entries of a set."""
    for entry in rows(found, what, "cidr"):
        if not isinstance(entry["cidr"], str) or not whole(entry.get("nomatch", 0)):
            raise BadReply(what, "an entry that is no network")
    return found


def whole(value):
    """Whether this is a whole number, as number or as text."""
    return isinstance(value, int) or isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19


def guests(found, what):
    """`{vmid: row}` of all guests; a row that doesn't say where its guest is gets an `odd`, which is that guest's trouble alone."""
    listed = {}
    for row in rows(found, what, "vmid"):
        if not whole(row["vmid"]):
            raise BadReply(what, "a guest without number")
        one = {key: value if isinstance(value, _SCALARS) else None for key, value in row.items()}
        for key in ("name", "status", "hastate"):
            if one.get(key) is not None and not isinstance(one[key], str):
                one[key] = None
        odd = one.get("type") not in ("qemu", "lxc") or not isinstance(one.get("node"), str) or not _NODE.fullmatch(one["node"])
        if odd:
            one.update(type="qemu", node="", odd=True)
        listed[int(row["vmid"])] = one
    return listed


def configuration(found, what):
    """`(config, live, digest)` of `GET …/pending`: what will be once all is applied, what runs, both `{key: text or None}`."""
    config, live, digest = {}, {}, None
    for item in rows(found, what, "key"):
        key = str(item["key"])
        for name in ("value", "pending"):
            if not isinstance(item.get(name), _SCALARS):
                raise BadReply(what, "%s of %s is no text or number" % (name, key[:40]))
        if key == "digest":
            digest = item.get("value")
        elif item.get("delete"):
            live[key] = item.get("value")
        else:
            config[key] = item.get("pending", item.get("value"))
            if "value" in item:
                live[key] = item["value"]
    if not isinstance(digest, str):
        raise BadReply(what, "there is no digest")
    return _texts(config), _texts(live), digest


def _texts(values):
    return {key: None if value is None else str(value) for key, value in values.items()}


def status(found, what):
    """`GET …/status/current` with what decides something: `status`, `qmpstatus`, `uptime`, and `ha` with `managed` and `state`."""
    told = mapping(found, what)
    if told.get("status") not in ("running", "stopped") or not isinstance(told.get("qmpstatus"), (str, type(None))):
        raise BadReply(what, "it doesn't say whether the guest runs")
    uptime, ha = told.get("uptime"), told.get("ha")
    ha = ha if isinstance(ha, dict) else {}
    return {"status": told["status"], "qmpstatus": told.get("qmpstatus"),
            "uptime": uptime if isinstance(uptime, (int, float)) and not isinstance(uptime, bool) else None,
            "ha": {"managed": bool(ha.get("managed")), "state": ha["state"] if isinstance(ha.get("state"), str) else None}}


def privileges(found, what):
    """`{path: {privilege: number}}`."""
    for held in mapping(found, what).values():
        mapping(held, what)
    return found
