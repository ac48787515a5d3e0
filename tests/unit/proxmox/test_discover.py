# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the inventory is told of a cluster's API."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._discover import client_of


@pytest.mark.parametrize("settings, text", [
    ({"token_secret": "x"}, "unknown settings: token_secret"), ({"user": ""}, "has no user"), ({"port": "x"}, "numbers"),
    ({"secret_file": "none"}, "can't be read"), ({}, "there is no secret")])
def test_settings_that_are_refused(tmp_path, settings, text):
    with pytest.raises(InputError, match=text):
        client_of("pve", None, {"user": "svc@pve", "token_id": "aup", **settings}, str(tmp_path), {"X": "1"} if settings == {} else {
            "AUP_PROXMOX_TOKEN_SECRET": "s"})
