"""Tasks that are followed, and a timetable of them that never takes long."""

from __future__ import annotations

import itertools
import math
from heapq import heappop, heappush
from typing import Any

from attrs import define, field

from .models import Video

__all__ = ["FollowedTask", "Timetable"]


@define(eq=False)
class FollowedTask:
    """One task that is followed; wait strategies see it as ``kwargs["task"]``.

    Attributes:
        id: The task.
        polls: Polls of it sent so far.
        failures: Failed polls in a row.
        video: The last snapshot, or ``None`` before the first.
    """

    id: str
    polls: int = 0
    failures: int = 0
    video: Video | None = field(default=None, repr=False)

    # For the schedule and its caller alone.
    handle: Any = field(default=None, repr=False)
    submitted_at: float | None = field(default=None, repr=False)
    last_good_at: float = field(default=0.0, repr=False)
    deadline: float = field(default=math.inf, repr=False)
    in_flight: bool = field(default=False, repr=False)
    give_up_at: float = field(default=math.inf, repr=False)
    last_poll: bool = field(default=False, repr=False)
    poll_entry: list[Any] | None = field(default=None, repr=False)
    deadline_entry: list[Any] | None = field(default=None, repr=False)


class Timetable:
    """Tasks by time, the earliest first; equal times in the order in which they came.

    A withdrawn entry stays in the heap until more than half of it is stale. Then the heap is
    drained into a new one a few entries at a time, so that no single call takes long: taking the
    last leaf off a heap leaves a heap.
    """

    __slots__ = ("_draining", "_heap", "_order", "_stale")

    def __init__(self) -> None:
        self._heap: list[list[Any]] = []
        self._draining: list[list[Any]] = []
        self._order = itertools.count()
        self._stale = 0

    def add(self, when: float, task: FollowedTask) -> list[Any]:
        """Enter a task and return the entry, to be withdrawn by."""
        entry = [when, next(self._order), task]
        heappush(self._heap, entry)
        if self._draining:
            self._drain()
        return entry

    def withdraw(self, entry: list[Any]) -> None:
        """Take an entry back that has not been popped."""
        entry[2] = None
        self._stale += 1
        if self._draining:
            self._drain()
        elif self._stale * 2 > len(self._heap):
            self._draining, self._heap = self._heap, []
            self._stale = 0

    def next(self) -> float:
        """Return the earliest time entered, or infinity."""
        heap = self._first()
        return heap[0][0] if heap else math.inf

    def pop(self, now: float) -> FollowedTask | None:
        """Take out the earliest task that is due at ``now``."""
        heap = self._first()
        if not heap or heap[0][0] > now:
            return None
        task: FollowedTask = heappop(heap)[2]
        return task

    def __len__(self) -> int:
        """How many entries are held, stale ones included."""
        return len(self._heap) + len(self._draining)

    def _first(self) -> list[list[Any]]:
        """Return the heap whose head is the earliest live entry."""
        for heap in (self._heap, self._draining):
            while heap and heap[0][2] is None:
                heappop(heap)
                if heap is self._heap:
                    self._stale -= 1
        if not self._draining or (self._heap and self._heap[0] < self._draining[0]):
            return self._heap
        return self._draining

    def _drain(self) -> None:
        for _ in range(min(8, len(self._draining))):
            entry = self._draining.pop()
            if entry[2] is not None:
                heappush(self._heap, entry)
