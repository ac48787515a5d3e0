# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfer: windows without months, and no byte lost or counted twice whatever happens to counters and samples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._usage import take_samples
from ansible_collections.hosting.aup.plugins.plugin_utils import _usage as usage
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import _in_memory

NOW = 1_800_000_000
MOMENT = st.integers(0, 1 << 33)


@given(MOMENT, MOMENT)
def test_windows_follow_each_other_without_gap_or_overlap(anchor, moment):
    begin, end = usage.window(anchor, moment)
    assert begin <= moment < end and end - begin == 30 * 86400
    assert (begin - usage.day(anchor)) % (30 * 86400) == 0 and begin % 86400 == 0, "on the service's own day, at midnight UTC"
    assert usage.window(anchor, end) == (end, end + 30 * 86400) and usage.window(anchor, begin) == (begin, end)


@pytest.mark.parametrize("day", ["2026-01-29", "2026-01-30", "2026-01-31", "2028-02-29", "2026-03-29", "2026-10-25"])
def test_ends_of_months_and_summer_time_are_days_like_others(day):
    """30 days in UTC, also over February and over both changes of the clock in Europe."""
    anchor = datetime.fromisoformat(day).replace(tzinfo=UTC)
    for number in range(26):
        expected = anchor + timedelta(days=30 * number)
        noon_in_berlin = (expected + timedelta(hours=12)).astimezone(ZoneInfo("Europe/Berlin"))
        begin, end = usage.window(int(anchor.timestamp()), int(noon_in_berlin.timestamp()))
        assert (begin, end) == (int(expected.timestamp()), int((expected + timedelta(days=30)).timestamp()))


@given(st.integers(0, 10**15), st.integers(1, 10**15))
def test_thresholds_are_exact(count, allowance):
    found = usage.passed(count, allowance, [80, 100])
    assert found == (100 if count >= allowance else 80 if 5 * count >= 4 * allowance else 0)


class Metering(RuleBasedStateMachine):
    """Guests that restart, migrate and lose counters; nodes sampled at will; samples that come twice or late.

    What has to be counted is known without the ledger: of each counter the highest value that any sample carried,
    less what the counters of a service's first sample showed.
    """

    def __init__(self):
        super().__init__()
        self.ledger, self.now, self.made = _in_memory(), NOW, 0
        self.nics = {("a", 0): None, ("a", 1): None, ("b", 0): None}
        self.sent_documents, self.held_back = [], []
        self.highest, self.base = {}, {}
        for key in self.nics:
            self.plug(key, "n1", 500)

    def plug(self, key, node, already=0):
        self.made += 1
        self.nics[key] = {"node": node, "counter": "boot-1/%d" % self.made, "bytes": [already, already // 2]}

    @rule(key=st.sampled_from([("a", 0), ("a", 1), ("b", 0)]), received=st.integers(0, 10**13), sent=st.integers(0, 10**13))
    def traffic(self, key, received, sent):
        self.nics[key]["bytes"][0] += received
        self.nics[key]["bytes"][1] += sent

    @rule(key=st.sampled_from([("a", 0), ("a", 1), ("b", 0)]), to=st.sampled_from(["n1", "n2"]))
    def restart_or_migrate(self, key, to):
        self.plug(key, to)

    @rule(key=st.sampled_from([("a", 0), ("a", 1), ("b", 0)]), left=st.integers(0, 100))
    def reset_within_its_life(self, key, left):
        now = self.nics[key]["bytes"]
        self.nics[key]["bytes"] = [min(now[0], left), min(now[1], left)]

    @rule(seconds=st.integers(0, 20 * 86400))
    def time_passes(self, seconds):
        self.now += seconds

    def document(self, node):
        return node, self.now, [
            {"service": key[0], "anchor": NOW, "mac": "52:54:00:00:00:0%d" % key[1], "counter": nic["counter"],
             "received": nic["bytes"][0], "sent": nic["bytes"][1]}
            for key, nic in self.nics.items() if nic["node"] == node]

    def deliver(self, document):
        node, taken_at, samples = document
        with self.ledger.transaction(now=self.now) as tx:
            tx.record_usage(node, taken_at, samples)
        first = {one["service"] for one in samples} - {name for name, _b in self.base}
        for one in samples:
            value = (one["received"], one["sent"])
            known = self.highest.setdefault(one["counter"], (one["service"], value if one["service"] in first else (0, 0), value, taken_at))
            # Late and higher happens after a reset alone: what came last is believed, in the customer's favour.
            if value[0] >= known[2][0] and value[1] >= known[2][1] and taken_at >= known[3]:
                self.highest[one["counter"]] = (*known[:2], value, taken_at)
        self.base.update({(name, 0): True for name in first})
        self.sent_documents.append(document)

    @rule(node=st.sampled_from(["n1", "n2"]))
    def sample(self, node):
        self.now += 1
        self.deliver(self.document(node))

    @rule(node=st.sampled_from(["n1", "n2"]))
    def sample_but_come_late(self, node):
        self.now += 1
        self.held_back.append(self.document(node))

    @precondition(lambda self: self.held_back)
    @rule()
    def the_late_one_comes(self):
        self.deliver(self.held_back.pop(0))

    @precondition(lambda self: self.sent_documents)
    @rule(data=st.data())
    def an_old_one_comes_again(self, data):
        self.deliver(data.draw(st.sampled_from(self.sent_documents)))

    @invariant()
    def every_byte_once(self):
        with self.ledger.read(now=self.now) as tx:
            for service in ("a", "b"):
                windows = tx.usage_windows(service=service)
                for way, name in enumerate(("received", "sent")):
                    expected = sum(top[way] - base[way] for of, base, top, _at in self.highest.values() if of == service)
                    assert sum(window[name] for window in windows) == expected
                for window in windows:
                    assert (window["begins_at"], window["ends_at"]) == usage.window(NOW, window["begins_at"])

    def teardown(self):
        self.ledger.close()


def test_every_byte_is_counted_once_whatever_happens():
    run_state_machine_as_test(Metering, settings=settings(max_examples=30, stateful_step_count=25, deadline=None))


def one(**more):
    return {"service": "a", "anchor": None, "mac": "52:54:00:00:00:01", "counter": "boot/1", "received": 10, "sent": 20, **more}


def test_what_is_refused_says_where_and_what_to_do():
    with _in_memory() as ledger:
        def record(taken_at, *samples, now=NOW):
            with ledger.transaction(now=now) as tx:
                return tx.record_usage("kvm1", taken_at, list(samples))

        for taken_at, sample in ((NOW + 301, one()), (-1, one()), (NOW, one(received=-1)), (NOW, one(sent=1.5)), (NOW, one(sent=1 << 63)),
                                 (NOW, one(received=True)), (NOW, one(counter="../x y"))):
            with pytest.raises(InputError) as caught:
                record(taken_at, one(counter="boot/2"), sample)
            assert caught.value.target and caught.value.remedy
        with pytest.raises(InputError, match="twice"):
            record(NOW, one(), one())
        with ledger.read() as tx:
            assert tx.usage_windows() == [], "nothing of a refused document was counted"
        assert record(NOW, one())["services"] == ["a"]
        older = record(NOW - 60, one(received=5))["refused"]
        back = record(NOW + 60, one(received=5), now=NOW + 60)["refused"] + record(NOW + 61, one(received=6), now=NOW + 61)["refused"]
        assert [r["why"] for r in older + back] == ["older", "decreased", "decreased"]
        assert all("kvm1" in r["message"] and "52:54:00:00:00:01" in r["message"] and r["remedy"] for r in older + back)
        record(NOW + 62, one(received=15), now=NOW + 62)
        with ledger.read() as tx:
            assert [(w["received"], w["sent"]) for w in tx.usage_windows()] == [(5, 0)], "what came back counts from where it was"
            assert [e["kind"] for e in tx.history("a")] == ["usage_refused"], "written down once"


def test_ports_that_go_while_they_are_read(tmp_path):
    """A tap that is gone is left out; one that the host has no counter for is said."""
    for name, index in (("vnet0", 7), ("vnet1", 8)):
        (tmp_path / name / "statistics").mkdir(parents=True)
        (tmp_path / name / "ifindex").write_text("%d\n" % index)
        (tmp_path / name / "statistics/rx_bytes").write_text("11\n")
        (tmp_path / name / "statistics/tx_bytes").write_text("22\n")
    (tmp_path / "vnet1/statistics/rx_bytes").write_text("")

    def nic(device, gap=None):
        return {"mac": "52:54:00:00:00:01", "device": device, "gap": gap}

    guests = [{"id": 1, "uuid": "u", "name": "g", "nics": [nic("vnet0"), nic("vnet1"), nic("vnet9"), nic("../vnet0"), nic(None, "hostdev")]},
              {"id": None, "uuid": "v", "name": "off", "nics": [nic("vnet0")]}]
    samples, gaps = take_samples(guests, "boot", str(tmp_path))
    assert samples == [{"uuid": "u", "name": "g", "mac": "52:54:00:00:00:01", "counter": "boot/7", "received": 22, "sent": 11}]
    assert len(gaps) == 1 and "g" in gaps[0]
