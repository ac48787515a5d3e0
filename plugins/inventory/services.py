# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: services
short_description: Nodes and groups from the catalogue of services
version_added: 1.0.0
author:
  - hosting.aup contributors (@hosting-aup)
description:
  - Reads the same catalogue that the playbooks of this collection read, checks all of it, and makes its nodes
    the hosts of the inventory.
  - Services do not become hosts. Thousands of them as hosts or variables would make every play slow; the
    playbooks read them from the catalogue themselves.
  - The groups C(aup_kvm_nodes), C(aup_proxmox_clusters) and C(aup_routers) always exist. There is a group
    C(aup_location_NAME) for each location and C(aup_pool_NAME) for each migration pool, with every character
    that a group name can't hold replaced by C(_).
  - Nodes of a Proxmox VE cluster that the catalogue names (C(hosts) under C(proxmox)) are in C(aup_proxmox_hosts), which always
    exists, with C(aup_proxmox_cluster).
  - Each node gets C(aup_location), C(aup_uplinks), C(aup_bridges), C(aup_routed_interfaces), C(aup_pool),
    C(aup_backend), the catalogue's own variables of that node and, where the catalogue gives an address,
    C(ansible_host). The group C(all) gets C(aup_catalogue), and if they are configured
    C(aup_mapping), C(aup_policy) and C(aup_ledger_url).
  - With O(clusters), the guests of Proxmox VE clusters are read over the API. The host of a cluster then has C(aup_guests), a list
    of all of them with the service each belongs to, and C(aup_services_to_fill_in), an entry for the catalogue of each that
    belongs to none.
  - What comes from the catalogue is text. A template in it is never evaluated.
extends_documentation_fragment:
  - constructed
requirements:
  - jmespath (for O(mapping))
  - proxmoxer 2 and requests (for O(clusters))
options:
  plugin:
    description: Names this plugin, so that Ansible reads the file with it.
    type: str
    required: true
    choices:
      - hosting.aup.services
  catalogue:
    description:
      - The catalogue, a YAML, JSON or CSV file; relative to the directory of this configuration file.
    type: str
    required: true
  mapping:
    description:
      - For a panel's export as O(catalogue), how to map it. Either the path of a mapping file, relative to
        the directory of this configuration file, or the mapping itself.
      - Not needed where O(catalogue) is a file that names export and mapping under C(services_from).
    type: raw
  policy:
    description:
      - The policy of this provider, as C(aup_policy). The name of a shipped policy or the path of a file,
        relative to the directory of this configuration file; what ends in C(.yml) or C(.yaml) or has a C(/)
        in it is a path.
      - A list names several, such as the version in force and the one to come; the first is the default policy.
    type: raw
  ledger_url:
    description:
      - Where the ledger is, as C(aup_ledger_url). Better without a password, see docs/security.md.
      - C(sqlite:///ledger.db) is a file in the directory of this configuration file.
    type: str
  connection_defaults:
    description:
      - Variables for every node, such as C(ansible_user). The variables of a node in the catalogue win.
    type: dict
    default: {}
  clusters:
    description:
      - Proxmox VE clusters whose guests are to be read, by their name in the catalogue.
      - Each has C(user) (with realm), C(token_id), one of C(ca_file) and C(fingerprint), and if need be C(port) and C(timeout).
      - The token's secret is read from the environment variable that C(secret_env) names, by default
        E(AUP_PROXMOX_TOKEN_SECRET), or from the file C(secret_file). It is never an option itself.
      - C(skeleton=false) leaves C(aup_services_to_fill_in) empty, which saves one call for each guest of no service.
      - A cluster that can't be read gives a warning; the inventory is complete without it.
    type: dict
    default: {}
seealso:
  - plugin: ansible.builtin.constructed
    plugin_type: inventory
"""

EXAMPLES = r"""
# hosts.aup.yml: the name must end in .aup.yml or .aup.yaml
plugin: hosting.aup.services
catalogue: catalogue.yml
policy: policies/provider.yml
ledger_url: sqlite:////var/lib/aup/ledger.db
connection_defaults:
  ansible_user: aup
  ansible_become: true

# Which guests of a cluster are nobody's service yet? ansible -i hosts.aup.yml pve -m debug -a var=aup_services_to_fill_in
---
plugin: hosting.aup.services
catalogue: catalogue.yml
clusters:
  pve:
    user: aup@pve
    token_id: controller
    ca_file: pve-root-ca.pem

# A panel's export and its mapping, with a group of the nodes of each country.
---
plugin: hosting.aup.services
catalogue: panel-export.json
mapping: mapping.yml
policy: default
keyed_groups:
  - key: aup_location[:2]
    prefix: country
"""

import os
import re

from ansible import template
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue

if hasattr(template, "trust_as_template"):
    # Variables are text unless they are marked as templates (ansible-core 2.19 and newer).
    wrap_var = None
else:
    # Before, every variable was a template unless it was marked as text.
    from ansible.utils.unsafe_proxy import wrap_var

CLUSTER_HOSTS = "aup_proxmox_hosts"
BACKEND_GROUPS = {"kvm": "aup_kvm_nodes", "proxmox": "aup_proxmox_clusters", "router": "aup_routers"}


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Hosts are the catalogue's nodes."""

    NAME = "hosting.aup.services"

    def verify_file(self, path):
        """Whether the file's name is one of ours."""
        return super().verify_file(path) and path.endswith((".aup.yml", ".aup.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Fill the inventory from the catalogue that the configuration file `path` names."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        folder = os.path.dirname(os.path.abspath(path))
        catalogue = _beside(folder, self.get_option("catalogue"))
        mapping = self.get_option("mapping")
        if isinstance(mapping, str):
            mapping = _beside(folder, mapping)
        ledger_url = self.get_option("ledger_url")
        if ledger_url is not None:
            ledger_url = _ledger_url(folder, ledger_url)
        try:
            document = load_catalogue(catalogue, mapping)
        except AupError as exc:
            document = released_catalogue(ledger_url)
            if document is None:
                # Without the cause: Ansible would print the same text a second time.
                raise AnsibleParserError(str(exc)) from None
            self.display.warning("%s Until then the nodes are those of the present release in the ledger; "
                                 "provision refuses the catalogue, all other runbooks go on." % exc)
        try:
            names = group_names(document["nodes"])
        except AupError as exc:
            raise AnsibleParserError(str(exc)) from None

        self._set("all", "aup_catalogue", catalogue)
        if mapping is not None:
            self._set("all", "aup_mapping", mapping)
        policy = self.get_option("policy")
        if policy is not None:
            self._set("all", "aup_policy", _policies(folder, policy))
        if ledger_url is not None:
            self.inventory.set_variable("all", "aup_ledger_url", ledger_url)
        for group in (*BACKEND_GROUPS.values(), CLUSTER_HOSTS, *sorted(names)):
            self.inventory.add_group(group)
        for name, node in document["nodes"].items():
            self._add_node(name, node)
        for group, members in names.items():
            for name in members:
                self.inventory.add_host(name, group=group)
        self._read_clusters(document, folder)
        self._construct(document["nodes"])

    def _read_clusters(self, document, folder):
        """Say what lives on the clusters that are to be read."""
        for name, settings in sorted(self.get_option("clusters").items()):
            node = document["nodes"].get(name)
            if node is None or node["backend"] != "proxmox":
                raise AnsibleParserError(f"clusters: {name!r} is no Proxmox VE cluster of the catalogue.")
            from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _discover

            try:
                client = _discover.client_of(name, node["address"], settings, folder, os.environ)
                guests, to_fill_in = _discover.guests_of(client, name, document["services"], settings.get("skeleton", True))
            except AupError as exc:
                self.display.warning(f"the guests of cluster {name} were not read: {exc}")
                continue
            self._set(name, "aup_guests", guests)
            self._set(name, "aup_services_to_fill_in", to_fill_in)

    def _add_node(self, name, node):
        self.inventory.add_host(name, group=BACKEND_GROUPS[node["backend"]])
        for key, value in self.get_option("connection_defaults").items():
            self.inventory.set_variable(name, key, value)
        for key in ("backend", "location", "pool", "uplinks", "bridges", "routed_interfaces"):
            if node[key] is not None:
                self._set(name, f"aup_{key}", node[key])
        if node["address"] is not None:
            self._set(name, "ansible_host", node["address"])
        for key, value in node["vars"].items():
            self._set(name, key, value)
        for host, address in ((node.get("proxmox") or {}).get("hosts") or {}).items():
            self.inventory.add_host(host, group=CLUSTER_HOSTS)
            for key, value in self.get_option("connection_defaults").items():
                self.inventory.set_variable(host, key, value)
            self._set(host, "ansible_host", address)
            self._set(host, "aup_proxmox_cluster", name)

    def _construct(self, nodes):
        strict = self.get_option("strict")
        for name in nodes:
            variables = self.inventory.get_host(name).get_vars()
            self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
            variables = self.inventory.get_host(name).get_vars()
            self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)

    def _set(self, entity, key, value):
        """Set a variable that is data, whatever it looks like."""
        self.inventory.set_variable(entity, key, value if wrap_var is None else wrap_var(value))


def released_catalogue(ledger_url):
    """The catalogue of the newest release, or None: a broken export must keep nobody from suspending or lifting."""
    if ledger_url is None:
        return None
    try:
        from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger

        with open_ledger(ledger_url, check=True) as ledger, ledger.read() as tx:
            return tx.snapshot(None, "newest")["catalogue"] or None
    except (AupError, ImportError):
        return None


def _beside(folder, path):
    """A path of the configuration file, absolute."""
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def _policies(folder, given):
    """The policy or policies of the configuration file: names as they are, paths absolute."""
    named = given if isinstance(given, list) else [given]
    if not named or not all(isinstance(one, str) and one for one in named):
        raise AnsibleParserError(f"policy {given!r} is neither a policy's name or file nor a list of them.")
    found = [_beside(folder, one) if "/" in one or one.endswith((".yml", ".yaml")) else one for one in named]
    return found if isinstance(given, list) else found[0]


def _ledger_url(folder, url):
    """The URL; an SQLite file named by a relative path lies beside the configuration file."""
    scheme, slashes, rest = url.partition(":///")
    if slashes and scheme.startswith("sqlite") and rest and rest[0] not in "/:{":
        return f"{scheme}:///{_beside(folder, rest)}"
    return url


def group_names(nodes):
    """The location and pool groups: group name to its nodes.

    :raises AupError: when two locations or two pools would share one group
    """
    groups, origin = {}, {}
    for name, node in nodes.items():
        for kind in ("location", "pool"):
            value = node[kind]
            if value is None:
                continue
            group = f"aup_{kind}_" + re.sub(r"[^A-Za-z0-9_]", "_", value)
            if origin.setdefault(group, value) != value:
                raise AupError(
                    f"the {kind}s '{origin[group]}' and '{value}' would both be the group {group}.",
                    target=group, remedy="Rename one of them in the catalogue.")
            groups.setdefault(group, []).append(name)
    return groups
