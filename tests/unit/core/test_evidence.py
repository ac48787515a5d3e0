# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was counted, since when, and samples of it."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils import _evidence
from ansible_collections.hosting.aup.plugins.plugin_utils._explain import explain_service

COUNTS = st.dictionaries(st.sampled_from(["tap1", "tap2", "tap3"]), st.dictionaries(
    st.sampled_from(["x_refused", "x_observed"]), st.builds(lambda n: {"packets": n, "bytes": n * 60}, st.integers(1, 9))))
OWNER = {"tap1": "vps-1", "tap2": "vps-1"}


@given(COUNTS, COUNTS)
def test_totals_are_sums_and_nothing_given_is_changed(gone, live):
    kept = _evidence.add({}, gone, OWNER)
    before = repr(kept)
    totals = _evidence.add(kept, live, OWNER)
    assert repr(kept) == before
    for what in ("x_refused", "x_observed"):
        for sid in ("vps-1", "unknown"):
            mine = [port for port in ("tap1", "tap2", "tap3") if OWNER.get(port, "unknown") == sid]
            packets = sum(side.get(port, {}).get(what, {"packets": 0})["packets"] for side in (gone, live) for port in mine)
            assert totals.get(sid, {}).get(what, {"packets": 0})["packets"] == packets


def test_first_and_last_time_are_those_of_passes_that_saw_growth():
    def look(times, packets, now):
        return _evidence.note_times(times, {"vps-1": {"x_refused": {"packets": packets, "bytes": 0}}}, now)

    times = look({}, 0, 10)
    assert times == {}
    times = look(times, 3, 20)
    times = look(times, 3, 30)
    assert times["vps-1"]["x_refused"] == {"packets": 3, "first": 20, "last": 20}
    times = look(times, 4, 40)
    assert times["vps-1"]["x_refused"] == {"packets": 4, "first": 20, "last": 40}
    times = look(times, 1, 50)  # the rules were flushed: the count began anew
    times = look(times, 2, 60)
    assert times["vps-1"]["x_refused"] == {"packets": 2, "first": 20, "last": 60}


def test_samples_are_the_newest_and_few():
    kept = {}
    for now in range(100, 200):
        kept = _evidence.note_samples(kept, {"tap1": {"x": {"source 10.0.0.%d" % now: (1, 0)}}}, OWNER, now)
    found = kept["vps-1"]["x"]
    assert sorted(found) == ["source 10.0.0.%d" % now for now in range(184, 200)]
    again = _evidence.note_samples(kept, {"tap2": {"x": {"source 10.0.0.190": (1, 5)}}}, OWNER, 500)
    assert again["vps-1"]["x"]["source 10.0.0.190"] == {"first": 190, "last": 495}


def test_explain_says_when_and_what():
    seen = {"counters": {"vps-1": {"anti_spoofing_refused": {"packets": 7, "bytes": 420, "first": 0, "last": 60}}},
            "samples": {"vps-1": {"anti_spoofing": {"source 203.0.113.9": {"first": 0, "last": 60}}}}, "disarmed": {}}
    view = {"node": "kvm1", "release": 1, "summaries": {}, "reasons": {
        "anti_spoofing": {"mode": "enforce", "clause": "house.4", "reason": "policy"}}}
    text = "\n".join(explain_service("vps-1", [view], [], [], [], {"kvm1": seen}))
    assert "7 packets with addresses of others refused, first seen 1970-01-01T00:00:00Z, last 1970-01-01T00:01:00Z" in text
    assert "samples of anti_spoofing: source 203.0.113.9" in text
