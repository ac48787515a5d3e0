# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls on what traffic looks like: `irc_server`, `bittorrent`, `reflection`, `new_connections`. Pure. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._controls._terms import Terms
from ansible_collections.hosting.aup.plugins.module_utils._fold import rate_bps


def profile(options):
    """The name of a set of options: equal for equal ones."""
    return digest(options)[:12]


def settings(policies, name):
    """All settings of a control that the policies can come to, by location and account type, switched off ones left out."""
    for policy in policies.values():
        for location in sorted(policy.locations):
            found = [policy.control(name, location, account_type) for account_type in sorted(policy.account_types)]
            for setting in found + [policy.unknown_port(name, location)]:
                if setting.mode != "off":
                    yield setting


class ProfiledTerms(Terms):
    """Options are sent once for the node; each service names its own by profile.

    The profiles are all that the policies can come to, so that what is in the rules changes with the release only.
    """

    binds_unknown = True

    def profile_options(self, options):
        """What the node needs of the policy's options; plain data."""
        raise NotImplementedError

    def options(self, service, decision):
        """The profile's name."""
        return {"profile": profile(self.profile_options(decision.options))}

    def parameters(self, policies, snapshot, node, now):
        """`profiles`: options by name."""
        found = [self.profile_options(setting.options) for setting in settings(policies, self.name)]
        return {"profiles": {profile(options): options for options in found}}


class IrcServer(ProfiledTerms):
    """Links between servers are refused where enforced; listeners only where the policy says so."""

    name = "irc_server"

    def profile_options(self, options):
        """As the policy has them."""
        return {key: options[key] for key in ("clients_allowed", "listeners_refused", "ports")}


class BitTorrent(Terms):
    """Has no options."""

    name = "bittorrent"
    binds_unknown = True


class Reflection(ProfiledTerms):
    """The rate in bytes, as nft wants it."""

    name = "reflection"

    def profile_options(self, options):
        """A limited port is not refused as well."""
        limited = sorted(options["limited_ports"])
        return {"limited_ports": limited, "limited_bytes": rate_bps(options["limited_rate"]) // 8,
                "ports": sorted(set(options["ports"]) - set(limited))}


class NewConnections(ProfiledTerms):
    """Limits a minute."""

    name = "new_connections"

    def profile_options(self, options):
        """As the policy has them."""
        return {key: options[key] for key in ("per_minute", "destinations_per_minute", "mail_per_minute")}
