# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small declarative schema: what values look like, and their canonical form. PRIVATE to the collection.

A kind reads one value at a path and returns its canonical form; what is wrong is reported to `problems`, and
reading goes on, so that one pass finds everything that is wrong. A value that could not be read is `INVALID`.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections import namedtuple
from datetime import datetime

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._fold import share_of_processors
from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration

INVALID = object()
ABSENT = object()

Field = namedtuple("Field", "kind required default")


class Problem(namedtuple("Problem", "path expected found hint")):
    """One thing wrong in a document: where, what was expected, what was found, and perhaps what was meant."""

    __slots__ = ()


class Problems(list):
    """All the problems of a document, in the order they were found."""

    def add(self, path, expected, value, hint=None):
        return self.say(path, expected, describe(value), hint)

    def say(self, path, expected, found, hint=None):
        """Like `add`, with what was found already in words. What is wrong at one path is told once."""
        if all(problem.path != path for problem in self):
            self.append(Problem(path, expected, found, hint))
        return INVALID


def path_text(path):
    """`controls.smtp_outbound.rules[1].when`; a key that is no plain word is quoted: `clauses["xtom.13"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += "[%d]" % part
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", part):
            text += ("." if text else "") + part
        else:
            text += '["%s"]' % _shortened(part)
    return text or "the document"


def describe(value):
    """A value in the words of an error message: its type first, shortened, control characters escaped."""
    if value is None:
        return "nothing (null)"
    if value is True or value is False:
        return "the boolean %s" % str(value).lower()
    if isinstance(value, str):
        return "the text '%s'" % _shortened(value) if value else "an empty text"
    if isinstance(value, (int, float)):
        return "the number %r" % (value,)
    if isinstance(value, (list, tuple)):
        return "a list of %d" % len(value) if value else "an empty list"
    if isinstance(value, dict):
        names = ", ".join(_shortened(str(key), 20) for key in list(value)[:4])
        return "a map with %s%s" % (names, ", …" if len(value) > 4 else "") if value else "an empty map"
    return "a value of type %s" % type(value).__name__


def did_you_mean(value, known):
    """`Did you mean …?` when one of the known words is close, else None."""
    close = difflib.get_close_matches(str(value)[:80].lower(), [str(word) for word in known], 1, 0.6)
    return "Did you mean %s?" % close[0] if close else None


def one_of(words):
    return "one of " + ", ".join(str(word) for word in words) if words else "nothing (none is declared)"


def _shortened(text, length=60):
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= length else text[:length] + "…"


def _yaml_hint(value):
    """What YAML may have made of an unquoted word."""
    if value is True or value is False:
        return "Unquoted %s are booleans to many YAML readers: put the word in quotes." % (
            "yes, on and true" if value else "no, off and false"
        )
    if isinstance(value, (int, float)):
        return "Put it in quotes."
    return None


class Text:
    """Text that is not empty. With a pattern, one line that matches it as a whole."""

    def __init__(self, expected="text", pattern=None, longest=4000):
        self.expected = expected
        self._pattern = re.compile(pattern) if pattern else None
        self._longest = longest

    def read(self, value, path, problems):
        if not isinstance(value, str):
            return problems.add(path, self.expected, value, _yaml_hint(value))
        if not value.strip():
            return problems.add(path, self.expected, "" if not value else value)
        if len(value) > self._longest:
            return problems.say(path, "at most %d characters" % self._longest, "%d characters" % len(value))
        if self._pattern and not self._pattern.fullmatch(value):
            return problems.add(path, self.expected, value)
        return value


class Version(Text):
    """A version: text, or a whole number, which becomes text. 1.10 as a number would be 1.1."""

    def __init__(self):
        super().__init__(
            "a version: letters, digits, dots, dashes (1, 2026-05, 1.10)", r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
        )

    def read(self, value, path, problems):
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return super().read(value, path, problems)


class Choice:
    """One of some words."""

    def __init__(self, *words):
        self.words = words
        self.expected = one_of(words)

    def read(self, value, path, problems):
        if isinstance(value, str) and value in self.words:
            return value
        hint = did_you_mean(value, self.words) if isinstance(value, str) else _yaml_hint(value)
        return problems.add(path, self.expected, value, hint)


class Exactly:
    """One value and no other."""

    def __init__(self, value):
        self._value = value
        self.expected = repr(value)

    def read(self, value, path, problems):
        if type(value) is type(self._value) and value == self._value:
            return value
        return problems.add(path, self.expected, value)


class Boolean:
    """true or false; never a word that only looks like one."""

    expected = "true or false"

    def read(self, value, path, problems):
        if value is True or value is False:
            return value
        hint = None
        if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off", "true", "false", "y", "n"):
            hint = "Write true or false, in small letters and without quotes."
        return problems.add(path, self.expected, value, hint)


class Integer:
    def __init__(self, lowest, highest, expected=None):
        self._lowest, self._highest = lowest, highest
        self.expected = expected or "a whole number from %d to %d" % (lowest, highest)

    def read(self, value, path, problems):
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not self._lowest <= value <= self._highest
        ):
            hint = "Write it without quotes." if isinstance(value, str) and value.isdecimal() else None
            return problems.add(path, self.expected, value, hint)
        return value


class Duration:
    """Kept as text with its unit; seconds are made where they are used."""

    expected = "a duration above zero with its unit m, h or d (30m, 48h, 7d)"

    def read(self, value, path, problems):
        try:
            parse_duration(value)
        except InputError:
            hint = None
            if (
                isinstance(value, int)
                and not isinstance(value, bool)
                or isinstance(value, str)
                and value.isdecimal()
            ):
                hint = "Did you mean %sm, %sh or %sd?" % (value, value, value)
            return problems.add(path, self.expected, value, hint)
        return value


class Percentage:
    expected = 'a whole percentage from "1%" to "100%"'

    def read(self, value, path, problems):
        match = re.fullmatch(r"([0-9]{1,3})%", value) if isinstance(value, str) else None
        if not match or not 1 <= int(match.group(1)) <= 100:
            return problems.add(path, self.expected, value)
        return "%d%%" % int(match.group(1))


class Share:
    """Of a guest's processors: `20%` of all it has, or `0.5 cores` of the host's."""

    expected = 'a share of processors ("20%", or "0.5 cores")'

    def read(self, value, path, problems):
        try:
            unit, number = share_of_processors(value)
        except InputError:
            return problems.add(path, self.expected, value)
        if unit == "percent":
            return "%d%%" % number
        text = ("%d.%02d" % (number // 1000, number % 1000 // 10)).rstrip("0").rstrip(".")
        return "%s %s" % (text, "core" if text == "1" else "cores")


class Amount:
    """Money is exact: a decimal number as text, never a binary fraction."""

    expected = 'an amount of money as a decimal number in quotes ("50.00")'

    def read(self, value, path, problems):
        if not isinstance(value, str) or not re.fullmatch(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,3})?", value):
            return problems.add(path, self.expected, value, _yaml_hint(value))
        return value


class Date:
    expected = "a date (2026-01-31)"

    def read(self, value, path, problems):
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return problems.add(path, self.expected, value)
        try:
            datetime.strptime(value, "%Y-%m-%d")
        except ValueError:
            return problems.add(path, "a date of the calendar", value)
        return value


class Prefix:
    """An IPv4 or IPv6 prefix or host address, read as a prefix in canonical form.

    :param widest: (IPv4 length, IPv6 length) below which a prefix is taken for a slip
    """

    expected = "an IPv4 or IPv6 prefix or address (192.0.2.0/24, 2001:db8::1)"

    def __init__(self, widest=(0, 0)):
        self._widest = widest

    def read(self, value, path, problems):
        # Netmasks (192.0.2.0/255.255.255.0), zones (fe80::1%eth0) and bare numbers are other notations.
        if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?", value):
            return problems.add(path, self.expected, value)
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            return problems.add(path, self.expected, value)
        if network.network_address != ipaddress.ip_address(value.partition("/")[0]):
            return problems.add(path, "a prefix without host bits", value, "Did you mean %s?" % network)
        if (
            network.version == 6
            and network.network_address.ipv4_mapped is not None
            and network.prefixlen >= 96
        ):
            return problems.add(path, self.expected, value, "Write an IPv4 address as an IPv4 address.")
        widest = self._widest[0 if network.version == 4 else 1]
        if network.prefixlen < widest:
            return problems.add(path, "an IPv%d prefix of /%d or longer" % (network.version, widest), value)
        return str(network)


class ListOf:
    """A list of values of one kind.

    :param single: a single value stands for a list of it
    :param unordered: order means nothing: sorted, each value once
    """

    def __init__(self, kind, shortest=0, single=False, unordered=False):
        self.kind, self._shortest, self._single, self._unordered = kind, shortest, single, unordered
        self.expected = "a list, each %s" % kind.expected
        if single:
            self.expected = "%s, or a list of such" % kind.expected

    def read(self, value, path, problems):
        if self._single and not isinstance(value, (list, dict)) and value is not None:
            value = self.kind.read(value, path, problems)
            return INVALID if value is INVALID else [value]
        if not isinstance(value, list):
            return problems.add(path, self.expected, value, _yaml_hint(value))
        if len(value) < self._shortest:
            return problems.add(path, "%s; at least %d" % (self.expected, self._shortest), value)
        # An item that could not be read leaves its place, so that the others keep their numbers.
        values = [self.kind.read(item, path + (number,), problems) for number, item in enumerate(value)]
        if INVALID in values:
            return [None if item is INVALID else item for item in values]
        if not self._unordered:
            return values
        return sorted(set(values), key=_sort_key)


def _sort_key(value):
    if isinstance(value, str) and "/" in value:
        network = ipaddress.ip_network(value)
        return (network.version, int(network.network_address), network.prefixlen)
    return value


class AnyMap:
    """A map whose keys are read later, when it is known which there are."""

    expected = "a map"

    def read(self, value, path, problems):
        return (
            dict(value)
            if isinstance(value, dict)
            else problems.add(path, self.expected, value, _yaml_hint(value))
        )


class Map:
    """A map with known keys."""

    expected = "a map"

    def __init__(self, **fields):
        self.fields, self.hints = fields, {}

    def hinting(self, hints):
        """This map, with what to say of keys that belong elsewhere: `{key: sentence}`."""
        self.hints = hints
        return self

    def read(self, value, path, problems):
        if not isinstance(value, dict):
            return problems.add(path, "a map with %s" % ", ".join(self.fields), value, _yaml_hint(value))
        result = {}
        for key in value:
            if key not in self.fields:
                hint = self.hints.get(key) or did_you_mean(key, self.fields)
                problems.say(
                    path + (str(key),),
                    "a key that exists here (%s)" % ", ".join(self.fields),
                    "the unknown key '%s'" % _shortened(str(key)),
                    hint,
                )
        for key, field in self.fields.items():
            if key in value:
                read = field.kind.read(value[key], path + (key,), problems)
                if read is not INVALID:
                    result[key] = read
            elif field.required:
                problems.say(path + (key,), field.kind.expected, "no such key")
            elif field.default is not ABSENT:
                result[key] = field.kind.read(field.default, path + (key,), problems)
        return result


class Named:
    """A map from names to values of one kind.

    :param names: the only names there are, or None
    :param pattern: what a name must look like when any may be chosen
    """

    expected = "a map"

    def __init__(self, kind, what, names=None, pattern=r"[a-z][a-z0-9_-]{0,63}", named_kinds=None):
        self.kind, self._what, self._names, self._pattern = kind, what, names, re.compile(pattern)
        self.named_kinds = named_kinds or {}

    def read(self, value, path, problems):
        if not isinstance(value, dict):
            return problems.add(path, "a map from %s to its settings" % self._what, value, _yaml_hint(value))
        result = {}
        for key, item in value.items():
            if not isinstance(key, str):
                problems.say(path + (str(key),), "a %s as text" % self._what, describe(key), _yaml_hint(key))
                continue
            if self._names is not None and key not in self._names:
                problems.say(
                    path + (key,),
                    "a known %s (%s)" % (self._what, ", ".join(self._names)),
                    "the unknown %s '%s'" % (self._what, _shortened(key)),
                    did_you_mean(key, self._names),
                )
                continue
            if self._names is None and not self._pattern.fullmatch(key):
                problems.say(
                    path + (key,),
                    "a %s like %s" % (self._what, self._pattern.pattern),
                    "the key '%s'" % _shortened(key),
                )
                continue
            read = self.named_kinds.get(key, self.kind).read(item, path + (key,), problems)
            if read is not INVALID:
                result[key] = read
        return result


def required(kind):
    return Field(kind, True, ABSENT)


def optional(kind, default=ABSENT):
    """An optional key; with a default it is always present in the document that was read."""
    return Field(kind, False, default)
