# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What notices say: fields and nothing else, and a mail that no text can break out of."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy._template import (
    FIELDS,
    STANDARD,
    fields_of,
    one_line,
    render,
    wrong_parts,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import NOTICE_TIMINGS
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._message import address, message, read_bounce
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names

VALUES = {name: "<%s>" % name for name in FIELDS}
HEAD = "schema: 1\nname: p\nversion: '1'\neffective: 2026-01-01\nprovider: {name: P}\nextends: default\n"


@given(st.text())
def test_a_text_without_wrong_parts_renders_and_one_with_them_never_does(text):
    if wrong_parts(text):
        with pytest.raises(PolicyError):
            render(text, VALUES)
    else:
        assert isinstance(render(text, VALUES), str)


@given(st.sampled_from(sorted(FIELDS)), st.text())
def test_values_are_put_in_once_and_stay_text(name, value):
    got = render("${%s}" % name, {name: "${case}$${x}" + value})
    assert got.startswith("${case}$${x}")
    assert "\r" not in got and "\x00" not in got


@pytest.mark.parametrize("text", ["${nobody}", "${Case}", "$case", "${", "${case", "${ case }", "${case.upper}", "a ${x} b"])
def test_what_is_no_field(text):
    assert wrong_parts(text)


@pytest.mark.parametrize("text", ["$5", "$(id)", "{{ 7 }}", "$$ ${case}", "100 $"])
def test_what_is_text(text):
    assert wrong_parts(text) == []
    assert render("$$ ${case}", VALUES) == "$ <case>"


@pytest.mark.parametrize("key", ["subject", "text"])
def test_an_undefined_variable_is_refused_with_file_line_and_key(tmp_path, key):
    path = tmp_path / "p.yml"
    path.write_text(HEAD + "notices:\n  with_action:\n    timing: with\n    %s: Dear ${recipeint}\n" % key)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    for part in ("p.yml:10", "notices.with_action.%s" % key, "${recipeint}", "Did you mean recipient?"):
        assert part in str(caught.value), caught.value


def test_every_shipped_notice_renders():
    for name in shipped_names():
        found = load_policy(name)
        for name_of, notice in found.document["notices"].items():
            values = {field: "<%s>" % field for field in fields_of(notice["timing"])}
            for text in found.notice_text(name_of):
                assert "${" not in render(text, values)
    assert set(STANDARD) == set(NOTICE_TIMINGS)


@given(st.text(), st.text(), st.text())
def test_no_text_gets_into_the_headers(subject, body, name):
    notice = {
        "recipient": "a@example.net", "subject": subject, "body": body, "opened_at": 1_800_000_000, "message_id": "N-1." + "0" * 36,
    }
    clean = {key: "".join(c for c in value if not "\ud800" <= c <= "\udfff") for key, value in notice.items() if isinstance(value, str)}
    data = message({**notice, **clean}, "abuse@provider.example", "".join(c for c in name if not "\ud800" <= c <= "\udfff"))
    mail = message_from_bytes(data, policy=policy.default)
    assert sorted(mail.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    )
    assert mail["To"] == "a@example.net"
    assert [a.addr_spec for a in mail["From"].addresses] == ["abuse@provider.example"]
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    assert b"\n" not in data.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "text",
    ["a@b\nBcc: c@d", "a@b\r\n.", "a b@c.d", "<a@b.c>", "a@b.c>", "a@", "@b", "a@b..c", "a@-b", '"a"@b.c', "a@[192.0.2.1]", "ä@b.c", "a@b.c ", None, 7, "x" * 65 + "@b.c"],
)
def test_what_is_no_address(text):
    with pytest.raises(InputError):
        address(text)


def test_addresses():
    for text in ("a@b.c", "first.last+tag@xn--bcher-kva.example", "o'neil@example.net"):
        assert address(text) == text


@given(st.binary(max_size=2000))
def test_garbage_is_no_bounce(data):
    assert read_bounce(data) is None
    assert read_bounce(b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n' + data) is None


@given(st.text())
def test_one_line(text):
    line = one_line(text)
    assert len(line) <= 200 and line == line.strip() and len(line.splitlines()) <= 1
