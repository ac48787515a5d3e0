# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people ask of the outbox. PRIVATE to the collection."""

from __future__ import annotations

import os

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    cancel_notice,
    notice_bounced,
    notice_delivered,
    notices,
    release_notice,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import notice_line, without_text
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._message import read_bounce

_MOST_FILES = 10000


def listed(tx):
    """What is on its way, and what waits for a person."""
    found = notices(tx)
    return {
        "notices": [without_text(notice) for notice in found], "changed": False,
        "what": [notice_line(notice) for notice in found] or ["no notice is on its way, and none waits for a person"],
    }


def _named(args):
    if not args["notice"]:
        raise InputError("notice is missing.", target="notice", remedy="Name it, like N-7; state=list lists them.")
    return str(args["notice"])


def released(tx, args):
    """Let a held, failed, bounced or unknown notice go."""
    done = release_notice(tx, notice_id=_named(args), reason=args["note"])
    return {"notices": [without_text(done)], "changed": True, "what": ["notice %s waits to be sent" % done["id"]]}


def cancelled(tx, args):
    """Drop a notice that was not sent."""
    done = cancel_notice(tx, notice_id=_named(args), reason=args["note"])
    return {"notices": [without_text(done)], "changed": not done["already"], "what": ["notice %s is dropped" % done["id"]]}


def delivered(tx, args):
    """A person has seen that an unknown one was taken."""
    name = _named(args)
    before = next((n for n in notices(tx, ("delivered",)) if n["id"] == name), None)
    done = before or notice_delivered(tx, notice_id=name, note=args["note"])
    return {"notices": [without_text(done)], "changed": before is None, "what": [notice_line(done)]}


def bounced(tx, args):
    """Notices that came back: the one named, and those that mails in `mail` report."""
    reports, what = [], []
    if args["notice"]:
        reports.append({"notice_id": str(args["notice"]), "error": args["note"]})
    elif not args["mail"]:
        raise InputError("neither notice nor mail is given.", target="notice", remedy="Name the notice, or the file or directory with what came back.")
    for path in _files(args["mail"]) if args["mail"] else ():
        try:
            with open(path, "rb") as handle:
                found = read_bounce(handle.read(2 * 1024 * 1024 + 1))
        except OSError as exc:
            raise InputError("%s can't be read: %s." % (path, exc.strerror), target="mail", remedy="Check path and permissions.") from exc
        if found is None:
            what.append("%s reports no failed notice" % os.path.basename(path))
        else:
            reports.append({"message_id": found[0], "error": found[1]})
    changed, seen = False, []
    for report in reports:
        done = notice_bounced(tx, **report)
        if done is None:
            what.append("a report names %s, which is no notice of this ledger" % report["message_id"])
            continue
        seen.append(without_text(done))
        changed = changed or not done["already"]
        what.append(notice_line(done))
    return {"notices": seen, "changed": changed, "what": what}


def _files(path):
    if not os.path.isdir(path):
        return [path]
    names = sorted(entry.path for entry in os.scandir(path) if entry.is_file(follow_symlinks=False))
    if len(names) > _MOST_FILES:
        raise InputError("%s holds more than %d files." % (path, _MOST_FILES), target="mail", remedy="Move old ones away.")
    return names
