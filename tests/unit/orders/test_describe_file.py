# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as they lie on a node: what is refused, and how a disk's file is read."""
from __future__ import annotations

import hashlib
import os
import struct
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from ansible_collections.hosting.aup.plugins.module_utils._backends._libvirt_create import describe_file, look_at_image
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from order_model import order


def qcow2(size, backing=""):
    head = b"QFI\xfb" + struct.pack(">IQIIQ", 3, 104 if backing else 0, len(backing), 16, size)
    return head.ljust(104, b"\0") + backing.encode()


def wanted(folder, path, kind="qcow2", sha256=None):
    return order(image_directory=str(folder), image={"path": str(path), "format": kind, "sha256": sha256, "kernel": None,
                                                     "initrd": None, "command_line": None})


def test_what_a_file_is(tmp_path):
    for name, data in (("plain", b"x" * 1000), ("alone", qcow2(4096)), ("over", qcow2(8192, "/images/base.qcow2")), ("cut", b"QFI\xfb")):
        (tmp_path / name).write_bytes(data)
    assert describe_file(tmp_path / "plain") == {"format": "raw", "size_bytes": 1000, "backing": None}
    assert describe_file(tmp_path / "alone") == {"format": "qcow2", "size_bytes": 4096, "backing": None}
    assert describe_file(tmp_path / "over") == {"format": "qcow2", "size_bytes": 8192, "backing": "/images/base.qcow2"}
    assert describe_file(tmp_path / "cut")["format"] == "raw"
    (tmp_path / "link").symlink_to("/etc/shadow")
    assert describe_file(tmp_path / "link")["format"] == describe_file(tmp_path)["format"] == "other"
    assert describe_file(tmp_path / "nothing") is None


def test_images_that_are_refused(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    good, outside = folder / "good.qcow2", tmp_path / "outside.qcow2"
    for path in (good, outside):
        path.write_bytes(qcow2(1 << 30))
        path.chmod(0o644)
    (folder / "chained.qcow2").write_bytes(qcow2(1 << 30, "/etc/shadow"))
    (folder / "chained.qcow2").chmod(0o644)
    (folder / "sly.qcow2").symlink_to(outside)
    (folder / "open.qcow2").write_bytes(qcow2(1 << 30))
    (folder / "open.qcow2").chmod(0o666)
    assert look_at_image(wanted(folder, good))["size_bytes"] == 1 << 30
    for code, path, kind in (("image_missing", folder / "none.qcow2", "qcow2"), ("image_outside", folder / "sly.qcow2", "qcow2"),
                             ("image_unsafe", folder / "open.qcow2", "qcow2"), ("image_kind", folder / "chained.qcow2", "qcow2"),
                             ("image_kind", good, "raw")):
        with pytest.raises(NodeError) as caught:
            look_at_image(wanted(folder, path, kind))
        assert caught.value.code == code and caught.value.remedy, path


def test_an_image_is_read_again_only_when_it_changed(tmp_path):
    path = tmp_path / "base.qcow2"
    path.write_bytes(qcow2(1 << 30))
    path.chmod(0o644)
    right, known = hashlib.sha256(qcow2(1 << 30)).hexdigest(), {}
    look_at_image(wanted(tmp_path, path, sha256=right), known)
    known[str(path)][3] = "0" * 64  # what is remembered is what is used
    with pytest.raises(NodeError) as caught:
        look_at_image(wanted(tmp_path, path, sha256=right), known)
    assert caught.value.code == "image_changed"
    path.write_bytes(qcow2(2 << 30))
    with pytest.raises(NodeError) as caught:
        look_at_image(wanted(tmp_path, path, sha256=right), known)
    assert caught.value.code == "image_changed" and known[str(path)][3] == hashlib.sha256(qcow2(2 << 30)).hexdigest()
