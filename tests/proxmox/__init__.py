# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a Proxmox VE cluster's API over real HTTPS, as faithful as our decisions need.

`schema.json` holds the names, types and limits of the parameters of the calls we use (product version 9.1); `observed.jsonl`
what the real API code answered to real requests, which the conformance test sends again. `server.py` speaks HTTP,
`schema.py` judges parameters, `cluster.py` has the guests and their tasks, `firewall.py` the rule files.
"""
