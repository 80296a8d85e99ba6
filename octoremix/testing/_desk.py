"""The gateway's jobs: taking them on, and finding them again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import Factory, define, frozen

from ._books import BookedJob, Bookkeeper, JobRequest
from ._content import CannedContent, Content, open_file
from ._faults import Fault, Faults
from ._jobs import OUTCOMES, Job, Outcome, Rendering, end_of
from ._money import Ledger
from ._passes import Passes
from ._profiles import Profile
from ._renderer import Renderer
from ._views import Rhythm, View, look

_OLD_VIDEO_AGE = 3600.0  # seconds since the making of a video that was not made here

# Faults that make a job fail, and one whose upstream finishes it.
_OUTCOMES: dict[str, Outcome] = {
    "error_without_status": "failed",
    "failure_text_as_url": "failed",
    "failure_as_error": "failed",
    "odd_end": "completed",
}


@frozen
class Rules:
    """How the gateway behaves; see `Emulator` for the meaning of each."""

    duration: float | Callable[[JobRequest], float]
    queued_share: float
    outcome: Outcome | Callable[[JobRequest], Outcome]
    content_size: int
    sources: Mapping[str, Path | None] | None
    profile: Profile
    rhythm: Rhythm


@define(eq=False)
class Desk:
    """Takes jobs on and finds them again."""

    rules: Rules
    keeper: Bookkeeper
    ledger: Ledger
    faults: Faults
    renderer: Renderer | None = None
    passes: Passes | None = None
    _jobs: dict[str, Job] = Factory(dict)

    @property
    def next_index(self) -> int:
        """The number that the next job will have."""
        return self.keeper.books.accepted

    def find(self, video_id: str, user: str, now: float) -> Job | None:
        """A job made here, or a video that the account had before."""
        if job := self._jobs.get(video_id):
            return None if job.lost or job.user != user else job
        sources = self.rules.sources
        if sources is not None and video_id not in sources:
            return None
        file = None if sources is None else sources[video_id]
        created_at = time.time() - _OLD_VIDEO_AGE
        return Job(video_id, "", "veo_3_1", "8", "720x1280", now, created_at, 0.0, file=file)

    def find_made(self, video_id: str) -> Job | None:
        """A job made here, whoever asks."""
        return self._jobs.get(video_id)

    def catch_up(self, now: float) -> None:
        """Let the gateway look at each of its unfinished jobs as often as it should have by now."""
        if self.passes is not None:
            self.passes.catch_up(now)

    def look(self, job: Job, now: float) -> View:
        """What the gateway knows of a job."""
        self.catch_up(now)
        return look(job, now, self.rules.rhythm)

    def accept(
        self, request: JobRequest, source: Job | None, key: str, fault: Fault | None, now: float
    ) -> Job:
        """Take a job on, and book its charge."""
        job = self._make(request, key, fault, now)
        if self.renderer is not None and job.outcome == "completed":
            job.rendering = self._start_rendering(self.renderer, source, request.prompt)
        self._jobs[job.id] = job
        if self.passes is not None:
            self.passes.add(job)
        self.ledger.charge(key, job)
        self.keeper.accept(
            BookedJob(
                job.id,
                request,
                now,
                outcome=self._told_outcome(job),
                key=key,
                created_at=job.created_at,
            )
        )
        return job

    def _make(self, request: JobRequest, key: str, fault: Fault | None, now: float) -> Job:
        duration = self._duration_of(request)
        outcome = self._outcome_of(request)
        body = request.body
        return Job(
            id=self.rules.profile.new_id(),
            source_id=request.source_id or "",
            model=request.model,
            seconds=str(body.get("seconds") or "8"),
            size=str(body.get("size") or "720x1280"),
            accepted_at=now,
            created_at=time.time(),
            duration=duration,
            queued=duration * self.rules.queued_share,
            outcome=_OUTCOMES.get(fault.name, outcome) if fault is not None else outcome,
            index=request.index,
            user=self.ledger.keys[key].user,
            fault=fault,
            lost=fault is not None and fault.name == "insert_lost",
        )

    def _told_outcome(self, job: Job) -> str:
        """What queries will tell of a job that is not rendered."""
        if job.lost:
            return "lost"
        rhythm, raw = self.rules.rhythm, self.rules.profile.raw
        swept_at = job.accepted_at + rhythm.sweep_after
        end = end_of(job)
        seen_at = math.inf if end is None else rhythm.pass_for(job.accepted_at, end)
        stuck = job.fault is not None and job.has("stuck") and job.fault.seconds <= job.duration
        if stuck or swept_at < seen_at < math.inf:
            return "stuck" if raw or swept_at == math.inf else "failed"
        # The gateway's own state knows no cancelled tasks, and takes odd words for failures.
        own = job.outcome == "cancelled" or job.has("odd_end")
        return "failed" if own and not raw else job.outcome

    def _start_rendering(self, renderer: Renderer, source: Job | None, prompt: str) -> Rendering:
        if source is None:
            return renderer.start(prompt)
        made = None if source.rendering is None else source.rendering.path
        return renderer.start(prompt, made=made, file=source.file)

    async def content_of(self, job: Job) -> Content:
        """The bytes of a finished video."""
        if job.file is not None:
            return await open_file(job.file)
        if job.rendering is not None:
            return await open_file(job.rendering.path)
        if self.renderer is not None:
            return await open_file(await self.renderer.scene())
        return CannedContent(self.rules.content_size)

    def forget_unfinished(self, now: float) -> None:
        """Lose every job that has not ended, as a restart may."""
        for job in self._jobs.values():
            if not job.lost and not self.look(job, now).state.phase.ended:
                job.lost = True
                self.keeper.lose(job.index)

    def _duration_of(self, request: JobRequest) -> float:
        duration = self.rules.duration
        seconds = duration(request) if callable(duration) else duration
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise ValueError(f"duration must give seconds from 0 up, not {seconds!r}")
        return seconds

    def _outcome_of(self, request: JobRequest) -> Outcome:
        outcome = self.rules.outcome
        word = outcome(request) if callable(outcome) else outcome
        if word not in OUTCOMES:
            raise ValueError(f"outcome must give one of {', '.join(OUTCOMES)}, not {word!r}")
        return word
