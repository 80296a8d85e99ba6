"""Tasks that are followed, and a timetable of them that never takes long."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    from ._wire import Reading
    from .models import Video

__all__ = ["FollowedTask", "Timetable"]

_Entry = tuple[float, int, str]


@define(eq=False)
class FollowedTask:
    """One task that is followed; wait strategies see it as ``kwargs["task"]``.

    Attributes:
        id: The task.
        polls: Polls of it sent so far.
        failures: Failed polls in a row.
    """

    id: str
    polls: int = 0
    failures: int = 0

    # For the schedule and its caller alone.
    reading: Reading | None = field(default=None, repr=False)
    handle: Any = field(default=None, repr=False)
    submitted_at: float | None = field(default=None, repr=False)
    last_good_at: float = field(default=0.0, repr=False)
    changed_at: float = field(default=0.0, repr=False)
    looked: bool = field(default=False, repr=False)
    stall_seen: bool = field(default=False, repr=False)
    deadline: float = field(default=math.inf, repr=False)
    in_flight: bool = field(default=False, repr=False)
    give_up_at: float = field(default=math.inf, repr=False)
    last_poll: bool = field(default=False, repr=False)
    poll_number: int | None = field(default=None, repr=False)
    deadline_number: int | None = field(default=None, repr=False)

    @property
    def video(self) -> Video | None:
        """The last snapshot, or ``None`` before the first."""
        return None if self.reading is None else self.reading.video


class Timetable:
    """Ids by time, the earliest first; equal times in the order in which they came.

    A withdrawn entry stays in the heap until more than half of it is stale. Then the heap is
    drained into a new one a few entries at a time, so that no single call takes long: taking the
    last leaf off a heap leaves a heap.

    Entries are tuples of plain values, which the garbage collector does not follow: with a hundred
    thousand tasks its full passes would be felt in the event loop.

    Args:
        is_live: Tells by its number and id whether an entry has not been withdrawn.
    """

    __slots__ = ("_draining", "_heap", "_is_live", "_numbers", "_stale")

    def __init__(self, is_live: Callable[[int, str], bool]) -> None:
        self._heap: list[_Entry] = []
        self._draining: list[_Entry] = []
        self._numbers = itertools.count()
        self._stale = 0
        self._is_live = is_live

    def __len__(self) -> int:
        """How many entries are held, stale ones included."""
        return len(self._heap) + len(self._draining)

    def add(self, when: float, task_id: str) -> int:
        """Enter an id and return the entry's number."""
        number = next(self._numbers)
        heappush(self._heap, (when, number, task_id))
        if self._draining:
            self._drain()
        return number

    def withdrawn(self) -> None:
        """Note that an entry that has not been popped is no longer live."""
        self._stale += 1
        self._compact()

    def next(self) -> float:
        """Return the earliest time entered, or infinity."""
        heap = self._first()
        return heap[0][0] if heap else math.inf

    def pop(self, now: float) -> str | None:
        """Take out the earliest id that is due at ``now``."""
        heap = self._first()
        if not heap or heap[0][0] > now:
            return None
        task_id = heappop(heap)[2]
        self._compact()  # what is left may be mostly stale now
        return task_id

    def _first(self) -> list[_Entry]:
        """Return the heap whose head is the earliest live entry."""
        for heap in (self._heap, self._draining):
            while heap and not self._is_live(heap[0][1], heap[0][2]):
                heappop(heap)
                self._stale -= 1
        if not self._draining or (self._heap and self._heap[0] < self._draining[0]):
            return self._heap
        return self._draining

    def _compact(self) -> None:
        if self._draining:
            self._drain()
        elif self._stale * 2 > len(self._heap):
            self._draining, self._heap = self._heap, []

    def _drain(self) -> None:
        for _ in range(min(8, len(self._draining))):
            entry = self._draining.pop()
            if self._is_live(entry[1], entry[2]):
                heappush(self._heap, entry)
            else:
                self._stale -= 1
