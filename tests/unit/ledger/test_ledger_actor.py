# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who acts comes from the machine, never from a variable."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._actor import identify

UNSET = 0xFFFFFFFF
NAMES = {0: "root", 1000: "alice", 1001: "bob"}
AWX = {"JOB_ID": "42", "AWX_PRIVATE_DATA_DIR": "/tmp/awx_42_x"}
FORGED = {"awx_user_name": "mallory", "tower_user_name": "mallory", "ansible_user": "mallory"}


@pytest.mark.parametrize("environment, uid, login_uid, task_vars, name, source", [
    ({}, 1000, UNSET, FORGED, "alice", "uid"),
    ({}, 1000, None, None, "alice", "uid"),
    ({}, 0, 1000, FORGED, "alice", "loginuid"),
    ({"SUDO_UID": "1001"}, 0, 1000, None, "alice", "loginuid"),
    ({"SUDO_UID": "1001", "SUDO_USER": "bob"}, 0, UNSET, None, "bob", "sudo"),
    ({"SUDO_UID": "1001", "USER": "bob", "LOGNAME": "bob"}, 1000, UNSET, None, "alice", "uid"),
    ({"SUDO_UID": "root"}, 0, UNSET, None, "root", "uid"),
    ({}, 4242, UNSET, None, "uid 4242", "uid"),
    ({"JOB_ID": "42"}, 1000, UNSET, FORGED, "alice", "uid"),
    (AWX, 1000, UNSET, {"awx_user_name": "carol"}, "carol", "awx"),
    (AWX, 1000, UNSET, {"tower_user_name": "carol"}, "carol", "awx"),
    (AWX, 1000, UNSET, {}, "awx job 42", "awx"),
])
def test_identify(environment, uid, login_uid, task_vars, name, source):
    actor = identify(environment, uid, login_uid, NAMES.get, task_vars)
    assert (actor["name"], actor["source"]) == (name, source)
    assert actor.get("job") == (42 if source == "awx" else None)


@pytest.mark.parametrize("connection, address", [
    ("198.51.100.7 50000 192.0.2.1 22", "198.51.100.7"), ("fe80::1%eth0 5 fe80::2%eth0 22", "fe80::1%eth0"),
    ("$(reboot) 1 2 3", None), ("", None),
])
def test_the_address_of_the_ssh_session(connection, address):
    assert identify({"SSH_CONNECTION": connection}, 1000, None, NAMES.get).get("address") == address


def test_a_name_can_not_play_tricks_on_a_terminal():
    name = identify(AWX, 0, None, NAMES.get, {"awx_user_name": "a\x1b[2J\n" + "b" * 500})["name"]
    assert "\x1b" not in name and "\n" not in name and len(name) <= 128
