"""A job and what is to be seen of it at a given time.

Nothing runs while a job waits: what a query answers is a function of the job and the time,
so that a hundred thousand of them cost no more than their memory.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Literal

from attrs import define, frozen

Outcome = Literal["completed", "failed", "cancelled"]
"""How a job ends."""


class Phase(enum.Enum):
    """How far a job is; the value is the gateway's internal name (new-api ``model/task.go``)."""

    QUEUED = "QUEUED"
    PROCESSING = "IN_PROGRESS"
    COMPLETED = "SUCCESS"
    FAILED = "FAILURE"
    # The gateway knows no such state of its own; only the upstream's word differs.
    CANCELLED = "FAILURE (cancelled)"


OUTCOMES: dict[Outcome, Phase] = {
    "completed": Phase.COMPLETED,
    "failed": Phase.FAILED,
    "cancelled": Phase.CANCELLED,
}
"""The phase in which each outcome ends."""

_REASONS = {
    Phase.FAILED: ("generation_failed", "The video could not be generated"),
    Phase.CANCELLED: ("cancelled", "The task was cancelled"),
}


@define(eq=False)
class Rendering:
    """How far the making of a real video is; a worker thread writes ``share``.

    Attributes:
        path: The finished video, once ``ended_at`` is set.
        share: How much is done, from 0 to 1.
        ended_at: When it ended, in seconds of the loop's clock.
        error: Why it failed, ``""`` if it didn't.
    """

    path: Path
    share: float = 0.0
    ended_at: float | None = None
    error: str = ""


@define(eq=False)
class Job:
    """One video of the account, in the making or finished.

    Attributes:
        id: Its id.
        source_id: What it is a remix of, ``""`` for none.
        model: Its model.
        seconds: Length of the video, as the API spells it.
        size: Size of the picture, as the API spells it.
        accepted_at: When, in seconds of the loop's clock.
        created_at: When, as a Unix time.
        duration: Seconds from acceptance to the end.
        queued: Seconds of these before anything is done.
        outcome: How it ends.
        rendering: The making of its real video, if there is any.
        file: Its video, if it is a file of the user's.
    """

    id: str
    source_id: str
    model: str
    seconds: str
    size: str
    accepted_at: float
    created_at: float
    duration: float
    queued: float = 0.0
    outcome: Outcome = "completed"
    rendering: Rendering | None = None
    file: Path | None = None


@frozen
class Reading:
    """What is to be seen of a job at one time.

    Attributes:
        phase: How far it is.
        progress: Percent; 100 also for a failure, as the gateway has it.
        ended_at: When it ended, as a Unix time; None before.
        code: The error's code, ``""`` for none.
        message: The error's text, ``""`` for none.
    """

    phase: Phase
    progress: int = 0
    ended_at: float | None = None
    code: str = ""
    message: str = ""


def read(job: Job, now: float) -> Reading:
    """What is to be seen of ``job`` at ``now``, in seconds of the loop's clock."""
    end = _end_of(job)
    if end is not None and now >= end:
        ended_at = job.created_at + (end - job.accepted_at)
        if job.rendering and job.rendering.error:
            return Reading(Phase.FAILED, 100, ended_at, "render_failed", job.rendering.error)
        phase = OUTCOMES[job.outcome]
        return Reading(phase, 100, ended_at, *_REASONS.get(phase, ()))
    elapsed = now - job.accepted_at
    if elapsed < job.queued:
        return Reading(Phase.QUEUED)
    share = elapsed / job.duration if job.duration else 1.0
    if job.rendering:
        share = min(share, job.rendering.share)
    return Reading(Phase.PROCESSING, min(99, int(100 * share)))


def _end_of(job: Job) -> float | None:
    """When the job ends on the loop's clock; None while its rendering still runs."""
    end = job.accepted_at + job.duration
    if job.rendering is None:
        return end
    return None if job.rendering.ended_at is None else max(end, job.rendering.ended_at)
