"""How long the event loop is busy at a time, and what of it Python's garbage collector takes."""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter
from typing import Self


class Pauses:
    """Takes a turn in every round of the loop, and keeps the longest time from one to the next.

    Attributes:
        longest: Seconds, all included.
        longest_of_ours: Seconds, without those in the garbage collector.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.longest_of_ours = 0.0
        self._collecting = 0.0
        self._collector_began = 0.0
        self._last = 0.0
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        gc.callbacks.append(self._collector)
        self._last = perf_counter()
        self._turn()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        self._handle.cancel()
        gc.callbacks.remove(self._collector)

    def _turn(self) -> None:
        now = perf_counter()
        pause, self._last = now - self._last, now
        self.longest = max(self.longest, pause)
        self.longest_of_ours = max(self.longest_of_ours, pause - self._collecting)
        self._collecting = 0.0
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _collector(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collector_began = perf_counter()
        else:
            self._collecting += perf_counter() - self._collector_began
