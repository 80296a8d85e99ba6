"""One run of a batch: every outcome told, written down and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from .. import (
    APIError,
    Batch,
    BatchEvent,
    Event,
    NotSubmittedError,
    OctoremixError,
    Outcome,
    RemixError,
    Session,
    SubmitOutcomeUnknownError,
    TaskLostError,
    TaskStatus,
)
from ..errors import printable
from ._batch_display import COUNTED, Progress, shown
from ._exit import Code, verdict_on
from ._input import Line
from ._leftovers import remove_leftovers
from ._results import FILE_NAME, Results
from ._run import Run
from ._text import human_duration, jobs_of

__all__ = ["BatchRun"]

MOST_TOLD = 10
"""Failures that are told one by one; the rest is in the results."""


@define(eq=False, kw_only=True)
class BatchRun:
    """One run.

    Attributes:
        run: The command's.
        session: Buys and follows.
        lines: The input.
        folder: Where everything goes.
        journal: The journal in it.
    """

    run: Run
    session: Session
    lines: Sequence[Line]
    folder: Path
    journal: Path
    progress: Progress = field(init=False)
    _results: Results = field(init=False)
    _waiting: dict[str, Line] = field(init=False, factory=dict)
    _running: dict[int, bool] = field(init=False, factory=dict)
    _bought: int = field(init=False, default=0)
    _told: int = field(init=False, default=0)
    _used: float | None = field(init=False, default=None)
    _stopped: str | None = field(init=False, default=None)

    async def go(self, batch: Batch) -> None:
        """Run it to its end, or until it is told to stop.

        Args:
            batch: Of the lines, and telling its progress to `progressed`.
        """
        self._results = await asyncio.to_thread(Results, self.folder, self._troubled)
        self.progress = Progress(len(self.lines))
        self.run.noticed = self._noticed
        self.run.output.untold = ("a batch was left early",)
        try:
            await self._tidy()
            async with shown(self.progress, self.run.output), batch:
                self.run.finish = lambda: self._finish(batch)
                async for outcome in batch:
                    self._ended(outcome)
        except BaseException:
            self._detached(batch)
            raise
        finally:
            self.run.finish = self.run.noticed = None
            self._stopped = batch.stopped
            self._results.close()

    async def _tidy(self) -> None:
        known = await self.session.history()
        names = [Path(entry.path).name for entry in known if entry.path is not None]
        await asyncio.to_thread(remove_leftovers, self.folder, names)

    def used(self, quota: float) -> None:
        """Note how much quota was used meanwhile."""
        self._used = quota

    def summarise(self) -> None:
        """Say what came of it."""
        output, counts = self.run.output, self.progress.counts
        words = ", ".join(word for word, _ in self.progress.words() if "running" not in word)
        elapsed = human_duration(self.progress.elapsed)
        output.note(f"{len(self.lines):,} jobs in {elapsed}: {words}", "bold")
        paid = f"this run paid for {self._bought:,}"
        if self._used is not None:
            paid += f" and the key used {self._used:,.0f} units of quota"
        output.note(paid)
        if self._stopped is not None:
            output.note(f"it stopped buying: {printable(self._stopped)}")
        if counts["in_doubt"]:
            doubts = self.run.connection.command("doubts", "--journal", str(self.journal))
            output.note(f"to settle the doubts: {doubts}")
        if counts["detached"]:
            output.note(
                "what is not waited for may go on and is billed: the same command follows it"
            )
        if counts["not_submitted"]:
            settled = "then " if counts["in_doubt"] else ""
            output.note(f"{settled}the same command again submits the rest")
        output.note(f"what happened to each is in {printable(self.folder / FILE_NAME)}")
        numbers: dict[str, Any] = {name: counts[name] for name in COUNTED}
        output.event(
            "batch",
            folder=str(self.folder),
            jobs=len(self.lines),
            bought=self._bought,
            used=self._used,
            **numbers,
        )

    def _finish(self, batch: Batch) -> None:
        self.progress.stopping = True
        self.run.code(Code.INTERRUPTED)
        self.run.output.note(
            f"finishing {jobs_of(len(batch.pending))} under way; Ctrl-C again detaches", "bold"
        )
        batch.stop("Ctrl-C")

    def _detached(self, batch: Batch) -> None:
        going_on = len(batch.detached)
        if going_on:
            self.run.code(Code.RUNNING)
            go = "1 job goes on and is" if going_on == 1 else f"{going_on:,} jobs go on and are"
            self.run.output.note(f"{go} billed: the same command again follows them")

    def _troubled(self, trouble: OSError) -> None:
        self.run.output.warn(
            f"{printable(self.folder / FILE_NAME)} can't be written any more: "
            f"{trouble.strerror or trouble}; what happens is in the journal alone"
        )

    def _noticed(self, event: Event) -> None:
        """Write when a task begins to be worked on."""
        if event.kind != "polled" or event.video is None or event.id is None:
            return
        if event.video.status is TaskStatus.PROCESSING:
            line = self._waiting.pop(event.id, None)
            if line is not None:
                self._results.write("started", line, id=event.id, video=event.video)

    def progressed(self, event: BatchEvent) -> None:
        """Take notice of a step of the batch."""
        line = self.lines[event.index]
        if event.kind == "submitted":
            self.progress.began()
            self._bought += event.bought
            self._running[event.index] = event.bought
            self._waiting[event.id] = line
            self._results.write("submitted", line, id=event.id)
        else:
            self._results.write("completed", line, id=event.id, video=event.video)

    def _ended(self, outcome: Outcome) -> None:
        line = self.lines[outcome.index]
        if outcome.id is not None:
            self._waiting.pop(outcome.id, None)
        event = _event_of(outcome)
        ran = self._running.pop(outcome.index, None)
        self.progress.ended(
            _COUNTED.get(event, "failed"),
            ran=ran is not None,
            bought=bool(ran),
            downloaded=event == "downloaded",
        )
        self._results.write(
            event,
            line,
            id=outcome.id,
            video=outcome.video,
            file=outcome.path,
            error=outcome.error,
        )
        self.run.output.event(
            "done" if outcome.error is None else "error",
            id=outcome.id,
            video=outcome.video,
            file=None if outcome.path is None else str(outcome.path),
            error=outcome.error,
            key=line.request.key,
            line=line.number,
        )
        if outcome.error is not None:
            self._complain(line, outcome.error, event)

    def _complain(self, line: Line, error: OctoremixError, event: str) -> None:
        self.run.code(Code.IN_DOUBT if event == "in_doubt" else verdict_on(error).code)
        if isinstance(error, NotSubmittedError):
            return  # one cause, told once at the end
        self._told += 1
        if self._told <= MOST_TOLD:
            self.run.output.complain(f"line {line.number}: {error}")
        elif self._told == MOST_TOLD + 1:
            self.run.output.note(f"further failures are told in {FILE_NAME} alone", "dim")
        self.run.output.trace(error)


_COUNTED = {
    "downloaded": "done",
    "completed": "done",
    "download_failed": "done",
    **{word: word for word in ("refused", "in_doubt", "detached", "not_submitted")},
}


def _event_of(outcome: Outcome) -> str:
    """Return the word of the results for an outcome."""
    error = outcome.error
    if error is None:
        return "completed" if outcome.path is None else "downloaded"
    if isinstance(error, RemixError) and error.video is not None:
        return str(error.video.status)
    if outcome.video is not None and outcome.video.status is TaskStatus.COMPLETED:
        return "download_failed"
    return next((word for kind, word in _WORDS if kind(error)), "refused")


def _is_doubt(error: OctoremixError) -> bool:
    if isinstance(error, SubmitOutcomeUnknownError):
        return not error.abandoned
    # Such as a redirect, after which it may have been bought.
    return error.id is None and isinstance(error, APIError) and not error.safe_to_resubmit


_WORDS: tuple[tuple[Callable[[OctoremixError], bool], str], ...] = (
    (lambda error: isinstance(error, NotSubmittedError), "not_submitted"),
    (_is_doubt, "in_doubt"),
    (lambda error: isinstance(error, SubmitOutcomeUnknownError), "abandoned"),
    (lambda error: isinstance(error, TaskLostError), "failed"),
    (lambda error: error.id is not None, "detached"),  # it goes on, and is followed the next time
)
