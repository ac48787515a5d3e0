# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a router without wanting anything of it: is everything understood, is anything missing. PRIVATE."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._router._platforms import PLATFORMS
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import RouterError


def check_router(platform, target, mark=None):
    """What is understood of a router, by the same reads that precede every change. Writes nothing.

    :param platform: name of the platform
    :param mark: the number that marks our routes; the platform's default without one
    :returns: `{"understood", "missing", "notes", "routes", "ours", "in_use", "protected", "error"}`
    """
    driver_class = PLATFORMS[platform]
    settings = {"platform": platform, "mark": driver_class.MARK[3] if mark is None else mark, "rtbh": None}
    said = {"understood": False, "missing": [], "notes": [], "routes": 0, "ours": [], "in_use": [], "protected": [], "error": None}
    try:
        driver = driver_class(target)
        try:
            seen = driver.observe({"settings": settings, "null_routes": [], "drops": [], "ports": []})
        finally:
            driver.close()
    except RouterError as exc:
        return dict(said, error={"code": exc.code, "message": exc.message, "remedy": exc.remedy})
    return dict(
        said, understood=True, missing=list(driver.missing), notes=list(driver.notes), routes=len(seen["routes"]),
        ours=sorted(route["prefix"] for route in seen["routes"] if route["ours"]),
        in_use=sorted(prefix for prefix, state in seen["rib"].items() if state["blackhole"]),
        protected=sorted({"%s: %s" % (entry["prefix"], entry["what"]) for entry in seen["taken"]}))
