# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node remembers: whole files, one lock, and a fence."""
from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import time

import pytest
from hypothesis import given, strategies as st

from ansible_collections.hosting.aup.plugins.module_utils import _rollback
from ansible_collections.hosting.aup.plugins.module_utils._errors import FenceError, InputError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._node_state import NodeState, check_fence, empty_state
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack


@pytest.fixture
def node(tmp_path):
    (tmp_path / "var/lib").mkdir(parents=True)
    return NodeState(str(tmp_path))


def fence(epoch=1, generation=1, ledger="L"):
    return {"ledger": ledger, "epoch": epoch, "generation": generation}


@given(*[st.integers(0, 5)] * 4)
def test_a_node_takes_what_is_newer_or_the_same_and_nothing_older(e1, g1, e2, g2):
    if (e2, g2) < (e1, g1):
        with pytest.raises(FenceError) as caught:
            check_fence(fence(e1, g1), fence(e2, g2))
        assert caught.value.code == "fence_old" and caught.value.retryable
    else:
        check_fence(fence(e1, g1), fence(e2, g2))


def test_a_node_takes_nothing_from_another_ledger_but_anything_when_new():
    check_fence(None, fence())
    with pytest.raises(FenceError) as caught:
        check_fence(fence(), fence(9, 9, "M"))
    assert caught.value.code == "fence_ledger" and "aup_adopt_from_other_ledger" in caught.value.remedy


def test_state_comes_back_and_is_for_root_alone(node):
    assert node.load() == empty_state()
    state = dict(empty_state(), fence=fence())
    node.save(state)
    assert node.load() == state
    assert stat.S_IMODE(os.stat(node.directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(node.directory, "state.json")).st_mode) == 0o600


@pytest.mark.parametrize(("content", "code"), [(b"{", "state_damaged"), (b"\xff", "state_damaged"), (b'{"format": 99}', "state_newer")])
def test_a_damaged_or_newer_state_is_named_and_not_taken_for_empty(node, content, code):
    node.write("state.json", content)
    with pytest.raises(NodeError) as caught:
        node.load()
    assert caught.value.code == code and "state.json" in caught.value.message and caught.value.remedy


def test_a_write_that_fails_leaves_the_former_file(node):
    node.save(dict(empty_state(), fence=fence()))
    os.mkdir(os.path.join(node.directory, "state.json.new"))  # the next write can't open its temporary file
    with pytest.raises(NodeError) as caught:
        node.save(empty_state())
    assert caught.value.code == "state_unwritable"
    assert node.load()["fence"] == fence()


def test_forget_leaves_nothing(node):
    node.save(empty_state())
    node.save_disarmed({"all": {"at": 1, "reason": "r"}})
    node.forget()
    node.forget()
    assert not os.path.exists(node.directory)


def test_the_lock_keeps_others_out_and_names_its_holder(node, tmp_path):
    code = ("import sys,time\n"
            "from ansible_collections.hosting.aup.plugins.module_utils._node_state import NodeState\n"
            "with NodeState(sys.argv[1]).locked():\n print('held', flush=True); time.sleep(60)\n")
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(NodeError) as caught, node.locked(seconds=0.2):
            pass
        assert caught.value.code == "node_busy" and str(holder.pid) in caught.value.message
    finally:
        holder.kill()
        holder.wait()
    with node.locked(seconds=0.2):  # a killed holder leaves no lock behind
        pass


@pytest.mark.parametrize("text", ["", "not base64!", "aGVsbG8=", "eJw="])
def test_a_damaged_desired_state_is_an_error(text):
    with pytest.raises(InputError, match="damaged"):
        unpack(text)


def _arm(tmp_path, seconds, former="former rules"):
    """Arm in a process of its own, as a module does, with a stand-in for nft that leaves a trace."""
    nft = tmp_path / "nft"
    nft.write_text("#!/bin/sh\ncp \"$2\" %s/loaded\n" % tmp_path)
    nft.chmod(0o755)
    code = ("import sys\nfrom ansible_collections.hosting.aup.plugins.module_utils import _rollback\n"
            "print(_rollback.arm(sys.argv[4], float(sys.argv[1]), sys.argv[2], sys.argv[3] + '/lock', sys.argv[3]))\n")
    done = subprocess.run([sys.executable, "-c", code, str(seconds), str(nft), str(tmp_path), former],
                          capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _wait_for(path, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not path.exists():
        time.sleep(0.05)
    return path.exists()


def test_unconfirmed_rules_are_undone_by_the_node_itself(tmp_path):
    _arm(tmp_path, 0.5)
    assert _wait_for(tmp_path / "loaded", 10)
    assert (tmp_path / "loaded").read_text() == "former rules"


@pytest.mark.parametrize("broken", ["", "[ -e %s/refused ] || { touch %s/refused; exit 1; }"])
def test_former_rules_come_back_under_their_guard_and_without_it_too(tmp_path, broken):
    nft = tmp_path / "nft"
    nft.write_text("#!/bin/sh\n%s\ncat \"$2\" >> %s/loaded\n" % (broken and broken % (tmp_path, tmp_path), tmp_path))
    nft.chmod(0o755)
    code = ("import sys\nfrom ansible_collections.hosting.aup.plugins.module_utils import _rollback\n"
            "_rollback.arm('rules;', 0.2, sys.argv[1], sys.argv[2] + '/lock', sys.argv[2], lambda text: ['guard;', text, 'gone;'])\n")
    subprocess.run([sys.executable, "-c", code, str(nft), str(tmp_path)], timeout=10, check=True)
    wanted = "rules;gone;" if "refused" in broken else "guard;rules;gone;"
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and not ((tmp_path / "loaded").exists() and (tmp_path / "loaded").read_text() == wanted):
        time.sleep(0.05)
    assert (tmp_path / "loaded").read_text() == wanted


def test_confirmed_rules_stay(tmp_path):
    token = _arm(tmp_path, 1)
    os.unlink(_rollback.rollback_path(token, str(tmp_path)))
    assert not _wait_for(tmp_path / "loaded", 2)


def test_the_module_does_not_wait_for_the_watcher(tmp_path):
    before = time.monotonic()
    token = _arm(tmp_path, 30)  # would raise TimeoutExpired if the watcher kept the module's output open
    assert time.monotonic() - before < 10
    _rollback.disarm(token, str(tmp_path))


def test_a_run_after_a_killed_one_goes_back_to_the_last_rules_that_were_confirmed(tmp_path):
    dead = _arm(tmp_path, 1, "confirmed rules")
    living = _arm(tmp_path, 2, "rules of the run that was killed")
    assert _rollback.waiting(str(tmp_path)) == [living]
    assert not _wait_for(tmp_path / "loaded", 1.5), "the dead run's process undid what the living one did"
    assert _wait_for(tmp_path / "loaded", 5)
    assert (tmp_path / "loaded").read_text() == "confirmed rules"
    assert not (tmp_path / ("run/hosting_aup/rollback-%s.nft.claimed" % dead)).exists()


def test_the_time_to_confirm_begins_when_the_run_lets_go_of_the_lock(tmp_path):
    (tmp_path / "lock").touch()
    with open(tmp_path / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _arm(tmp_path, 0.3)
        assert not _wait_for(tmp_path / "loaded", 1.5)
    assert _wait_for(tmp_path / "loaded", 5)


def test_a_confirmed_change_leaves_nothing_in_run(tmp_path):
    token = _arm(tmp_path, 30)
    os.unlink(_rollback.rollback_path(token, str(tmp_path)))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (tmp_path / "run/hosting_aup").exists():
        time.sleep(0.05)
    assert not (tmp_path / "run/hosting_aup").exists()


def test_a_lock_that_was_removed_with_its_node_is_made_anew(tmp_path):
    node = NodeState(str(tmp_path))
    with node.locked():
        node.write("state.json", b"{}")
        node.forget()
    assert not os.path.exists(node.lock_path) and not os.path.exists(node.directory)
    with node.locked(seconds=0.2), pytest.raises(NodeError), NodeState(str(tmp_path)).locked(seconds=0.2):
        pass


def test_retiring_removes_what_a_rollback_left_and_no_change_that_waits(tmp_path):
    _arm(tmp_path, 0.2)
    assert _wait_for(tmp_path / "loaded", 10)
    waiting = _arm(tmp_path, 30)
    _rollback.forget(str(tmp_path))
    assert [path.name for path in (tmp_path / "run/hosting_aup").iterdir()] == ["rollback-%s.nft" % waiting]
    _rollback.disarm(waiting, str(tmp_path))
    _rollback.forget(str(tmp_path))
    assert not (tmp_path / "run/hosting_aup").exists()
