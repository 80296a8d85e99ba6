"""What a batch would do: which of its lines are to be paid for, and how long that takes."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import frozen

from .. import JournalEntry
from ._input import Line
from ._text import human_duration, jobs_of

__all__ = ["MOST_IN_DOUBT", "Plan", "described", "plan"]

MOST_IN_DOUBT = 5
"""Jobs in doubt, beyond which nothing more is bought."""

GUESS = 180.0
"""Seconds that a job is taken to need where the folder has none that is done."""

_POLL = 20.0
"""Seconds between two queries of a job, roughly."""

_OVER = frozenset({"completed", "downloaded"})
_BAD = frozenset({"failed", "cancelled", "expired", "abandoned"})


@frozen(kw_only=True)
class Plan:
    """What a batch would do.

    Attributes:
        lines: How many jobs the input has.
        done: Jobs that have their video; those that are not downloaded yet will be.
        under_way: Jobs that were submitted, and are followed on.
        sending: Jobs that were being submitted: by a process that lives, or one that was killed.
        interrupted: Jobs of which nobody knows whether they were bought, since a run was killed.
        in_doubt: Jobs of which nobody knows whether they were bought, after an unclear answer.
        bad: Jobs that ended badly and are left so.
        again: Jobs that ended badly and are bought again.
        fresh: Jobs that were never bought.
        paid: How often jobs of the input were bought before, or may have been.
        gone: Jobs of the folder that the input no longer has: removed lines, or edited ones.
        seconds: How long a job took in this folder, or `GUESS`.
        guessed: Whether that is a guess.
    """

    lines: int
    done: int = 0
    under_way: int = 0
    sending: int = 0
    interrupted: int = 0
    in_doubt: int = 0
    bad: int = 0
    again: int = 0
    fresh: int = 0
    paid: int = 0
    gone: int = 0
    seconds: float = GUESS
    guessed: bool = True

    @property
    def blocked(self) -> bool:
        """Whether nothing is bought, since too many answers were unclear: the next might be too."""
        return self.in_doubt > MOST_IN_DOUBT

    def to_pay(self, max_jobs: int | None) -> int:
        """Return how many jobs would be paid for, if those of earlier runs count too."""
        wanted = 0 if self.blocked else self.fresh + self.again
        if max_jobs is None:
            return wanted
        return max(0, min(wanted, max_jobs - self.paid))

    def duration(self, jobs: int, concurrency: int, rate: float | None) -> float:
        """Return how many seconds so many jobs would take, roughly."""
        waves = math.ceil(jobs / concurrency) * self.seconds
        # Each job takes its submit and its queries.
        requests = jobs * (1 + self.seconds / _POLL)
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
    paid = 0
    for request in requests:
        entry = known.pop(str(request.key), None)
        counts[_place(entry, retry_failed=retry_failed)] += 1
        paid += 0 if entry is None else entry.purchases
    took = [
        (entry.settled_at - entry.submitted_at).total_seconds()
        for entry in journal
        if entry.status in _OVER and entry.settled_at and entry.submitted_at
    ]
    return Plan(
        lines=len(requests),
        paid=paid,
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
    if entry.status in _BAD:
        return "again" if retry_failed else "bad"
    if entry.interrupted:
        return "interrupted"
    return {"submitted": "under_way", "intent": "sending"}.get(entry.status, "in_doubt")


def described(planned: Plan, folder: str, jobs: int, seconds: float) -> list[str]:
    """Return what a batch would do, in lines that fit a terminal.

    Args:
        planned: What.
        folder: Where, as it is shown.
        jobs: How many jobs would be paid for.
        seconds: How long it would take.
    """
    told = [f"{jobs_of(planned.lines)} in the input, for the folder {folder}"]
    rows = [
        (planned.done, "done already"),
        (planned.under_way, "under way already: followed"),
        (planned.sending, "were just being bought: in doubt if that run was killed"),
        (planned.interrupted, "in doubt since a run was killed: not sent again"),
        (planned.in_doubt, "in doubt: perhaps paid for, and not sent again"),
        (planned.bad, "ended badly: --retry-failed buys them again"),
        (planned.again, "ended badly: bought again"),
        (planned.fresh, "new"),
    ]
    told += [f"  {count:>7,}  {what}" for count, what in rows if count]
    if planned.gone:
        told.append(
            f"{jobs_of(planned.gone)} of the folder not in the input any more: of lines that were"
        )
        told.append("  removed, or edited: an edited line is a new job")
    if planned.blocked:
        told.append(
            f"more than {MOST_IN_DOUBT} are in doubt: settle them before anything is bought"
        )
    told.append(f"to be paid for: {jobs_of(jobs)}")
    if seconds:
        per_job = human_duration(planned.seconds)
        why = f"if a job takes {per_job}" if planned.guessed else f"as a job takes {per_job} here"
        told.append(f"it takes about {human_duration(seconds)}, {why}")
    return told
