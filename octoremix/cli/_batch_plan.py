"""What a batch would do: which of its lines are to be paid for, and how long that takes."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import frozen

from .. import JournalEntry
from ._input import Line

__all__ = ["Plan", "plan"]

GUESS = 180.0
"""Seconds that a job is taken to need where the folder has none that is done."""

_OVER = frozenset({"completed", "downloaded"})
_UNDER_WAY = frozenset({"intent", "submitted"})
_BAD = frozenset({"failed", "cancelled", "expired", "abandoned"})


@frozen(kw_only=True)
class Plan:
    """What a batch would do.

    Attributes:
        lines: How many jobs the input has.
        done: Jobs that have their video; those that are not downloaded yet will be.
        under_way: Jobs that were submitted, and are followed on.
        in_doubt: Jobs of which nobody knows whether they were bought.
        bad: Jobs that ended badly and are left so.
        again: Jobs that ended badly and are bought again.
        fresh: Jobs that were never bought.
        gone: Jobs of the folder that the input no longer has: removed lines, or edited ones.
        seconds: How long a job took in this folder, or `GUESS`.
        guessed: Whether that is a guess.
    """

    lines: int
    done: int = 0
    under_way: int = 0
    in_doubt: int = 0
    bad: int = 0
    again: int = 0
    fresh: int = 0
    gone: int = 0
    seconds: float = GUESS
    guessed: bool = True

    def to_pay(self, max_jobs: int | None) -> int:
        """Return how many jobs would be paid for, if those of earlier runs count too."""
        wanted = self.fresh + self.again
        if max_jobs is None:
            return wanted
        paid = self.lines - self.fresh
        return max(0, min(wanted, max_jobs - paid))

    def duration(self, jobs: int, concurrency: int, rate: float | None) -> float:
        """Return how many seconds so many jobs would take, roughly."""
        waves = math.ceil(jobs / concurrency) * self.seconds
        # Each job takes its submit, and a query every 20 s or so.
        requests = jobs * (1 + self.seconds / 20)
        return max(waves, requests / rate if rate else 0.0)


def plan(lines: Iterable[Line], journal: Sequence[JournalEntry], *, retry_failed: bool) -> Plan:
    """Compare an input with what its folder's journal has.

    Args:
        lines: The input.
        journal: The jobs of the same gateway.
        retry_failed: Whether what ended badly is bought again.
    """
    known = {entry.key: entry for entry in journal}
    requests = [line.request for line in lines]
    counts: Counter[str] = Counter()
    for request in requests:
        entry = known.pop(str(request.key), None)
        counts[_place(entry, retry_failed=retry_failed)] += 1
    took = [
        (entry.settled_at - entry.submitted_at).total_seconds()
        for entry in journal
        if entry.status in _OVER and entry.settled_at and entry.submitted_at
    ]
    return Plan(
        lines=len(requests),
        gone=sum(entry.status != "refused" for entry in known.values()),
        seconds=max(1.0, statistics.median(took)) if took else GUESS,
        guessed=not took,
        **counts,
    )


def _place(entry: JournalEntry | None, *, retry_failed: bool) -> str:
    if entry is None or entry.status == "refused":
        return "fresh"
    if entry.status in _OVER:
        return "done"
    if entry.status in _UNDER_WAY:
        return "under_way"
    if entry.status in _BAD:
        return "again" if retry_failed else "bad"
    return "in_doubt"
