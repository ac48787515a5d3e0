# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the vendors' platforms share: the imitations by platform, and a provider with one of them."""
from __future__ import annotations

import contextlib
import re

from tests.integration.routers.devices.eos import Eos
from tests.integration.routers.devices.iosxe import IosXe
from tests.integration.routers.devices.junos import Junos
from tests.integration.routers.devices.routeros import RouterOs
from tests.integration.routers.devices.vyos import Vyos
from tests.integration.routers.provider import Provider

DEVICES = {device.platform: device for device in (Eos, IosXe, Junos, RouterOs, Vyos)}
HOSTS = {"203.0.113.10/32": [("drop", 41666)], "2001:db8:100::10/128": [("drop", 41666)]}
TAG = 41666


def target_of(device, **changed):
    return {"host": "127.0.0.1", "port": device.port, "user": "aup", "password": "secret-of-the-test",
            "known_hosts": str(device.known_hosts), "timeout": 30, **changed}


def router_of(device, **changed):
    return {"platform": device.platform, "mark": TAG, "max_null_routes": 10, "save": "always", "protected": [], "rtbh": None,
            **changed}


def golden(lines):
    return [re.sub(r"aup-[0-9a-f]{8}", "aup-X", line) for line in lines]


@contextlib.contextmanager
def provided(device, folder, **changed):
    """A provider whose one router is this device, provisioned.

    :param changed: of the catalogue's section of the router
    """
    with Provider(folder, target_of(device), router_of(device, **changed)) as made:
        made.provision()
        device.lines.clear()
        yield made
