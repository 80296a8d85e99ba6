"""What an earlier process left: its tasks are followed again, its doubts shown and settled."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from attrs import evolve

from ._evidence import Evidence
from ._journal import Job, Ledger, State
from ._poller import Poller
from .errors import JournalError, SubmitOutcomeUnknownError, printable, quoted
from .futures import RemixFuture
from .models import RemixRequest, Video, check_task_id, outcome_of
from .records import PROCESS_ENDED, InDoubt

__all__ = ["Recovery"]

log = logging.getLogger("octoremix")


class Recovery:
    """Takes up what the journal knows.

    Args:
        ledger: The journal.
        poller: Follows tasks.
        evidence: Looks for doubts in the gateway's log.
        deadline: Seconds after which a task that is taken up is given up, or ``None``.
    """

    def __init__(
        self, ledger: Ledger, poller: Poller, evidence: Evidence, *, deadline: float | None
    ) -> None:
        self._ledger = ledger
        self._poller = poller
        self._evidence = evidence
        self._deadline = deadline

    def __repr__(self) -> str:
        return f"<Recovery from {self._ledger.path}>"

    def take_up(
        self, job: Job, request: RemixRequest | None, deadline: float | None
    ) -> RemixFuture:
        """Return the future of a job that the journal knows.

        Raises:
            RemixError: It ended without a video.
            SubmitOutcomeUnknownError: It may have been bought.
        """
        if job.state is State.SUBMITTED:
            return self._follow(job, request, deadline)
        if job.reading is not None:
            outcome = outcome_of(job.reading.video)
            if not isinstance(outcome, Video):
                raise outcome
            return RemixFuture._completed(job.reading, request)
        raise _doubt(job, request)

    async def resume(self) -> list[RemixFuture]:
        """Follow every unfinished task whose owner is gone, and our own."""
        self._poller.check_running()
        jobs, elsewhere = await self._ledger.unfinished()
        for base_url, count in elsewhere.items():
            log.warning(
                "the journal has %d unfinished jobs of %s, which are left alone: the key of this "
                "session is not sent there",
                count,
                printable(base_url),
            )
        return [self._follow(job, job.request, self._deadline) for job in jobs]

    async def in_doubt(self, *, evidence: bool) -> list[InDoubt]:
        """Return the jobs that may have been charged, with what the gateway's log tells of them."""
        doubts = await self._ledger.doubts()
        if not evidence or not doubts:
            return doubts
        told = await self._evidence.look(doubts)
        return [evolve(doubt, evidence=told[doubt.key]) for doubt in doubts]

    async def adopt(self, doubt: InDoubt, task_id: str) -> RemixFuture:
        """Follow the task that a job in doubt has become."""
        check_task_id(task_id)
        self._poller.check()
        job = await self._ledger.adopt(doubt, task_id)
        return self._follow(job, doubt.request, self._deadline)

    async def abandon(self, doubt: InDoubt) -> None:
        """Give a job in doubt up."""
        await self._ledger.abandon(doubt)

    async def request_of(self, doubt: InDoubt) -> RemixRequest:
        """Return what a job in doubt would be bought by once more.

        Raises:
            JournalError: The doubt is settled already, or the journal stores no prompts.
        """
        await self._ledger.check_doubt(doubt)
        if doubt.request is None:
            raise JournalError(
                f"what the job {quoted(doubt.key, 80)} asked for is not in the journal: abandon the "
                "doubt, then submit the job with the same key and retry_failed=True"
            )
        return doubt.request

    def _follow(
        self, job: Job, request: RemixRequest | None, deadline: float | None
    ) -> RemixFuture:
        assert job.task_id is not None
        assert job.submitted_at is not None
        age = max(0.0, time.time() - job.submitted_at)
        return self._poller.follow(job.task_id, deadline=deadline, request=request, age=age)


def _doubt(job: Job, request: RemixRequest | None) -> SubmitOutcomeUnknownError:
    sent_at = datetime.fromtimestamp(job.intent_at, UTC)
    if job.state is State.ABANDONED:
        state = "was given up while it was in doubt"
        advice = "retry_failed=True buys it again"
    else:
        state = "is in doubt"
        advice = "session.in_doubt() lists it, for adopt, resubmit or abandon"
    return SubmitOutcomeUnknownError(
        f"the job {quoted(job.key, 80)}, sent at {sent_at:%Y-%m-%d %H:%M:%S} UTC, {state}: "
        f"{printable(job.reason)}. It may exist and may be billed, so it is not sent again; {advice}",
        reason=job.reason,
        request=request,
        sent_at=sent_at,
        request_id=job.request_id,
        abandoned=job.state is State.ABANDONED,
        interrupted=job.state is State.IN_DOUBT and job.reason == PROCESS_ENDED,
    )
