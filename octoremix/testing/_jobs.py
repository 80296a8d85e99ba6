"""A job and what is to be seen of it at a given time.

Nothing runs while a job waits: what a query answers is a function of the job and the time,
so that a hundred thousand of them cost no more than their memory.
"""

from __future__ import annotations

import enum
import math
from pathlib import Path
from typing import Literal

from attrs import define, frozen

from ._faults import Fault

Outcome = Literal["completed", "failed", "cancelled"]
"""How a job ends."""


class Phase(enum.Enum):
    """How far a job is; the value is the gateway's internal name (new-api ``model/task.go``)."""

    NOT_START = "NOT_START"
    QUEUED = "QUEUED"
    PROCESSING = "IN_PROGRESS"
    COMPLETED = "SUCCESS"
    FAILED = "FAILURE"
    # The gateway knows no such state of its own; only the upstream's word differs.
    CANCELLED = "FAILURE (cancelled)"

    @property
    def state(self) -> str:
        """The gateway's internal name."""
        return self.value.partition(" ")[0]

    @property
    def ended(self) -> bool:
        """Whether nothing comes after it."""
        return self in {Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED}


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
        index: Its number from 0; -1 for a video from before.
        user: The account that it belongs to.
        fault: What goes wrong with it, if anything does.
        lost: Whether the gateway has no row of it.
        hidden: How often it was asked for before it could be seen.
        link_version: How many of its links have expired.
        seen_at: When the gateway looked last, where it looks at one task after the other.
        end_seen_at: When it saw the end, likewise.
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
    index: int = -1
    user: str = ""
    fault: Fault | None = None
    lost: bool = False
    hidden: int = 0
    link_version: int = 0
    seen_at: float = -math.inf
    end_seen_at: float | None = None

    def has(self, name: str) -> bool:
        """Whether the fault of that name is with it."""
        return self.fault is not None and self.fault.name == name


@frozen
class Reading:
    """What is to be seen of a job at one time.

    Attributes:
        phase: How far it is.
        progress: Percent; 100 also for a failure, as the gateway has it.
        ended_at: When it ended, as a Unix time; None before.
        code: The error's code, ``""`` for none.
        message: The error's text, ``""`` for none.
        word: The upstream's own word for the status, where it is an odd one.
    """

    phase: Phase
    progress: int = 0
    ended_at: float | None = None
    code: str = ""
    message: str = ""
    word: str = ""


def read(job: Job, now: float) -> Reading:
    """What the upstream has of ``job`` at ``now``, in seconds of the loop's clock."""
    stopped_at = _stopped_at(job)
    now = min(now, stopped_at)
    end = end_of(job)
    if end is not None and end <= now and end < stopped_at:
        ended_at = job.created_at + (end - job.accepted_at)
        if job.rendering and job.rendering.error:
            return Reading(Phase.FAILED, 100, ended_at, "render_failed", job.rendering.error)
        phase = OUTCOMES[job.outcome]
        word = job.fault.word if job.fault is not None and job.has("odd_end") else ""
        return Reading(phase, 100, ended_at, *_REASONS.get(phase, ("", "")), word)
    elapsed = now - job.accepted_at
    if elapsed < job.queued:
        return Reading(Phase.QUEUED)
    share = elapsed / job.duration if job.duration else 1.0
    if job.rendering:
        share = min(share, job.rendering.share)
    return Reading(Phase.PROCESSING, min(99, int(100 * share)))


def end_of(job: Job) -> float | None:
    """When the job ends on the loop's clock; None while its rendering still runs."""
    end = job.accepted_at + job.duration
    if job.rendering is None:
        return end
    return None if job.rendering.ended_at is None else max(end, job.rendering.ended_at)


def _stopped_at(job: Job) -> float:
    """From when on the job does not go on any more; infinity for one in order."""
    if job.fault is None or not job.has("stuck"):
        return math.inf
    return job.accepted_at + job.fault.seconds
