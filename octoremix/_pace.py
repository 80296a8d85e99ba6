"""When the session may send: the cool-down after a 429, for polls and for submits.

Pure like the schedule: `now` is a parameter, in the seconds of the same clock.
"""

from __future__ import annotations

import math

from attrs import define

from .policies import LONGEST_RETRY_AFTER

__all__ = ["Pace"]

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
LONGEST_SPREAD = 10.0


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


class Pace:
    """Permits for a session's requests.

    Polls have to pass one gate and submits both: a poll's 429 pauses all, a submit's 429 only
    submits, and each gate's pause doubles by its own answers. After a pause the polls that fell
    overdue start one by one, spread over as long as the pause was, at most 10 s.
    """

    def __init__(self) -> None:
        self._polls = _Gate()
        self._submits = _Gate()
        self._spread_until = -math.inf
        self._next_start = -math.inf
        self._spacing: float | None = None

    def poll_at(self, now: float) -> float:
        """Return when the next poll may start; not after ``now`` means at once."""
        if now < self._polls.opens_at:
            return self._polls.opens_at
        return self._next_start if now < self._spread_until else now

    def poll_started(self, now: float, followed: int) -> None:
        """Note a poll that starts now, while so many tasks are followed."""
        if now < self._spread_until:
            if self._spacing is None:  # the first after the pause: all that are followed may be due
                self._spacing = (self._spread_until - self._polls.opens_at) / followed
            self._next_start = min(now + self._spacing, self._spread_until)

    def submit_at(self, now: float) -> float:
        """Return when the next submit may start; not after ``now`` means at once."""
        return max(now, self._submits.opens_at, self._polls.opens_at)

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
