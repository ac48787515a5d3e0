# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors told apart on a router that misbehaves, through netmiko and paramiko, on loopback."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("netmiko")
sys.path.insert(0, str(Path(__file__).parent))

from fake_router import FakeRouter

from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Cli, RouterError, Shell, Target


def target(router, **changed):
    return Target(**{"name": "edge", "host": "127.0.0.1", "port": router.port, "user": "aup", "password": "secret-of-the-test",
                     "known_hosts": str(router.known_hosts), "timeout": 20, **changed})


def refusal(action):
    with pytest.raises(RouterError) as caught:
        action()
    error = caught.value
    assert "edge" in error.message and error.remedy and "secret-of-the-test" not in str(error) + repr(error.__dict__)
    return error


def test_an_answer_is_attributed_to_its_line(tmp_path):
    with FakeRouter(tmp_path, answers={"show one": "1\nedge is\n", "show two": "two\n"}) as router:
        cli = Cli(target(router), "cisco_ios")
        assert cli.ask("show one") == "1\nedge is\n" and cli.ask("show two") == "two\n" and cli.ask("end") == ""
        cli.close()


@pytest.mark.parametrize(("behaviour", "code", "retryable"), [("no_banner", "session_limit", True), ("no_channel", "session_limit", True)])
@pytest.mark.parametrize("session", [lambda t: Cli(t, "cisco_ios"), lambda t: Shell(t).run("true")])
def test_no_further_session(tmp_path, behaviour, code, retryable, session):
    with FakeRouter(tmp_path, behaviour) as router:
        error = refusal(lambda: session(target(router)))
        assert (error.code, error.retryable) == (code, retryable)


@pytest.mark.parametrize("session", [lambda t: Cli(t, "cisco_ios"), Shell])
def test_wrong_password_and_wrong_keys(tmp_path, session):
    with FakeRouter(tmp_path) as router, FakeRouter(tmp_path) as other:
        assert refusal(lambda: session(target(router, password="wrong"))).code == "auth"
        unknown = refusal(lambda: session(target(router, known_hosts=str(other.known_hosts))))
        changed = tmp_path / "changed"
        changed.write_text(other.known_hosts.read_text().replace(str(other.port), str(router.port)))
        different = refusal(lambda: session(target(router, known_hosts=str(changed))))
        assert (unknown.code, different.code) == ("host_key_unknown", "host_key_changed")
        assert not unknown.retryable and not different.retryable and str(router.port) not in other.known_hosts.read_text()
        assert router.heard == []


@pytest.mark.parametrize(("answer", "code"), [
    ("<close>", "closed"), ("<other echo>", "bad_reply"), ("VTY configuration is locked by other VTY\n", "busy"),
])
def test_what_a_line_may_meet(tmp_path, answer, code):
    with FakeRouter(tmp_path, answers={"configure terminal": answer}) as router:
        cli = Cli(target(router), "cisco_ios")
        assert refusal(lambda: cli.ask("configure terminal")).code == code
        cli.close()


def test_who_is_not_privileged_is_told_so_and_enable_is_never_sent(tmp_path):
    with FakeRouter(tmp_path, prompt="edge>") as router:
        cli = Cli(target(router), "cisco_ios")
        error = refusal(lambda: cli.ask("show running-config"))
        assert error.code == "not_privileged" and not error.retryable and not any("enable" in line for line in router.heard)
        cli.close()


def test_an_answer_that_does_not_end(tmp_path):
    with FakeRouter(tmp_path, answers={"show running-config": None}) as router:
        cli = Cli(target(router, timeout=2), "cisco_ios")
        error = refusal(lambda: cli.ask("show running-config"))
        assert error.code == "timeout" and error.retryable
        cli.close()


def test_nobody_there(tmp_path):
    with FakeRouter(tmp_path) as router:
        there = target(router)
    for session in (lambda: Cli(there, "cisco_ios"), lambda: Shell(there)):
        assert refusal(session).code == "unreachable"


def test_secrets_stay_out_of_texts(tmp_path):
    with FakeRouter(tmp_path) as router:
        assert "secret-of-the-test" not in repr(target(router))
