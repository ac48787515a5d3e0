# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the keeper makes a pass: at its start, at each instant, at an interval, when libvirt says that something happened.

It never waits longer than two seconds before it looks at the clock again, so that neither a clock that is
set nor a machine that was suspended makes it late. PRIVATE to the collection.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError

STEP = 2.0  # seconds
INTERVAL = 60
GATHER = 0.3  # seconds to wait for more events after one
_LONGEST_RETRY = 60
_PROMPT_RETRIES = 5  # at each step, for something that is due


class Keeper:
    """Decides when to make a pass, and makes it.

    :param node: KvmNode
    :param clock: `_clock.Clock`
    :param say: takes a line for the system's log
    :param interval: seconds between passes that nothing calls for
    """

    def __init__(self, node, clock, say, interval=INTERVAL):
        self._node, self._clock, self._say, self._interval = node, clock, say, interval
        self._mark = ()  # like no mark of a desired state
        self._instants = []
        self._handled = None
        self._next_regular = self._retry_at = self._more_at = self._nudged_at = None
        self._failures = 0  # passes since one without trouble
        self._blind = 0  # since the host could be looked at as a whole
        self._said = self._clock_said = None
        self._pass_seconds = 0.0
        self.last = None

    def nudge(self):
        """Something happened on the host: look at it soon."""
        if self._nudged_at is None:
            # Of a storm of events a pass takes in all that came while it could not have been faster anyway.
            self._nudged_at = self._clock.elapsed() + max(GATHER, 2 * self._pass_seconds)

    def _due(self, moment):
        mark = self._node.desired_mark()
        if mark != self._mark:
            self._instants = self._node.instants()
            self._mark, self._handled = mark, None
        if moment is None:
            return None
        gone = [instant for instant in self._instants if instant <= moment]
        return gone[-1] if gone and (self._handled is None or gone[-1] > self._handled) else None

    def step(self):
        """Make a pass if one is called for.

        :returns: seconds to wait at most before the next step
        """
        moment, now = self._clock.moment(), self._clock.elapsed()
        self._say_clock()
        due = self._due(moment)
        if self._retry_at is not None and now < self._retry_at and (due is None or self._blind > _PROMPT_RETRIES):
            return min(STEP, self._retry_at - now)
        called = [at for at in (self._next_regular, self._retry_at, self._more_at, self._nudged_at) if at is not None]
        if due is None and self._next_regular is not None and now < min(called):
            return self._patience(moment, now, min(called))
        if self._pass(moment, now) and due is not None:
            self._handled = due
        return self._patience(self._clock.moment(), self._clock.elapsed(), None)

    def _patience(self, moment, now, called):
        waits = [STEP] if called is None else [STEP, called - now]
        for at in (self._more_at, self._nudged_at):
            if at is not None:
                waits.append(at - now)
        if moment is not None:
            coming = [instant for instant in self._instants if instant > moment]
            if coming:
                waits.append(coming[0] - moment)
        return max(0.05, min(waits))

    def _pass(self, moment, now):
        """Whether the whole host was looked at; what of it failed is tried again by itself."""
        self._nudged_at = self._more_at = self._retry_at = None
        self._next_regular = now + self._interval
        try:
            done = self._node.keep(moment)
        except AupError as exc:
            self._blind += 1
            self._failed(now, [str(exc)])
            return False
        self._blind = 0
        self.last = done
        for entry in done["ended"] + done["began"]:
            self._say("%s %s %s of %s" % (entry["what"], entry["enforcement_id"], entry["kind"], entry["service"]))
        if done["steps"]:
            self._say("%d steps: %s" % (len(done["steps"]), "; ".join(_words(step) for step in done["steps"][:5])))
        after = self._clock.elapsed()
        self._pass_seconds = after - now
        if done["deferred"]:
            self._more_at = after + STEP
        if done["errors"]:
            self._failed(after, ["%s: %s" % (error["service"] or "node", error["message"]) for error in done["errors"]])
        else:
            self._failures, self._said = 0, None
        return True

    def _failed(self, now, lines):
        """The host is in part not as it should be: try again soon, then less often, and say each trouble once."""
        self._failures += 1
        self._retry_at = now + min(STEP * 2 ** min(self._failures - 1, 10), _LONGEST_RETRY)
        if lines != self._said:
            self._said = lines
            for line in lines[:20]:
                self._say("error: " + line)

    def _say_clock(self):
        if self._clock.state != self._clock_said:
            self._clock_said = self._clock.state
            if self._clock.state == "unsynchronised":
                self._say("the clock is not synchronised: nothing ends or begins until it is (rules and holds stay as they are)")
            else:
                self._say("the clock is %s" % self._clock.state)


def _words(step):
    why = step["why"]
    return "%s%s" % (step["service"] + ": " if step["service"] else "", "; ".join(why[:3]) if isinstance(why, list) else
                     "%s (%s)" % (step["verb"], why))
