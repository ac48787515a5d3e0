# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking an address off an interface by rtnetlink, in a network namespace of its own. Needs root."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a network namespace")

_INSIDE = """
import subprocess
from ansible_collections.hosting.aup.plugins.module_utils._backends import _host_addresses as addresses
def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
ip("link", "set", "lo", "up")
ip("address", "add", "192.0.2.129/32", "peer", "192.0.2.130", "dev", "lo")
ip("address", "add", "192.0.2.140/32", "dev", "lo")
ip("address", "add", "2001:db8::1/64", "dev", "lo")
assert addresses.remove("lo", "192.0.2.129", 32) and addresses.remove("lo", "2001:db8::1", 64)
assert not addresses.remove("lo", "192.0.2.129", 32) and not addresses.remove("lo", "2001:db8::1", 64)
left = ip("-o", "address", "show", "dev", "lo")
assert "192.0.2.140" in left and "127.0.0.1" in left and "192.0.2.129" not in left and "2001:db8" not in left
try:
    addresses.remove("nosuch0", "192.0.2.1", 32)
except OSError:
    print("as expected")
"""


def test_only_the_address_named_goes():
    done = subprocess.run(["unshare", "--net", sys.executable, "-c", _INSIDE], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout == "as expected\n", done.stderr
