# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A panel's export into catalogue entries, by JMESPath expressions. PRIVATE to the collection."""
from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_fields import described

try:
    import jmespath
    from jmespath import exceptions, functions
except ImportError:
    jmespath = None

SHARED_FIELDS = ("address", "protocol", "ports")
NIC_FIELDS = ("mac", "addresses", "prefixes", "shared", "floating")
# What a field's expression may be: one expression, a group of named ones, or a list with `each`.
_GROUPS = {
    "guest": ("name", "uuid", "vmid"), "liable": ("name", "contact"),
    "order": ("create", "vcpus", "memory_bytes", "disk", "nics", "rate_bit_per_second", "cloud_init"),
    "order.disk": ("size_bytes", "image", "storage"), "order.cloud_init": ("hostname", "ssh_keys", "user_data", "user"),
}
_LISTS = {"nics": NIC_FIELDS, "nics.shared": SHARED_FIELDS, "order.nics": ("mac", "bridge", "vlan", "subnets", "gateways")}
FIELDS = ("id", "customer", "account_type", "location", "node", "nodes", "pool", "guest", "nics", "plan",
          "addons", "uses", "policy", "liable", "order", "contact", "terminated_on")
_TOP = ("format", "services", "fields", "prefixes", "images", "nodes", "pools", "generated_at")


class Mapping:
    """A mapping file's content, its expressions compiled.

    :param data: the mapping: `services` (expression of the list), `fields`, and optionally `prefixes`,
        `nodes`, `pools` and `generated_at`, each as plain data or as an expression of the whole export
    :param source: how messages name it
    :raises CatalogueError: jmespath missing, unknown keys, expressions that do not compile
    """

    def __init__(self, data, source):
        if jmespath is None:
            raise CatalogueError("a mapping needs the Python library jmespath on the controller.",
                                 target=source,
                                 remedy="Install it for the Python that runs Ansible: pip install jmespath")
        self.source = source
        self._problems = []
        if not isinstance(data, dict):
            raise CatalogueError(f"{source}: a mapping file is a mapping, found {described(data)}.",
                                 target=source, remedy="See docs/services.md for its keys.")
        self._only(data, _TOP, "")
        if data.get("format", 1) != 1:
            self._problems.append(f"format: only 1 is read, found {described(data['format'])}")
        self.expressions = {}
        self._services = self._compiled(data.get("services", "@"), "services")
        self._top = {}
        for name in ("prefixes", "images", "nodes", "pools", "generated_at"):
            value = data.get(name)
            if isinstance(value, str) and not (name == "generated_at" and value[:1].isdigit()):
                self._top[name] = self._compiled(value, name)
            elif value is not None:
                self._top[name] = (value,)
        fields = data.get("fields")
        if not isinstance(fields, dict):
            self._problems.append(
                f"fields: a mapping of field to expression is expected, found {described(fields)}")
            fields = {}
        self._fields = self._group(fields, FIELDS, "")
        if self._problems:
            raise CatalogueError(f"{source}: {'; '.join(self._problems)}.", target=source,
                                 remedy="Correct the mapping; docs/services.md describes it.")
        self._options = jmespath.Options(custom_functions=_Functions())

    def apply(self, export, source):
        """The top-level data the mapping gives, and the list of raw services.

        :returns: `(top, services)`: a dict of prefixes, nodes, pools, generated_at as far as given; a list of
            dicts or, for an entry whose expressions failed, of texts that say why
        :raises CatalogueError: when the list of services is none
        """
        rows = export
        if isinstance(export, list):
            # JMESPath takes rows of a CSV file, a kind of dict, for nothing it knows.
            rows = [dict(row) if isinstance(row, dict) else row for row in export]
        top = {}
        for name, value in self._top.items():
            if isinstance(value, tuple):
                top[name] = value[0]
                continue
            found, problem = self._evaluate(value, rows)
            if problem or found is None:
                raise CatalogueError(
                    f"{source}: {name}: expression {value.expression!r} {problem or 'gave null'}.",
                    target=source, remedy=f"Correct {name} in {self.source}.")
            top[name] = found
        services, problem = self._evaluate(self._services, rows)
        if problem or not isinstance(services, list):
            raise CatalogueError(
                f"{source}: services: expression {self._services.expression!r} "
                f"{problem or 'gave ' + described(services) + ', a list is expected'}.", target=source,
                remedy=f"Correct services in {self.source}.")
        return top, [self._entry(row) for row in services]

    def _entry(self, row):
        problems = []
        entry = self._mapped(self._fields, row, "", problems)
        return entry, problems

    def _mapped(self, fields, row, path, problems):
        entry = {}
        for name, wanted in fields.items():
            here = path + name
            if isinstance(wanted, dict):
                group = wanted.get("each")
                if group is None:
                    value = self._mapped(wanted, row, here + ".", problems)
                    # A panel that knows nothing of it has no liable party, not an empty one.
                    if all(part is None for part in value.values()):
                        value = None
                else:
                    value = self._listed(group, wanted, row, here, problems)
            else:
                value, problem = self._evaluate(wanted, row)
                if problem:
                    problems.append((here, problem))
                    value = None
            entry[name] = value
        return entry

    def _listed(self, expression, wanted, row, here, problems):
        rows, problem = self._evaluate(expression, row)
        if problem:
            problems.append((here, problem))
            return None
        if not isinstance(rows, list):
            return rows
        inner = {name: part for name, part in wanted.items() if name != "each"}
        return [self._mapped(inner, part, f"{here}[{index}].", problems) for index, part in enumerate(rows)]

    def _evaluate(self, expression, data):
        """`(value, None)`, or `(None, why not)`."""
        try:
            return expression.search(data, options=self._options), None
        except (exceptions.JMESPathError, ValueError, TypeError) as exc:
            return None, "failed: " + " ".join(str(exc).split())

    def _compiled(self, text, path):
        if not isinstance(text, str):
            self._problems.append(f"{path}: a JMESPath expression is expected, found {described(text)}")
            return None
        try:
            compiled = jmespath.compile(text)
        except (exceptions.JMESPathError, ValueError) as exc:
            self._problems.append(
                f"{path}: {text!r} is not a JMESPath expression: {str(exc).splitlines()[0]}")
            return None
        self.expressions[path] = text
        return compiled

    def _group(self, fields, names, path):
        self._only(fields, names, path)
        compiled = {}
        for name, value in fields.items():
            here = path + name
            if value is None or name not in names:
                continue
            if not isinstance(value, dict):
                compiled[name] = self._compiled(value, here)
            elif here in _LISTS:
                inner = dict(value)
                each = inner.pop("each", None)
                compiled[name] = self._group(inner, _LISTS[here], here + ".")
                compiled[name]["each"] = self._compiled(each, here + ".each")
            elif here in _GROUPS:
                compiled[name] = self._group(value, _GROUPS[here], here + ".")
            else:
                self._problems.append(f"{here}: one JMESPath expression is expected, found a mapping")
        return compiled

    def _only(self, mapping, names, path):
        for name in mapping:
            if name not in names and not (name == "each" and path.rstrip(".") in _LISTS):
                self._problems.append(f"{path}{name}: unknown key; known are {', '.join(names)}")


if jmespath is not None:
    class _Functions(functions.Functions):
        """What exports need and JMESPath lacks."""

        @functions.signature({"types": ["string", "null"]}, {"types": ["string"]})
        def _func_split(self, text, separators):
            """split(text, separators): the non-empty parts between any of these characters; null gives []."""
            if text is None:
                return []
            if not separators:
                return text.split()
            parts = re.split(f"[{re.escape(separators)}]", text)
            return [part.strip() for part in parts if part.strip()]

        @functions.signature({"types": []})
        def _func_to_string(self, value):
            """to_string(value), but null stays null: an id `null` or `vps-null` is nobody's."""
            return None if value is None else super()._func_to_string(value)

        @functions.signature({"types": ["string", "null"]})
        def _func_lower(self, text):
            """lower(text): in lower case; null stays null."""
            return None if text is None else text.lower()
