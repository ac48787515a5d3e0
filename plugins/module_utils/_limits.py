# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a guest's processors and disks are throttled, and given back exactly. Pure. PRIVATE to the collection.

The same three documents meet here as in `_hold`: what is observed, the baseline, and what we set
(`touched["tuned"]`: per field `{"set": [ours], "back": the last value that was not ours}`; where the
node has no copy, `touched["inferred"]`: then what is tighter than the baseline is ours). A throttle never loosens
what the plan or the panel set: whatever is not ours is the base that it tightens.

Processors: libvirt's `global_quota`, microseconds per period for the whole guest, so that what qemu
does on a guest's behalf counts as well, and quotas of the plan on single processors stay as they are.
Disks: libvirt's iotune of each, in the running guest and in its configuration.
"""
from __future__ import annotations

KINDS = ("cpu_throttle", "io_throttle")
DEFAULT_PERIOD = 100000  # microseconds, libvirt's
LEAST_QUOTA = 1000       # microseconds, the least that libvirt takes
SCOPES = ("live", "config")
_UNITS = (("bytes_sec", "bytes_per_second"), ("iops_sec", "iops"))
_WAYS = ("total", "read", "write")


def quota(terms, vcpus, period=None):
    """Microseconds per period that a throttle leaves a guest, all its processors together.

    :param terms: `percent` of them, or None, and `millicores` of the host's, if any case asked so: the tighter counts
    """
    period = period or DEFAULT_PERIOD
    cap = period * vcpus * (terms.get("percent") or 100) // 100
    if terms.get("millicores"):
        cap = min(cap, period * terms["millicores"] // 1000)
    return max(cap, LEAST_QUOTA)


def tighten_quota(base, terms, vcpus, period=None):
    """The quota under a throttle; `base` None is unlimited."""
    cap = quota(terms, vcpus, period)
    return cap if base is None else min(base, cap)


def tighten_disk(base, terms):
    """A disk's iotune under a throttle.

    :param base: its parameters that are set, without zeroes
    :param terms: `iops` and `bytes_per_second`, each a number or None
    """
    tight = dict(base)
    for unit, name in _UNITS:
        cap = terms.get(name)
        if cap is None:
            continue
        for way in _WAYS:  # a burst is above the rate by its nature
            tight.pop("%s_%s_max" % (way, unit), None)
            tight.pop("%s_%s_max_length" % (way, unit), None)
        read, write, total = ("%s_%s" % (way, unit) for way in ("read", "write", "total"))
        if read in base or write in base:  # libvirt takes a total or its parts; the parts never exceed the whole
            half = max(cap // 2, 1)
            tight.update({read: min(base.get(read, half), half), write: min(base.get(write, half), half)})
        else:
            tight[total] = min(base.get(total, cap), cap)
    return tight


def capture(guest):
    """The fields of a guest that a throttle may change, as they are now; for the baseline."""
    return {
        "scheduler": {scope: guest["scheduler"][scope] and guest["scheduler"][scope]["quota"] for scope in SCOPES},
        "disks": {target: {scope: disk[scope] for scope in SCOPES} for target, disk in sorted(guest["disks"].items())},
    }


def _fields(guest):
    """`{key: (part, verb, scope, target, observed)}` of what can be set on a guest now."""
    found = {}
    for scope in SCOPES:
        if guest["scheduler"][scope] is not None:
            found["cpu/%s" % scope] = ("cpu_throttle", "set_quota", scope, None, guest["scheduler"][scope]["quota"])
        for target, disk in sorted(guest["disks"].items()):
            if disk[scope] is not None:
                found["io/%s/%s" % (target, scope)] = ("io_throttle", "set_iotune", scope, target, disk[scope])
    return found


def _tightened(part, terms, base, scheduler):
    if part == "cpu_throttle":
        return tighten_quota(base, terms, scheduler["vcpus"], scheduler["period"])
    return tighten_disk(base, terms)


def _owned(key, observed, fields, touched):
    """`{"set": [values], "back"}` of a field that holds a value of ours, or None."""
    if touched is not None and not touched.get("inferred"):
        tuned = touched.get("tuned", {})
        entry = tuned.get(key)
        if entry is None and key.endswith("/live"):
            # A guest started under a throttle has it by its configuration; the live field was never set by us.
            entry = tuned.get(key[:-4] + "config")
        return entry if entry is not None and observed in entry["set"] else None
    return _inferred(key, observed, fields)


def _inferred(key, observed, fields):
    """Ownership where the node lost its copy: tighter than the baseline is ours."""
    parts = key.split("/")
    if parts[0] == "cpu":
        if "scheduler" not in fields or observed is None:
            return None
        base = fields["scheduler"].get(parts[1])
        return {"set": [observed], "back": base} if base is None or observed < base else None
    base = fields.get("disks", {}).get(parts[1], {}).get(parts[2])
    if base is None or observed == base:
        return None
    ours = all(tighten_disk(base, {"bytes_per_second": _least(observed, "bytes_sec"), "iops": _least(observed, "iops_sec")}).get(name) == value
               for name, value in observed.items())
    return {"set": [observed], "back": base} if ours else None


def _least(values, unit):
    if "total_" + unit in values:
        return values["total_" + unit]
    parts = [values[name] for name in ("read_" + unit, "write_" + unit) if name in values]
    return 2 * max(parts) if parts else None


def plan(service, guest, fields, touched):
    """Steps from the present state to the throttled one, or back.

    :param service: entry of the desired state; its `limits` say what is wanted
    :param guest: from `_libvirt.detail`
    :param fields: the baseline's
    :param touched: as stored on the node; None if unknown
    :returns: `(steps, errors)`
    """
    limits = service.get("limits") or {}
    steps, errors, found = [], [], _fields(guest)
    if "io_throttle" in limits and not guest["disks"]:
        errors.append({"service": service["id"], "part": "io_throttle", "code": "no_disk",
                       "message": "Guest %s has no disk that could be throttled." % guest["name"],
                       "remedy": "Lift it, or use another enforcement."})
    for key, (part, verb, scope, target, observed) in found.items():
        terms, owned = limits.get(part), _owned(key, observed, fields, touched)
        back = owned["back"] if owned else observed
        if terms is None and owned is None:
            continue
        wanted = back if terms is None else _tightened(part, terms, back, guest["scheduler"][scope])
        if wanted == observed:
            continue
        why = "%s by enforcement %s" % (part, ", ".join(terms["enforcement_ids"])) if terms else "given back"
        steps.append({"engine": "libvirt", "part": part, "verb": verb, "service": service["id"], "guest_uuid": guest["uuid"],
                      "guest_name": guest["name"], "why": why, "before": observed, "after": wanted, "scope": scope,
                      "target": target, "key": key, "back": back if terms else None, "own": owned is not None})
    return steps, errors


def record(touched, steps):
    """`touched` as it has to be stored before `steps` are applied; what is unknown stays so."""
    if touched is None or touched.get("inferred"):
        return touched
    tuned = dict(touched.get("tuned", {}))
    for step in steps:
        if step.get("part") in KINDS and step["why"] != "given back":
            # From one value of ours to another: until that is done, both are ours.
            ours = [step["before"], step["after"]] if step["own"] else [step["after"]]
            tuned[step["key"]] = {"set": ours, "back": step["back"]}
    return dict(touched, tuned=tuned) if tuned else touched


def forget(touched, wanted):
    """`touched` once everything is given back of the kinds that are not wanted any more."""
    if not touched or not {"tuned", "inferred"} & touched.keys():
        return touched
    prefixes = tuple({"cpu_throttle": "cpu/", "io_throttle": "io/"}[kind] for kind in KINDS if kind in wanted)
    if touched.get("inferred") and prefixes:
        return touched
    kept = {key: entry for key, entry in touched.get("tuned", {}).items() if prefixes and key.startswith(prefixes)}
    new = {key: value for key, value in touched.items() if key not in ("tuned", "inferred")}
    return dict(new, tuned=kept) if kept else new
