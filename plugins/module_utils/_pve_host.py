# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of a Proxmox VE cluster seen from itself: the packet filter of a KVM host, without libvirt. PRIVATE to the collection."""
from __future__ import annotations

import os
from contextlib import contextmanager

from ansible_collections.hosting.aup.plugins.module_utils import _hold
from ansible_collections.hosting.aup.plugins.module_utils._create import with_pending
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import BOOTS, KvmNode
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

    :param root: prefix of all its files (tests)
    :param configuration: where the cluster's files are, if not in their place
    """

    HOST = _host.HOST

    def __init__(self, run, nft="/usr/sbin/nft", root="", boot_id=None, configuration=None):
        super().__init__(run, nft=nft, root=root, boot_id=boot_id)
        self._configuration = configuration or root + CONFIGURATION
        self._by_itself = False
        self._unread = None

    def _ask_guests(self, links):
        try:
            if self._without_libvirt:
                return self._last_seen(links)
            return _host.guests_of(links, read_configs(_host.numbers(links), self._configuration))
        except NodeError as exc:
            if exc.code != "pmxcfs_down" or not self._by_itself:
                raise
            self._unread = exc
            return self._last_seen(links)

    def _last_seen(self, links):
        """The guests by what their configurations were: while those can't be read, nobody can make a guest or give a number anew."""
        try:
            known = self.state.load_ports()["guests"] or []
        except NodeError:
            if not self._without_libvirt:
                raise
            known = []  # of the host that boots, names alone bind the guests of the catalogue
        return _host.guests_of(links, _host.configs_of(known))

    def keep(self, moment, boots=BOOTS, libvirt=True):
        """One pass of this node by itself, also while the cluster's files can't be read; see `KvmNode.keep`.

        :param libvirt: False at boot: the cluster's files, and maybe the node's bridges, are not there yet
        """
        with self._alone():
            done = super().keep(moment, boots, libvirt)
        if self._unread is not None:
            done["errors"].append({"service": None, "part": "guest", "code": self._unread.code, "message": self._unread.message,
                                   "remedy": "Ports are taken for whose they were last."})
        return done

    def set_disarmed(self, controls, armed, reason, check=False):
        """Also while the cluster's files can't be read; see `KvmNode.set_disarmed`."""
        with self._alone():
            return super().set_disarmed(controls, armed, reason, check)

    @contextmanager
    def _alone(self):
        """Nobody else would mend what is left undone for want of the cluster's files; a run would, once they are there."""
        self._by_itself, self._unread = True, None
        try:
            yield
        finally:
            self._by_itself = False

    def _owners(self, desired):
        return _host.ByNumber(desired["services"])

    def _model(self, desired, guests, links, disarmed, state, owners=None):
        coming = _host.elsewhere(desired["services"], guests)
        located, state["located"] = _host.located(desired, links, coming, state["located"], self._without_libvirt)
        known, pending = with_pending(guests, links, coming)
        uplinks = {name: {"master": None, "mac": None} for name in located["uplinks"]}
        return filter_model(located, known, {**uplinks, **pending}, disarmed, state["adopted"], owners or self._owners(desired))

    def _ask_details(self, uuids):
        """Nothing but rules is set here, and rules need none."""
        return {}

    @staticmethod
    def _plan_service(service, guest, details, boot_id, own):
        """Rules alone: power is the API's."""
        return guest is not None, _hold.HoldPlan([], None, [], [])
