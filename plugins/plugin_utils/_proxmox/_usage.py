# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guests of a cluster have received and sent, in one call. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _answers

_RUNNING = ("running", "paused")


def read_usage(client, now):
    """Counters of all guests that run.

    The cluster gathers them about every 10 s, on each node; a guest whose node is down has none.

    :param client: `_client.Client`
    :param now: seconds since the epoch, before the call
    :returns: `{"taken_at", "samples", "gaps"}` as the module documents them
    """
    samples, gaps = [], []
    rows = client.read(_answers.guests, "cluster", "resources", type="vm")
    for number, row in sorted(rows.items()):
        if row.get("template"):
            continue
        numbers = [row.get(key) for key in ("uptime", "netin", "netout")]
        if row.get("odd") or row.get("status") == "unknown" or (row.get("status") in _RUNNING and not all(_whole(number) for number in numbers)):
            gaps.append("guest %s on node %s is not metered now: the cluster shows no counters of it." % (number, row["node"]))
        elif row.get("status") in _RUNNING and numbers[0]:
            samples.append({"vmid": number, "name": str(row.get("name") or ""), "kind": row["type"], "place": row["node"],
                            "uptime": int(numbers[0]), "received": int(numbers[1]), "sent": int(numbers[2])})
    if not rows:
        raise NodeError("the token sees no guest of the cluster.", code="missing_privilege", target="token",
                        remedy="Give its role VM.Audit on /vms (docs/proxmox.md).")
    return {"taken_at": now, "samples": samples, "gaps": gaps}


def _whole(number):
    return isinstance(number, (int, float)) and not isinstance(number, bool) and number >= 0
