# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A capped guest that starts is capped before its first packet, by libvirt's real hook alone. Needs root."""
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))

from libvirt_node import missing

from ansible_collections.hosting.aup.plugins.plugin_utils._zipapp import build
from tests.integration.soak.host import Host

ROOT = Path(__file__).resolve().parents[3]
RATE = 10_000_000


def install(host):
    """Program and hook as the role has them, in the node's own places; libvirtd finds a hook when it starts."""
    text = (ROOT / "roles/kvm_host/templates/50-hosting-aup.j2").read_text()
    hooks = host.root / "etc/libvirt/hooks/qemu.d"
    hooks.mkdir(parents=True)
    (host.root / "run/aup-node").write_bytes(build(ROOT))
    (hooks / "50-hosting-aup").write_text(text.replace("{{ kvm_host_keeper_directory }}", "/run").replace("{{ kvm_host_keeper_clock }}", "trusted"))
    (hooks / "50-hosting-aup").chmod(0o755)
    host.stop_libvirtd()
    host.start_libvirtd()


def test_the_first_second_of_a_restarted_guest_is_capped(capsys):
    lacking = missing()
    if lacking:
        pytest.skip("needs " + ", ".join(lacking))
    with Host(1) as host:
        install(host)
        found = host.python("tests.integration.keeper.first_second", timeout=200)
    assert found.pop("wrong") == [] and found.pop("lifted") == {"links": 0, "led": 0}
    with capsys.disabled():
        print({name: "%.1f Mbit/s for %.2f s" % (one["bytes"] * 8e-6 / one["seconds"], one["seconds"]) for name, one in found.items()})
    for name in ("devices left", "no devices"):
        one = found[name]
        assert (one["links"], one["led"], one["steps"], one["errors"]) == (2, 2, [], []), "and the keeper finds nothing to do"
        burst = RATE / 8 * 0.04 + 3 * 1514
        assert 0 < one["bytes"] <= RATE / 8 * one["seconds"] * 1.02 + burst, one
    other = found["no hook"]
    assert other["bytes"] > RATE / 8 * other["seconds"] * 2 and other["steps"] and other["errors"] == [], "the flood was one"
