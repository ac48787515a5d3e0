# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that run on a node share: root, a runner for commands, one way to fail; plan and apply. PRIVATE to the collection."""
from __future__ import annotations

import os

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import KvmNode

PLAN_ARGUMENTS = {
    "mode": {"type": "str", "choices": ["plan", "apply"], "required": True},
    "desired": {"type": "str", "required": True},
    "plan_hash": {"type": "str"},
    "adopt": {"type": "bool", "default": False},
    "confirm_seconds": {"type": "int", "default": 30},
    "taken": {"type": "dict", "options": {
        "journal": {"type": "str", "required": True}, "number": {"type": "int", "required": True}}},
}
PLAN_REQUIRES = [("mode", "apply", ("plan_hash",))]


def plan_or_apply(module):
    """What `on_node` is to do for a module with `PLAN_ARGUMENTS`; those for orders only some have."""
    params = module.params

    def work(node):
        if params["mode"] == "plan":
            return node.plan(params["desired"], advance=not module.check_mode, adopt=params["adopt"],
                             orders=params.get("orders"), taken=params["taken"])
        if module.check_mode:
            return {"changed": True}
        return node.apply(params["desired"], params["plan_hash"], params["confirm_seconds"], params["adopt"],
                          params.get("orders"), params.get("user_data"))
    return work


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
