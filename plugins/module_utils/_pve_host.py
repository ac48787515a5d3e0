# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of a Proxmox VE cluster seen from itself: the packet filter of a KVM host, without libvirt. PRIVATE to the collection."""
from __future__ import annotations

import os

from ansible_collections.hosting.aup.plugins.module_utils import _hold
from ansible_collections.hosting.aup.plugins.module_utils._create import with_pending
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import KvmNode
from ansible_collections.hosting.aup.plugins.module_utils._ports import filter_model
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _host

CONFIGURATION = "/etc/pve"
_KINDS = (("qemu", "qemu-server"), ("lxc", "lxc"))


def read_configs(vmids, directory):
    """`{number: as _host.read_config gives it}` of these guests, wherever in the cluster; one that migrates is its former node's.

    :raises NodeError: code `pmxcfs_down`, as without its files nobody knows whose a port is
    """
    try:
        nodes = sorted(os.listdir(os.path.join(directory, "nodes")))
    except OSError as exc:
        raise NodeError("%s/nodes can't be read: %s." % (directory, exc.strerror), code="pmxcfs_down", target=directory, retryable=True,
                        remedy="Check that this is a node of Proxmox VE and that pve-cluster runs there; the rules stay as they are.")
    found = {}
    for vmid in vmids:
        for kind, folder in _KINDS:
            for node in nodes:
                try:
                    with open(os.path.join(directory, "nodes", node, folder, "%d.conf" % vmid), encoding="utf-8", errors="replace") as handle:
                        found[vmid] = _host.read_config(kind, handle.read())
                except OSError:
                    continue
    return found


class PveHost(KvmNode):
    """The node this code runs on.

    :param configuration: where the cluster's files are
    """

    def __init__(self, run, nft="/usr/sbin/nft", root="", boot_id=None, configuration=CONFIGURATION):
        super().__init__(run, nft=nft, root=root, boot_id=boot_id)
        self._configuration = configuration

    def _ask_guests(self, links):
        return _host.guests_of(links, read_configs(_host.numbers(links), self._configuration))

    def _owners(self, desired):
        return _host.ByNumber(desired["services"])

    def _model(self, desired, guests, links, disarmed, adopted, owners=None):
        coming = _host.elsewhere(desired["services"], guests)
        located = _host.located(desired, links, coming)
        known, pending = with_pending(guests, links, coming)
        uplinks = {name: {"master": None, "mac": None} for name in located["uplinks"]}
        return filter_model(located, known, {**uplinks, **pending}, disarmed, adopted, owners or self._owners(desired))

    def _ask_details(self, uuids):
        """Nothing but rules is set here, and rules need none."""
        return {}

    @staticmethod
    def _plan_service(service, guest, details, boot_id, own):
        """Rules alone: power is the API's."""
        return guest is not None, _hold.HoldPlan([], None, [], [])
