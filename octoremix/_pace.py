"""When the session may send: the cool-down after a 429, and a limit on the rate.

Pure like the schedule: `now` is a parameter, in the seconds of the same clock. A permit is never
given ahead of its time: who asks is told when to ask again, so none is lost with its holder.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from attrs import define

from .policies import LONGEST_RETRY_AFTER

__all__ = ["Line", "Pace"]

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
LONGEST_SPREAD = 10.0

IN_A_ROW = 3
"""How many permits of a limited rate submits take in a row while anything else waits for one."""

LONGEST_SLACK = 0.05
"""Seconds that a start may be late without the next one being late too, at most."""


@define(eq=False)
class _Gate:
    """Closed for a while when a request was refused with 429.

    Attributes:
        opens_at: Requests sent from then on are the first after the pause.
        pause: The length of the last pause in seconds, 0 after a good answer.
    """

    opens_at: float = -math.inf
    pause: float = 0.0

    def refused(self, sent_at: float, now: float, retry_after: float | None) -> bool:
        """Close, unless the refused request was sent before the present pause."""
        if sent_at < self.opens_at:
            return False
        pause = min(2 * self.pause, LONGEST_PAUSE) if self.pause else FIRST_PAUSE
        if retry_after is not None:
            asked = min(retry_after, LONGEST_RETRY_AFTER)
            pause = max(pause, asked) if self.pause else asked or FIRST_PAUSE
        self.pause = pause
        self.opens_at = now + pause
        return True

    def answered(self, sent_at: float) -> None:
        """Note a good answer, which ends the doubling if it is one from after the pause."""
        if sent_at >= self.opens_at:
            self.pause = 0.0


class _Limit:
    """A bucket with one permit, and a little slack for timers that ring late.

    With the slack no window of one second holds more than ``rate + 1`` starts: it is half of what
    that leaves over.

    Args:
        rate: Permits for each second.
    """

    def __init__(self, rate: float) -> None:
        self.interval = 1 / rate
        self.ready_at = -math.inf
        self._slack = min((1 - rate % 1) / 2 * self.interval, LONGEST_SLACK)

    def take(self, now: float) -> None:
        """Note a start."""
        self.ready_at = max(self.ready_at, now - self._slack) + self.interval


class Line:
    """Those who wait for a permit of one kind, in the order in which they came."""

    def __init__(self) -> None:
        self._places: OrderedDict[Any, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Line of {len(self)}>"

    def __len__(self) -> int:
        return len(self._places)

    @property
    def first(self) -> Any:
        """Whose turn comes next, or ``None``."""
        return next(iter(self._places), None)

    def join(self, place: object) -> None:
        """Take the last place."""
        self._places[place] = None

    def leave(self, place: object) -> None:
        """Give a place up, wherever it is."""
        del self._places[place]


class Pace:
    """Permits for a session's requests.

    Polls have to pass one gate and submits both: a poll's 429 pauses all, a submit's 429 only
    submits, and each gate's pause doubles by its own answers. After a pause the polls that fell
    overdue start one by one, spread over as long as the pause was, at most 10 s.

    Where the rate is limited, a permit goes to a submit first; while submits have had three in a
    row, it goes to another kind that waits. Queries, which are all that is neither submit nor poll,
    and polls take turns.

    Args:
        rate: The most requests that may start in each second, or ``None``.

    Attributes:
        submits: Those who wait to submit; `submit_at` is the answer to the first of them.
        queries: Those who wait to query; `query_at` is the answer to the first of them.
        polls_wait: Whether a poll would start if it might, as far as the poller has told.
    """

    def __init__(self, rate: float | None = None) -> None:
        self.submits = Line()
        self.queries = Line()
        self.polls_wait = False
        self._limit = None if rate is None else _Limit(rate)
        self._in_a_row = 0
        self._polled_last = True
        self._polls = _Gate()
        self._submits = _Gate()
        self._spread_until = -math.inf
        self._next_start = -math.inf
        self._spacing: float | None = None

    def poll_at(self, now: float) -> float:
        """Return when the next poll may start; not after ``now`` means at once."""
        if now < self._polls.opens_at:
            return self._polls.opens_at
        start = self._next_start if now < self._spread_until else now
        if self._limit is None:
            return start
        ready = max(start, self._limit.ready_at)
        if self._submits_first(now) or (self._polled_last and self.queries):
            return ready + self._limit.interval
        return ready

    def poll_started(self, now: float, followed: int) -> None:
        """Note a poll that starts now, while so many tasks are followed."""
        if self._limit is not None:
            self._limit.take(now)
            self._in_a_row, self._polled_last = 0, True
        if now < self._spread_until:
            if self._spacing is None:  # the first after the pause: all that are followed may be due
                self._spacing = (self._spread_until - self._polls.opens_at) / followed
            self._next_start = min(now + self._spacing, self._spread_until)

    def submit_at(self, now: float) -> float:
        """Return when the next submit may start; not after ``now`` means at once."""
        opens_at = max(now, self._submits.opens_at, self._polls.opens_at)
        if self._limit is None:
            return opens_at
        ready = self._limit.ready_at
        if self._in_a_row >= IN_A_ROW and (self.queries or self._polls_wait(now)):
            # They have this permit, or else none: the poller may have told what is no longer so.
            ready += self._limit.interval
        return max(opens_at, ready)

    def submit_started(self, now: float) -> None:
        """Note a submit that starts now."""
        if self._limit is not None:
            self._limit.take(now)
            others = self.queries or self._polls_wait(now)
            self._in_a_row = self._in_a_row + 1 if others else 0

    def query_at(self, now: float) -> float:
        """Return when the next query may start; not after ``now`` means at once."""
        if self._limit is None:
            return now
        ready = self._limit.ready_at
        if self._submits_first(now):
            return max(now, ready) + self._limit.interval
        if not self._polled_last and self._polls_wait(now):
            ready += self._limit.interval
        return max(now, ready)

    def query_started(self, now: float) -> None:
        """Note a query that starts now."""
        if self._limit is not None:
            self._limit.take(now)
            self._in_a_row, self._polled_last = 0, False

    def _submits_first(self, now: float) -> bool:
        """Whether the next permit is a submit's."""
        paused = now < max(self._submits.opens_at, self._polls.opens_at)
        return bool(self.submits) and not paused and self._in_a_row < IN_A_ROW

    def _polls_wait(self, now: float) -> bool:
        """Whether a poll would start if it had a permit."""
        # In a pause the next start is its end.
        return self.polls_wait and (now >= self._spread_until or now >= self._next_start)

    def poll_refused(self, sent_at: float, now: float, retry_after: float | None) -> float | None:
        """Note a poll's 429.

        Args:
            sent_at: When the poll was sent.
            now: The present.
            retry_after: The seconds that the answer asks to wait, or ``None``.

        Returns:
            The length of the pause that begins, or ``None`` if one was known already.
        """
        if not self._polls.refused(sent_at, now, retry_after):
            return None
        opens_at = self._polls.opens_at
        self._next_start, self._spacing = opens_at, None
        self._spread_until = opens_at + min(self._polls.pause, LONGEST_SPREAD)
        return self._polls.pause

    def submit_refused(self, sent_at: float, now: float, retry_after: float | None) -> float | None:
        """Note a submit's 429; see `poll_refused`."""
        if sent_at < self._polls.opens_at or not self._submits.refused(sent_at, now, retry_after):
            return None
        return self._submits.pause

    def poll_answered(self, sent_at: float) -> None:
        """Note a good answer to a poll sent at that time."""
        if self._polls.pause:
            self._polls.answered(sent_at)

    def submit_answered(self, sent_at: float) -> None:
        """Note a good answer to a submit sent at that time."""
        self._submits.answered(sent_at)

    def cool_down(self, now: float) -> float:
        """Return the seconds until polls may start again, or 0."""
        return max(0.0, self._polls.opens_at - now)
