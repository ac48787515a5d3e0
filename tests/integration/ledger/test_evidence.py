# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence on each database: file and row together whatever dies, holds, locks, disclosures, erasure."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat

import pytest
import sqlalchemy as sa

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, ConflictError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _evidence_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._case_page import case_page
from ansible_collections.hosting.aup.plugins.plugin_utils._evidence_store import Store
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._deliver import evidence_lines

NOW = 1_800_000_000
DAY = 86400
POLICY = {
    "name": "house",
    "evidence": {"largest_mib": 1, "classes": {
        "report": {"hash_only": False, "retention": "30d", "violations": ["spam"]},
        "csam": {"hash_only": True, "violations": ["abuse_material"]},
    }},
}


class Desk:
    """A ledger with two cases, a directory for evidence, and a clock."""

    def __init__(self, ledger, service, directory):
        self.ledger, self.now, self.reports = ledger, NOW, directory / "reports"
        self.directory = str(directory / "evidence")
        self.reports.mkdir()
        catalogue = {"format": 1, "generated_at": None, "prefixes": [], "nodes": {"kvm1": {"backend": "kvm"}}, "services": {"vps-1": service}}
        with ledger.transaction(actor="setup", now=NOW) as tx:
            tx.create_release({"house@1": POLICY}, "house@1", catalogue)
            for case, violation in (("T-1", "spam"), ("T-2", "spam"), ("T-3", "abuse_material"), ("T-4", "fraud")):
                tx.open_case(case_id=case, service="vps-1", violation=violation, policy_key="house@1", customer="c-77")

    def write(self, work, check=False):
        with self.ledger.transaction(check=check, actor="alice", now=self.now) as tx:
            return work(tx)

    def file(self, name, data):
        path = self.reports / name
        path.write_bytes(data)
        return str(path)

    def add(self, file, case="T-1", check=False, **more):
        return requests.add(self.ledger, lambda work: self.write(work, check), check, self.directory, case=case, file=file, **more)

    def expire(self, check=False):
        return requests.expire(self.ledger, lambda work: self.write(work, check), check, self.directory)

    def remove(self, evidence):
        return requests.remove(self.ledger, self.write, False, self.directory, evidence, "not needed")

    def flag(self, state, case="T-1"):
        return self.write(lambda tx: requests.flag(tx, state, case, "because"))

    def problems(self):
        with self.ledger.read(now=self.now) as tx:
            assert L.verify(tx)["ok"]
            return [(one["evidence"], one["problem"]) for one in requests.verify(self.ledger, tx, self.directory)["problems"]]

    def of(self, case):
        with self.ledger.read(now=self.now) as tx:
            return requests.listed(tx, case)

    def path(self, data):
        sha = hashlib.sha256(data).hexdigest()
        return os.path.join(self.directory, sha[:2], sha)


@pytest.fixture
def desk(ledger, service, tmp_path):
    return Desk(ledger, service, tmp_path)


def test_a_file_is_kept_once_under_its_digest_and_for_its_owner_alone(desk):
    data = b"From: spammer\n\nbuy"
    path = desk.file("mail.eml", data)
    before = desk.add(path, check=True)
    assert before["changed"] and not os.path.exists(desk.directory), "a check copies nothing"
    assert desk.of("T-1")["evidence"] == []
    done = desk.add(path)["evidence"][0]
    assert (done["sha256"], done["size"], done["status"], done["class"]) == (hashlib.sha256(data).hexdigest(), len(data), "kept", "report")
    assert (done["name"], done["media_type"], done["added_by"]) == ("mail.eml", "message/rfc822", "alice")
    with open(desk.path(data), "rb") as stream:
        assert stream.read() == data
    assert stat.S_IMODE(os.stat(desk.path(data)).st_mode) == 0o600
    assert {stat.S_IMODE(os.stat(one).st_mode) for one in (desk.directory, os.path.dirname(desk.path(data)))} == {0o700}
    again = desk.add(desk.file("other-name.eml", data))
    assert not again["changed"] and again["evidence"][0]["name"] == "mail.eml", "the same digest is there already"
    assert desk.add(path, check=True)["changed"] is False
    assert sorted(os.listdir(desk.directory)) == sorted([done["sha256"][:2], "ledger"]), "no partial file stays"
    assert desk.problems() == []


def test_of_prohibited_content_only_the_hash_is_kept(desk):
    data = b"must never be copied"
    path = desk.file("x.jpg", data)
    done = desk.add(path, case="T-3")["evidence"][0]
    assert (done["status"], done["class"], done["sha256"]) == ("hash_only", "csam", hashlib.sha256(data).hexdigest())
    assert not os.path.exists(desk.directory), "not even the directory"
    with pytest.raises(InputError, match="keeps the hash alone"):
        desk.add(path, case="T-3", wanted="general")
    assert desk.add(path, case="T-1", wanted="csam")["evidence"][0]["status"] == "hash_only", "of any case, where a person says so"
    assert not os.path.exists(desk.directory)
    with desk.ledger.read(now=NOW) as tx:
        assert tx.case_file("T-3", "customer")["evidence"] == []
        assert len(evidence_lines(tx, "T-3", "vps-1")) == 1, "a notice names nothing of it"
    assert desk.problems() == []


def test_hostile_sources_are_refused(desk, tmp_path):
    real = desk.file("real", b"x")
    os.symlink(real, desk.reports / "link")
    os.symlink(desk.reports, tmp_path / "linked")
    os.mkfifo(desk.reports / "fifo")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(desk.reports / "sock"))
    bad = [str(desk.reports / name) for name in ("link", "fifo", "sock", "nothing", "../reports/real", "")]
    bad += [str(tmp_path / "linked" / "real"), "/dev/zero", "/dev/null", "real", str(desk.reports), "/", "a\0b", "/a\0b"]
    for path in bad:
        with pytest.raises(InputError):
            desk.add(path)
    sock.close()
    with pytest.raises(InputError, match="larger than 1 MiB"):
        desk.add(desk.file("large", b"x" * ((1 << 20) + 1)))
    with pytest.raises(InputError, match="class 'nonsense' is not known"):
        desk.add(real, wanted="nonsense")
    with pytest.raises(InputError, match="media type"):
        desk.add(real, media_type="text/html; x=<script>")
    with pytest.raises(InputError, match="there is no case"):
        desk.add(real, case="T-99")
    assert desk.of("T-1")["evidence"] == [] and desk.problems() == []
    odd = desk.reports / "a\n\x1b[31m\u202e$(id);{{ 7*7 }}'\".txt"
    odd.write_bytes(b"y")
    name = desk.add(str(odd))["evidence"][0]["name"]
    assert name == "a\\u000a\\u001b[31m\\u202e$(id);{{ 7*7 }}'\".txt"
    undecodable = os.fsdecode(os.fsencode(str(desk.reports)) + b"/\xff.bin")
    with open(undecodable, "wb") as stream:
        stream.write(b"z")
    assert desk.add(undecodable)["evidence"][0]["name"] == "\\udcff.bin"
    assert desk.problems() == []


def test_a_directory_of_others_or_of_another_ledger_is_refused(desk, tmp_path):
    path = desk.file("a", b"a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    os.chmod(elsewhere, 0o755)
    os.symlink(elsewhere, tmp_path / "linked-store")
    for directory, why in ((str(elsewhere), "open to others"), (str(tmp_path / "linked-store"), "can't be kept"), ("relative", "absolute"),
                           (str(tmp_path / "no" / "such"), "can't be kept")):
        with pytest.raises(InputError, match=why):
            requests.add(desk.ledger, desk.write, False, directory, case="T-1", file=path)
    desk.add(path)
    with pytest.raises(InputError, match="belongs to ledger"), Store(desk.directory, "another").staged(path, 99):
        pass


def test_damage_and_loss_are_found_and_mended_by_adding_again(desk):
    one, two = desk.file("one", b"first"), desk.file("two", b"second")
    desk.add(one), desk.add(two)
    os.unlink(desk.path(b"first"))
    with open(desk.path(b"second"), "wb") as stream:
        stream.write(b"sEcond")
    assert desk.problems() == [("V-1", "missing"), ("V-2", "damaged")]
    assert desk.add(one, check=True)["changed"]
    assert [desk.add(path)["changed"] for path in (one, two)] == [True, True]
    os.chmod(desk.path(b"first"), 0o644)
    assert desk.problems() == [("V-1", "open")]
    os.chmod(desk.path(b"first"), 0o600)
    (desk.reports.parent / "evidence" / "stranger").write_text("")
    assert desk.problems() == [(None, "strange")]


def test_retention_begins_with_the_end_of_the_case_and_a_hold_stops_it(desk):
    shared, own = desk.file("shared", b"shared"), desk.file("own", b"own")
    desk.add(shared), desk.add(own), desk.add(shared, case="T-2"), desk.add(own, case="T-4")
    desk.now = NOW + 400 * DAY
    assert not desk.expire()["changed"], "an open case keeps what it has"
    desk.write(lambda tx: tx.close_case("T-1"))
    desk.write(lambda tx: tx.close_case("T-4"))
    desk.flag("held")
    assert not desk.flag("held")["changed"]
    desk.now += 31 * DAY
    assert not desk.expire()["changed"], "held"
    with pytest.raises(ConflictError, match="legal hold"):
        desk.remove("V-1")
    assert desk.flag("hold_released")["changed"] and not desk.flag("hold_released")["changed"]
    assert desk.expire(check=True)["changed"] and {one["status"] for one in desk.of("T-1")["evidence"]} == {"kept"}
    done = desk.expire()
    assert [one["id"] for one in done["evidence"]] == ["V-1", "V-2"] and done["files"] == [], "both are of another case as well"
    assert os.path.exists(desk.path(b"shared")) and os.path.exists(desk.path(b"own"))
    assert not desk.expire()["changed"]
    assert desk.remove("V-4")["files"] == [hashlib.sha256(b"own").hexdigest()]
    assert not os.path.exists(desk.path(b"own"))
    rows = desk.of("T-1")["evidence"]
    assert {one["status"] for one in rows} == {"removed"} and all(len(one["sha256"]) == 64 for one in rows), "rows and digests stay"
    with pytest.raises(ConflictError, match="not put back"):
        desk.add(own, case="T-4")
    assert desk.problems() == []


def test_personal_data_goes_when_its_time_is_over_and_a_hold_stops_it(desk):
    def tell(tx):
        policy = {"name": "kept", "evidence": {"personal_data": "90d", "classes": {}}}
        tx.create_release({"house@1": POLICY, "kept@1": policy}, "house@1", {
            "format": 1, "generated_at": None, "prefixes": [], "nodes": {}, "services": {}})
        tx.open_case(case_id="T-5", service="vps-1", violation="spam", policy_key="kept@1", customer="c-77", note="Mr Smith called")
        facts = {"policy": "kept@1"}
        tx.queue_notice(case_id="T-5", service="vps-1", name="n", timing="with", facts=facts)
        tx.queue_notice(service="vps-1", name="transfer", timing="transfer", facts=facts, topic="transfer/vps-1/d/80")
        for notice in ("N-1", "N-2"):
            claimed = tx.claim_notice(notice_id=notice, lease=60, role="customer", recipient="a@b.c", subject="s", body="b")
            tx.notice_delivered(notice_id=notice, claim=claimed["claim"])

    desk.write(tell)
    desk.flag("held", case="T-5")
    desk.now += 10 * DAY
    desk.write(lambda tx: tx.close_case("T-5"))

    def kept():
        with desk.ledger.read(now=desk.now) as tx:
            return [n["id"] for n in L.notices(tx, ("delivered",)) if n["recipient"]], any("Smith" in str(e["detail"]) for e in tx.history("vps-1"))

    desk.now += 89 * DAY
    desk.expire()
    assert kept() == (["N-1"], True), "of no case: counted from its making"
    desk.now += 2 * DAY
    assert not desk.expire()["changed"] and kept() == (["N-1"], True), "under a legal hold"
    desk.flag("hold_released", case="T-5")
    assert desk.expire(check=True)["changed"] and kept() == (["N-1"], True)
    assert "1 notices" in desk.expire()["what"][0] and kept() == ([], False)
    assert not desk.expire()["changed"] and desk.problems() == []
    with desk.ledger.read(now=desk.now) as tx:
        bodies = sa.select(t.event_detail.c.body).join(t.event, t.event.c.number == t.event_detail.c.event_number)
        assert tx.execute(bodies.where(t.event.c.kind == "legal_hold_placed")).scalar() is not None, "the register stays"


def test_disclosures_are_written_down_once_and_outlast_an_erasure(desk):
    desk.add(desk.file("max-muster-passport.pdf", b"%PDF"), note="of Max Muster")
    given = {"case": "T-1", "reference": "LKA-88", "recipient": "LKA Hamburg", "basis": "order of a court"}
    with pytest.raises(InputError, match="has no evidence V-9"):
        desk.write(lambda tx: requests.disclose(tx, evidence="V-9", **given))
    with pytest.raises(InputError, match="basis is missing"):
        desk.write(lambda tx: requests.disclose(tx, **dict(given, basis="")))
    assert desk.write(lambda tx: requests.disclose(tx, **given))["changed"]
    assert not desk.write(lambda tx: requests.disclose(tx, **given))["changed"]
    desk.add(desk.file("b", b"b"))
    with pytest.raises(ConflictError, match="other evidence"):
        desk.write(lambda tx: requests.disclose(tx, **given))
    with desk.ledger.read() as tx:
        assert "passport" in json.dumps(tx.case_file("T-1"))
        customer = tx.case_file("T-1", "customer")
        assert customer["evidence"] == [{"sha256": hashlib.sha256(data).hexdigest(), "media_type": kind, "added_at": "2027-01-15T08:00:00Z"}
                                        for data, kind in ((b"%PDF", "application/pdf"), (b"b", "application/octet-stream"))]
        for text in (json.dumps(customer), case_page(customer), "\n".join(evidence_lines(tx, "T-1", "vps-1"))):
            assert "passport" not in text and "LKA" not in text and "alice" not in text
            assert hashlib.sha256(b"%PDF").hexdigest() in text
        assert evidence_lines(tx, "T-1", "vps-of-another") == evidence_lines(tx, "T-1", "vps-1")[:1]
    desk.write(lambda tx: L.erase_details(tx, service="vps-1", reason="request"))
    with desk.ledger.read() as tx:
        internal = tx.case_file("T-1")
        text = json.dumps(internal) + case_page(internal)
    assert "passport" not in text and "Muster" not in text and "name erased" in text
    assert internal["disclosures"][0]["recipient"] == "LKA Hamburg" and "LKA Hamburg" in case_page(internal)
    assert all(one["intact"] for one in internal["timeline"])
    assert desk.problems() == [], "the chain is whole, the files are there"


def test_one_name_is_erased(desk):
    desk.add(desk.file("max.pdf", b"%PDF"))
    assert desk.write(lambda tx: requests.erase(tx, "V-1", "request"))["changed"]
    assert not desk.write(lambda tx: requests.erase(tx, "V-1", "request"))["changed"]
    one = desk.of("T-1")["evidence"][0]
    assert (one["name"], one["added_by"], one["erased"]) == (None, None, True) and desk.problems() == []


def test_rows_changed_behind_the_ledger_are_found(desk):
    desk.add(desk.file("a", b"a"))
    from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
    with desk.ledger.transaction() as tx:
        tx.execute(t.evidence.update().values(sha256="0" * 64))
    assert ("V-1", "changed") in desk.problems()
    with desk.ledger.transaction() as tx:
        tx.execute(t.evidence.delete())
    assert ("V-1", "row_missing") in desk.problems()


def test_locked_notices_stay_in_the_outbox_until_a_person_releases_them(desk):
    with desk.ledger.transaction(actor="alice", now=NOW) as tx:
        first = tx.queue_notice(case_id="T-1", service="vps-1", name="with_action", timing="with", facts={})
        held = tx.queue_notice(case_id="T-1", service="vps-1", name="later", timing="held", facts={})
        tx.queue_notice(case_id="T-2", service="vps-1", name="with_action", timing="with", facts={})
        claimed = tx.claim_notice(notice_id=first["id"], lease=60, role="customer", recipient="a@b.example", subject="s", body="b")
    with pytest.raises(InputError, match="reason is missing"):
        desk.write(lambda tx: requests.flag(tx, "notices_locked", "T-1", ""))
    desk.flag("notices_locked")
    with pytest.raises(ConflictError, match="are locked"):
        desk.write(lambda tx: tx.record_dot(notice_id=first["id"], claim=claimed["claim"], lease=60))
    desk.write(lambda tx: tx.notice_refused(notice_id=first["id"], claim=claimed["claim"], error="locked", permanent=False))
    with pytest.raises(ConflictError, match="are locked"):
        desk.write(lambda tx: tx.release_notice(notice_id=held["id"]))
    desk.now += 40 * DAY
    with desk.ledger.read(now=desk.now) as tx:
        assert [one["case_id"] for one in tx.due_notices()] == ["T-2"]
        assert [one["locked"] for one in L.notices(tx)] == [True, True, False]
        with pytest.raises(ConflictError, match="not to know"):
            tx.case_file("T-1", "customer")
        assert tx.case_file("T-1")["flags"][0]["kind"] == "no_notice"
    assert desk.write(lambda tx: tx.claim_notice(notice_id=first["id"], lease=60, role="customer", recipient="a@b.example", subject="s", body="b")) is None
    desk.flag("notices_released")
    with desk.ledger.read(now=desk.now) as tx:
        assert [one["case_id"] for one in tx.due_notices()] == ["T-1", "T-2"]


def killed(work):
    """Run it in a process that ends by itself with status 9, as if killed there."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("when", ["staged", "placed", "row_removed"])
def test_killed_between_file_and_row(desk, monkeypatch, when):
    path, data = desk.file("mail.eml", b"data"), b"data"
    real = Store.place
    if when == "row_removed":
        desk.add(path)
        monkeypatch.setattr(Store, "remove", lambda *_: os._exit(9))
        killed(lambda: desk.remove("V-1"))
        monkeypatch.undo()
        assert os.path.exists(desk.path(data)) and desk.problems() == [(None, "left")], "the row says removed, never kept of a file that is gone"
        assert desk.expire()["files"] == [hashlib.sha256(data).hexdigest()]
        assert desk.problems() == []
        return

    def place(store, sha, partial):
        if when == "placed":
            real(store, sha, partial)
        os._exit(9)

    monkeypatch.setattr(Store, "place", place)
    killed(lambda: desk.add(path))
    monkeypatch.undo()
    assert desk.of("T-1")["evidence"] == [], "no row"
    left = [name for name in os.listdir(desk.directory) if name.startswith(".partial-")]
    assert (len(left), desk.problems()) == ((1, []) if when == "staged" else (0, [(None, "unrecorded")]))
    assert desk.add(path)["changed"] and desk.problems() == []
    assert not [name for name in os.listdir(desk.directory) if name.startswith(".partial-")], "what was half copied is gone"


def test_nothing_is_left_when_the_disk_is_full_or_the_ledger_refuses(desk, monkeypatch):
    path = desk.file("a", b"a")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ansible_collections.hosting.aup.plugins.plugin_utils._evidence_store.os.write", full)
    with pytest.raises(AupError, match="No space left"):
        desk.add(path)
    monkeypatch.undo()
    with pytest.raises(InputError, match="needs to know who"):
        requests.add(desk.ledger, lambda work: _as_nobody(desk, work), False, desk.directory, case="T-1", file=path)
    assert desk.problems() == [] and desk.of("T-1")["evidence"] == []


def _as_nobody(desk, work):
    with desk.ledger.transaction(now=NOW) as tx:
        return work(tx)
