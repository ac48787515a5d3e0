# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for a Proxmox VE cluster answers as the real API code did: the ground all other tests of this folder stand on."""

from __future__ import annotations

from tests.proxmox import conformance
from tests.proxmox.server import serve


def test_recorded_requests_are_answered_as_they_were(tmp_path):
    """Status, refused parameters and the state read back are those of the recording, save where listed with the reason."""
    cluster = conformance.lab()
    with serve(cluster, tmp_path, conformance.tokens()) as server:
        replay = conformance.Replay(server, conformance.BY_HAND)
        lines = conformance.recorded()
        wrong = {line["id"]: found for line in lines if (found := replay.send(line))}
    assert len(lines) == 680
    unlisted = {number: found for number, found in wrong.items() if number not in conformance.DIFFERENT}
    assert not unlisted, "\n".join(f"{number}: {found}" for number, found in sorted(unlisted.items()))
    assert set(conformance.DIFFERENT) <= set(wrong), "listed as different, and is not any more"
