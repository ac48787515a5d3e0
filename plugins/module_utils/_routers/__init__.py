# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a router is to carry, and what to change to get there. Pure: no I/O, no clock. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._routers._desired import (
    ACTS_ON_ROUTERS,
    FORMAT,
    carries,
    concerns,
    reasons,
    resolve_router,
    retired_router,
    routers_of,
)
from ansible_collections.hosting.aup.plugins.module_utils._routers._drops import DROP_PLATFORMS, HANDLE
from ansible_collections.hosting.aup.plugins.module_utils._routers._plan import gaps, outcomes, plan, settles
from ansible_collections.hosting.aup.plugins.module_utils._routers._ports import (
    ACTS_ON_PORTS,
    PORT_PLATFORMS,
    collapsed,
    is_dedicated,
)

__all__ = ("ACTS_ON_PORTS", "ACTS_ON_ROUTERS", "DROP_PLATFORMS", "FORMAT", "HANDLE", "PORT_PLATFORMS", "carries",
           "collapsed", "concerns", "gaps", "is_dedicated", "outcomes", "plan", "reasons", "resolve_router",
           "retired_router", "routers_of", "settles")
