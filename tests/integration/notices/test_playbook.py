# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""hosting.aup.notices as it is run: the playbook, a mail server, and what it must not print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from conftest import CATALOGUE
from mail_server import PASSWORD, USER

ROOT = Path(__file__).resolve().parents[3]


def play(desk, playbook, extra, *arguments):
    collections = next(path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "hosting")))
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(ROOT / "playbooks" / playbook), *arguments,
        "-e", json.dumps({"ansible_python_interpreter": sys.executable, "aup_ledger_url": desk.url, **extra}),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=False, cwd=desk.directory,
        env=os.environ | {"ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_playbook(desk):
    desk.now = int(time.time())
    services = [
        {key: value for key, value in service.items() if value not in (None, [], {}) and key not in ("nodes", "pool")}
        | {"node": "kvm1", "nics": service["nics"]}
        for service in CATALOGUE["services"].values()
    ]
    catalogue = desk.directory / "catalogue.json"
    node = {"backend": "kvm", "location": "main", "bridges": ["br0"]}
    catalogue.write_text(json.dumps({"format": 1, "prefixes": ["192.0.2.0/24"], "nodes": {"kvm1": node}, "services": services}))
    extra = {
        "aup_catalogue": str(catalogue), "aup_sender": "abuse@provider.example", "aup_smtp_host": "localhost",
        "aup_smtp_port": desk.mail.port, "aup_smtp_ca_file": desk.ca, "aup_smtp_username": USER, "aup_smtp_password": PASSWORD,
        "aup_receipts": str(desk.directory / "receipts"),
    }
    desk.hold("vps-1", case="T-1")
    code, said = play(desk, "notices.yml", extra, "--check")
    assert code == 0 and "would send: queued N-1" in said, said
    assert desk.mail.mailbox.mails == []
    code, said = play(desk, "notices.yml", extra, "-vvv", "--diff")
    assert code == 0 and "delivered N-1 of vps-1: 250" in said, said
    assert PASSWORD not in said and "owner1@customer.example" not in said, "neither the password nor an address is shown"
    assert len(desk.mail.mailbox.mails) == 1
    desk.hold("vps-2", case="T-2")
    code, said = play(desk, "notices.yml", {**extra, "aup_smtp_password": "wrong"})
    assert code != 0 and "refused the password" in said, said
    code, said = play(desk, "notices.yml", {**extra, "state": "cancelled", "notice": "N-2", "note": "{{ 7 }}"})
    assert code == 0 and "notice N-2 is dropped" in said, said
    code, said = play(desk, "notices.yml", {**extra, "state": "nonsense"})
    assert code != 0 and "is not known" in said
    asked = {"state": "requested", "service": "vps-3", "control": "smtp_outbound", "duration": "30d", "reason": "{{ 7 }}", "requested_by": "Frau Kundin"}
    code, said = play(desk, "exempt.yml", asked, "--check")
    assert code == 0 and "request Q-1: vps-3 from smtp_outbound for 720h" in said, said
    code, said = play(desk, "exempt.yml", asked)
    assert code == 0 and "request Q-1: vps-3 from smtp_outbound for 720h" in said and "Kundin" not in said, said
    code, said = play(desk, "exempt.yml", {"state": "denied", "request": "Q-2", "reason": "no"})
    assert code != 0 and "there is no request Q-2" in said, said
    code, said = play(desk, "status.yml", {"due": "30d"})
    assert code == 0 and "review: smtp_block of vps-1" in said and "waits for a person: request Q-1" in said, said
    code, said = play(desk, "exempt.yml", {"state": "denied", "request": "Q-1", "reason": "no reverse DNS"})
    assert code == 0 and "request Q-1 of vps-3 for smtp_outbound is denied" in said, said
