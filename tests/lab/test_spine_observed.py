# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From observing to enforcing: who sent mail before is taken over as exempt, on record and with an end."""

from __future__ import annotations

import json

from . import plan

MAIL = [(address, 25) for address in plan.SINK]


def test_mailers_seen_while_observing_are_taken_over_and_nobody_else(spine):
    mailer, quiet = spine.lab.guest("vps-1001"), spine.lab.guest("vps-1002")
    policy = spine.lab.controller.inventory.parent / "provider.yml"
    enforcing = policy.read_text()
    observing = json.loads(enforcing)
    observing["controls"]["smtp_outbound"]["mode"] = "observe"
    wanted = {"control": "smtp_outbound", "duration": "90d", "reason": "sent mail before; {{ 1 + 1 }}"}
    try:
        policy.write_text(json.dumps(observing))
        spine.play("provision").ok()
        assert mailer.tcp_all(MAIL) == ["open", "open"], "what is observed passes"

        said = spine.play("exempt_observed", wanted, check=True).ok()
        assert "exemption" in said.stdout and "vps-1001" in said.stdout and "vps-1002" not in said.stdout
        taken = spine.play("exempt_observed", wanted).ok()
        exemptions = taken.of("ledger_exemption")[0]["exemptions"]
        assert [(e["service"], e["control"], e["reason"]) for e in exemptions] == [
            ("vps-1001", "smtp_outbound", "sent mail before; {{ 1 + 1 }}")]
        assert exemptions[0]["ends_at"] - exemptions[0]["starts_at"] == 90 * 86400
        assert spine.play("exempt_observed", wanted).ok().printed.changed == 0

        policy.write_text(enforcing)
        spine.play("provision").ok()
        assert mailer.tcp_all(MAIL) == ["open", "open"]
        assert "open" not in quiet.tcp_all(MAIL)
    finally:
        policy.write_text(enforcing)
        spine.play("exempt", {"service": "vps-1001", "control": "smtp_outbound", "state": "revoked", "reason": "end of the test"})
        spine.play("provision").ok()
    assert "open" not in mailer.tcp_all(MAIL)
