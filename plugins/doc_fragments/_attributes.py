# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: do not use this fragment in other collections, it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    """Attributes that every module states.

    A module that changes something adds `support: full|partial|none` for `check_mode` and `diff_mode` under its
    own `attributes`; one that only reads extends `hosting.aup._attributes.info` as well.
    """

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  action_group:
    description: Use C(group/hosting.aup.aup) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - hosting.aup.aup
"""

    # For modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
"""

    # For modules that document an action plugin and run on the controller.
    ACTION = r"""
options: {}
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
"""
