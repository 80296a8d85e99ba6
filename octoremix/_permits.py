"""The pace, for those who send: the wait for a permit, and how a pause is told.

Each gets a permit of its own, and those of one kind in the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from ._alarm import Alarm
from ._pace import Line, Pace
from .models import Event

__all__ = ["query_permit", "submit_permit", "tell_pause"]

log = logging.getLogger("octoremix")


async def submit_permit(pace: Pace) -> None:
    """Wait until a submit may start; it counts as started when this returns."""
    await _permit(pace.submits, pace.submit_at, pace.submit_started)


async def query_permit(pace: Pace) -> None:
    """Wait until a query may start; it counts as started when this returns."""
    await _permit(pace.queries, pace.query_at, pace.query_started)


async def _permit(
    line: Line, opens_at: Callable[[float], float], started: Callable[[float], None]
) -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm()
    line.join(alarm)
    try:
        # Asked anew each time: another 429 may have come, or another kind taken the permit.
        while (now := loop.time()) < (when := opens_at(now) if line.first is alarm else math.inf):
            await alarm.sleep_until(when)
        started(now)
    finally:  # also where this is cancelled: nobody may stay behind a place that was given up
        alarm.cancel()
        line.leave(alarm)
        if line.first is not None:
            line.first.wake()


def tell_pause(whose: str, pause: float | None, notify: Callable[[Event], None] | None) -> None:
    """Log that a pause begins, and tell the observer.

    Args:
        whose: What pauses.
        pause: Its length in seconds, or ``None`` where it is one that was told already.
        notify: The observer, or ``None``.
    """
    if pause is None:
        return
    log.info("%s pause for %.1f s after a 429", whose, pause)
    if notify is not None:
        notify(Event(kind="cool_down", delay=pause))
