# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who acts: the authenticated user of the machine that runs Ansible, never a variable. PRIVATE.

Under AWX that is the user who launched the job: AWX itself sets `awx_user_name` among the job's extra
variables, over what a user gives. Outside AWX such a variable is anybody's and is not looked at.
"""
from __future__ import annotations

import os
import pwd
import re

_UNSET_LOGINUID = 0xFFFFFFFF
_NOT_SHOWN = re.compile(r"[^\w.@+\\ -]")
_LONGEST = 128


def identify(environment, uid, login_uid, name_of, task_vars=None):
    """The actor as a document: `name`, `source` and what is known beside. Pure.

    :param environment: the process's environment
    :param uid: the process's real user id
    :param login_uid: the user id of the login session (audit), or None; survives su and sudo
    :param name_of: user id -> name or None
    :param task_vars: looked at only for what AWX itself sets, and only inside an AWX job
    :returns: {"name", "source": "awx"|"loginuid"|"sudo"|"uid", "uid", "address"?, "job"?}
    """
    job = environment.get("JOB_ID", "")
    if environment.get("AWX_PRIVATE_DATA_DIR") and job.isdigit():
        user = (task_vars or {}).get("awx_user_name") or (task_vars or {}).get("tower_user_name")
        return {"name": _shown(user) or "awx job %s" % job, "source": "awx", "uid": uid, "job": int(job)}
    source, chosen = "uid", uid
    if login_uid is not None and login_uid != _UNSET_LOGINUID:
        source, chosen = "loginuid", login_uid
    elif uid == 0 and environment.get("SUDO_UID", "").isdigit():
        # Only root's environment is believed: sudo wrote it, or root could have written anything anyway.
        source, chosen = "sudo", int(environment["SUDO_UID"])
    actor = {"name": _shown(name_of(chosen)) or "uid %d" % chosen, "source": source, "uid": chosen}
    address = environment.get("SSH_CONNECTION", "").split(" ")[0]
    if re.fullmatch(r"[0-9A-Fa-f.:]{2,45}(%[\w.-]{1,15})?", address):
        actor["address"] = address
    return actor


def _shown(name):
    """A name without what a terminal or a report could misread."""
    return _NOT_SHOWN.sub("?", name)[:_LONGEST] if isinstance(name, str) else None


def _login_uid():
    try:
        with open("/proc/self/loginuid", encoding="ascii") as handle:
            return int(handle.read())
    except (OSError, ValueError):
        return None


def _name_of(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def current_actor(environment=None, task_vars=None):
    """The actor of this process; see `identify`."""
    environment = os.environ if environment is None else environment
    return identify(environment, os.getuid(), _login_uid(), _name_of, task_vars)
