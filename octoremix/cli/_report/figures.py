"""The numbers behind the page: counts, times, and what the charts draw."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from attrs import frozen

from .jobs import ReportJob

__all__ = ["GROUPS", "Bins", "Flow", "Summary", "bins_of", "flow_of", "nice_step", "summary_of"]

GROUPS = {
    "done": "Done",
    "failed": "Failed",
    "doubt": "In doubt",
    "running": "Running",
    "unsent": "Not sent",
}
"""What a job counts as, and the word for it."""

MOST_POINTS = 160
MOST_BINS = 24

_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_DAY = 86400


@frozen(kw_only=True)
class Summary:
    """A batch at a glance; times in seconds.

    Attributes:
        total: How many jobs there are.
        counts: How many of each group.
        begin: When the first was accepted, or ``None``.
        end: When the last thing happened, or ``None``.
        median: How long a job that is done took in the middle, or ``None``.
        longest: How long at most, or ``None``.
    """

    total: int
    counts: dict[str, int]
    begin: datetime | None
    end: datetime | None
    median: float | None
    longest: float | None

    @property
    def seconds(self) -> float | None:
        """How long the batch took."""
        if self.begin is None or self.end is None:
            return None
        return (self.end - self.begin).total_seconds()


@frozen(kw_only=True)
class Flow:
    """How many jobs were how far, over time.

    Attributes:
        seconds: From the first point to the last.
        jobs: How many there are at the end.
        submitted: How many were accepted, at evenly spaced times.
        started: How many of them were seen to run, at the same times.
        ended: How many of them had come to an end, at the same times.
    """

    seconds: float
    jobs: int
    submitted: tuple[int, ...]
    started: tuple[int, ...]
    ended: tuple[int, ...]


@frozen(kw_only=True)
class Bins:
    """How long jobs took; times in seconds.

    Attributes:
        first: Where the first bin begins.
        width: How wide each is.
        counts: How many jobs each holds.
        median: The middle of them all.
    """

    first: float
    width: float
    counts: tuple[int, ...]
    median: float


def summary_of(jobs: Sequence[ReportJob]) -> Summary:
    """Count a batch's jobs and times."""
    counts = Counter(job.group for job in jobs)
    times = [time for job in jobs for time in (job.submitted_at, job.started_at, job.done_at)]
    known = [time for time in times if time is not None]
    took = _times_of_done(jobs)
    return Summary(
        total=len(jobs),
        counts={group: counts[group] for group in GROUPS},
        begin=min(known, default=None),
        end=max(known, default=None),
        median=_middle(took) if took else None,
        longest=max(took, default=None),
    )


def _times_of_done(jobs: Iterable[ReportJob]) -> list[float]:
    return [job.seconds for job in jobs if job.group == "done" and job.seconds is not None]


def _middle(values: Iterable[float]) -> float:
    # `statistics` has it too, and takes longer to load than all of this.
    ordered = sorted(values)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2


def flow_of(jobs: Iterable[ReportJob]) -> Flow | None:
    """Return how the jobs went along, or ``None`` where no time has passed.

    A step that nobody saw is taken to have come with the next one that was seen.
    """
    submitted: list[float] = []
    started: list[float] = []
    ended: list[float] = []
    for job in jobs:
        begin = _first(job.submitted_at, job.started_at, job.done_at)
        run = _first(job.started_at, job.done_at)
        for times, time in ((submitted, begin), (started, run), (ended, job.done_at)):
            if time is not None:
                times.append(time.timestamp())
    for times in (submitted, started, ended):
        times.sort()
    first = min(submitted, default=0.0)
    seconds = max([*submitted[-1:], *started[-1:], *ended[-1:]], default=first) - first
    if seconds <= 0:
        return None
    points = [first + seconds * step / MOST_POINTS for step in range(MOST_POINTS)]
    points.append(first + seconds)
    return Flow(
        seconds=seconds,
        jobs=len(submitted),
        submitted=_reached(submitted, points),
        started=_reached(started, points),
        ended=_reached(ended, points),
    )


def _first(*times: datetime | None) -> datetime | None:
    return next((time for time in times if time is not None), None)


def _reached(times: list[float], points: list[float]) -> tuple[int, ...]:
    # A rounding error must not leave the last one out.
    return (*(bisect_right(times, point) for point in points[:-1]), len(times))


def bins_of(jobs: Iterable[ReportJob]) -> Bins | None:
    """Return how long the jobs that are done took, or ``None`` where none is."""
    took = _times_of_done(jobs)
    if not took:
        return None
    low, high = min(took), max(took)
    # Few jobs in many bins would say nothing of their shape.
    width = nice_step(high - low, min(MOST_BINS, max(6, round(2 * math.sqrt(len(took))))) - 1)
    first = math.floor(low / width)
    counts = [0] * (math.floor(high / width) - first + 1)
    for seconds in took:
        counts[math.floor(seconds / width) - first] += 1
    return Bins(first=first * width, width=width, counts=tuple(counts), median=_middle(took))


def nice_step(length: float, most: int) -> float:
    """Return a round number of seconds of which at most ``most`` go into ``length``."""
    for step in _STEPS:
        if length <= step * most:
            return float(step)
    return float(_DAY * nice_count(length / _DAY, most))


def nice_count(length: float, most: int) -> int:
    """Return 1, 2, 5, 10, 20, 50, … of which at most ``most`` go into ``length``."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if length <= step * power * most:
                return step * power
        power *= 10
