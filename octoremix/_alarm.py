"""A sleep that ends at a time, or as soon as somebody wakes it."""

from __future__ import annotations

import asyncio
import math

__all__ = ["Alarm"]


class Alarm:
    """Lets one coroutine sleep.

    A timer that rings early does no harm, so that one that is set already is kept where it serves:
    most sleeps are ended by somebody before their time.
    """

    __slots__ = ("_rings_at", "_sleeper", "_timer")

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._rings_at = math.inf  # kept here, since uvloop's handles can't tell it

    async def sleep_until(self, when: float) -> None:
        """Sleep until that time of the event loop's clock, until `wake`, or not at all."""
        loop = asyncio.get_running_loop()
        if when <= loop.time():
            await asyncio.sleep(0)
            return
        self._sleeper = loop.create_future()
        if when < self._rings_at:
            self.cancel()
            self._rings_at = when
            self._timer = loop.call_at(when, self._ring)
        try:
            await self._sleeper
        finally:
            self._sleeper = None

    def wake(self) -> None:
        """End the sleep, if there is one."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def wake_by(self, when: float) -> None:
        """End the sleep unless it ends by then."""
        if when < self._rings_at:
            self.wake()

    def cancel(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = None, math.inf

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        self.wake()
