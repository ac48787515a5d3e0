# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that run on a KVM host share: root, a runner for commands, one way to fail. PRIVATE to the collection."""
from __future__ import annotations

import os

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import KvmNode


def on_node(module, work, uri="qemu:///system", make=None):
    """The result of `work(node)`; our own errors end the module as its failure.

    :param module: AnsibleModule
    :param work: function of a KvmNode
    :param uri: libvirt's
    :param make: `make(run, nft) -> KvmNode` for another kind of host
    """
    def run(argv, stdin=None):
        try:
            return module.run_command(argv, data=stdin, handle_exceptions=False)
        except OSError as exc:  # it died before it had read its input, or can't be started
            return 127, "", "%s ended by itself: %s" % (argv[0], exc.strerror)

    try:
        if os.geteuid() != 0:
            raise InputError("this has to run as root on the node.", target="become",
                             remedy="Set `become: true` for the play, or connect as root.")
        nft = module.get_bin_path("nft", required=True)
        return work(make(run, nft) if make else KvmNode(run, nft=nft, uri=uri))
    except AupError as exc:
        module.fail_json(msg=str(exc), error=exc.to_result())
