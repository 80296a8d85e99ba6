"""What the gateway knows of a job, which is not always what its upstream has.

new-api looks at its upstreams in passes (``controller/task.go``, every 15 seconds) and answers
queries from its own table in between; unfinished tasks are given up after a day
(``TASK_TIMEOUT_MINUTES``), which leaves the upstream's stored answer as it was. As everywhere
here, nothing runs: the time of the last pass follows from the present.
"""

from __future__ import annotations

import math

from attrs import evolve, frozen

from ._jobs import Job, Phase, Reading, end_of, read

_UNRECOGNISED = "upstream returned unrecognized message"


@frozen
class Rhythm:
    """When the gateway looks at its upstream.

    Attributes:
        refresh: Seconds between two passes; 0 if each query looks itself.
        sweep_after: Seconds after which an unfinished job is given up; infinity for never.
        spacing: Seconds between two tasks of a pass; 0 if it sees them all at once. Else jobs
            hold themselves when they were seen.
    """

    refresh: float = 0.0
    sweep_after: float = math.inf
    spacing: float = 0.0

    def last_pass(self, now: float) -> float:
        """When the last pass was."""
        return now if not self.refresh else math.floor(now / self.refresh) * self.refresh

    def pass_for(self, accepted_at: float, time: float) -> float:
        """When the first pass is that sees, of a job accepted then, what is there at ``time``."""
        if not self.refresh or time == math.inf:
            return time
        due = math.ceil(time / self.refresh) * self.refresh
        return due if due > accepted_at else due + self.refresh


@frozen
class View:
    """What the gateway knows of a job at one time.

    Attributes:
        raw: What the upstream had when it was looked at last; None if that never was, and the
            answer to the submit is all there is.
        state: The gateway's own idea.
    """

    raw: Reading | None
    state: Reading


def look(job: Job, now: float, rhythm: Rhythm) -> View:
    """What the gateway knows of ``job`` at ``now``."""
    if job.index < 0:
        reading = read(job, now)
        return View(reading, reading)
    swept_at = job.accepted_at + rhythm.sweep_after
    seen_at = job.seen_at if rhythm.spacing else rhythm.last_pass(min(now, swept_at))
    raw = None
    state = Reading(Phase.NOT_START)
    if seen_at > job.accepted_at or not rhythm.refresh:
        raw = read(job, seen_at)
        state = _judged(raw)
    if now >= swept_at and not state.phase.ended:
        minutes = round(rhythm.sweep_after / 60)
        ended_at = job.created_at + rhythm.sweep_after
        reason = f"任务超时（{minutes}分钟）"  # noqa: RUF001 - the gateway's own text
        state = Reading(Phase.FAILED, 100, ended_at, "", reason)
    return View(raw, state)


def _judged(raw: Reading) -> Reading:
    """What the gateway makes of the upstream's answer: words that it doesn't know are failures."""
    if raw.word:
        return evolve(raw, phase=Phase.FAILED, code="", message=_UNRECOGNISED)
    return raw


def failed_at(job: Job, rhythm: Rhythm) -> float | None:
    """When the gateway notices the job's failure, and refunds it; None if that is not to be."""
    if job.lost:
        return None
    swept_at = job.accepted_at + rhythm.sweep_after
    seen_at = math.inf if (seen := _end_seen_at(job, rhythm)) is None else seen
    if seen_at <= swept_at and seen_at < math.inf:
        state = _judged(read(job, seen_at))
        if state.phase.ended:
            return None if state.phase is Phase.COMPLETED else seen_at
    return swept_at if swept_at < math.inf else None


def _end_seen_at(job: Job, rhythm: Rhythm) -> float | None:
    """When the gateway sees the end of the job; None as long as that can't be told."""
    if rhythm.spacing:
        return job.end_seen_at
    end = end_of(job)
    return None if end is None else rhythm.pass_for(job.accepted_at, end)
