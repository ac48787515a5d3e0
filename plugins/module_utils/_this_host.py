# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kind of host this code runs on, for what is run without a desired state in hand. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import KvmNode
from ansible_collections.hosting.aup.plugins.module_utils._node_state import NodeState
from ansible_collections.hosting.aup.plugins.module_utils._pve_host import PveHost
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack

KINDS = {None: KvmNode, PveHost.HOST: PveHost}


def this_host(run, nft, root=""):
    """The host, of the kind that the desired state it accepted was made for; without one both kinds do the same.

    :param run: `run(argv, stdin=None) -> (rc, stdout, stderr)`
    :param nft: absolute path of nft
    """
    packed = NodeState(root).desired()
    try:
        kind = unpack(packed).get("host") if packed else None
    except AupError:
        kind = None  # damaged: whatever needs it says so
    return KINDS.get(kind, KvmNode)(run, nft=nft, root=root)
