"""What is written about a purchase, in the order that makes it safe.

The intent is on the disk before the POST leaves, and what became of it before anybody is told. A
process that dies in between leaves an intent, which is a job in doubt: never one that is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from .._journal import Job, Ledger, State
from .._wire import Reading
from ..errors import (
    APIError,
    JournalError,
    OctoremixError,
    SubmitOutcomeUnknownError,
    printable,
    quoted,
)
from ..futures import RemixFuture
from .purchase import Order, Purchase, outcome_unknown

__all__ = ["Keeper", "KnownJobError"]

log = logging.getLogger("octoremix")

_FIRST_LOOK, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks at what another process is buying."""

_MARGIN = 5.0
"""Seconds beyond the time-out of a submit after which its record should be there."""


class KnownJobError(Exception):
    """Another purchase was faster with the key; nothing was sent."""


class Keeper:
    """Keeps the purchases of a session in its journal, if it has one.

    Args:
        ledger: The journal, or ``None``.
        timeout: Seconds that the answer to a submit may take.
    """

    def __init__(self, ledger: Ledger | None, *, timeout: float) -> None:
        self._ledger = ledger
        self._timeout = timeout
        # What was accepted and could not be written: while we live, we know it ourselves.
        self._unwritten: dict[str, RemixFuture] = {}

    def __repr__(self) -> str:
        return f"<Keeper with {len(self._unwritten)} unwritten jobs>"

    async def known(self, order: Order, purchase: Purchase) -> RemixFuture | None:
        """Return the future of a job that was bought before, or ``None`` if it is to be bought.

        While another process is buying it, its id is waited for.

        Raises:
            RemixError: It was bought and ended without a video.
            SubmitOutcomeUnknownError: It may have been bought.
            KeyReusedError: The key stands for another request.
        """
        # A key of our own may be known too, where its doubt was settled between two attempts.
        if self._ledger is None or not (order.named or purchase.attempt):
            return None
        loop = asyncio.get_running_loop()
        pause, attempt, until = _FIRST_LOOK, 0, 0.0
        while True:
            job = await self._ledger.look(order.request, order.key)
            if job is None or job.state is not State.INTENT:
                purchase.elsewhere = None
                self._unwritten.pop(order.key, None)
                if job is None or purchase.may_buy(job):
                    return None
                return order.take_up(job)
            if (future := self._unwritten.get(order.key)) is not None:
                return future
            patience = self._timeout + _MARGIN
            if job.attempt != attempt:
                # The loop's clock measures, for that of the wall may be set meanwhile.
                left = min(job.intent_at + patience - time.time(), patience)
                attempt, until = job.attempt, loop.time() + left
            purchase.elsewhere = outcome_unknown(
                order.request,
                datetime.fromtimestamp(job.intent_at, UTC),
                "whoever sent it, perhaps another process, has not told yet what came of it",
            )
            if loop.time() >= until:
                raise purchase.elsewhere
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)

    async def announce(self, order: Order, purchase: Purchase) -> Job | None:
        """Write that a job is about to be sent.

        Raises:
            KnownJobError: It must not be sent, for somebody else was faster.
            JournalError: It can't be written, so nothing must be sent.
        """
        if self._ledger is None:
            return None
        try:
            job = await self._ledger.claim(order.request, order.key, purchase.may_buy)
        except asyncio.CancelledError:
            self._ledger.withdrawn(order.key)
            raise
        if not job.fresh:
            raise KnownJobError
        purchase.attempt = job.attempt
        return job

    async def accepted(self, job: Job | None, reading: Reading, future: RemixFuture) -> None:
        """Write the id of a job that was bought.

        Raises:
            JournalError: It can't be written; with the id.
        """
        if self._ledger is None or job is None:
            return
        try:
            await self._ledger.submitted(job, reading.task_id)
        except JournalError as error:
            self._unwritten[job.key] = future
            raise JournalError(
                f"task {quoted(reading.task_id)} was accepted, and may be billed, but could not be "
                f"recorded: {error}; it is followed: session.track(id) gives its future",
                id=reading.task_id,
            ) from None

    async def failed(self, job: Job | None, error: BaseException, purchase: Purchase) -> None:
        """Write what became of a job that was not bought, or of which nobody knows."""
        if self._ledger is None or job is None:
            return
        if not isinstance(error, OctoremixError) and purchase.sent_at is None:
            self._ledger.withdrawn(job.key)  # its caller left, and is not kept waiting
            return
        request_id = getattr(error, "request_id", None)
        reason = _reason(error, texts=self._ledger.store_prompts)
        if _bought_nothing(error):
            writing = self._ledger.refused(job, reason, request_id)
        else:
            sent_at = purchase.sent_at
            moment = job.intent_at if sent_at is None else sent_at.timestamp()
            writing = self._ledger.in_doubt(job, reason, moment, request_id)
        try:
            await writing
        except JournalError as failure:  # what is told is what happened to the job
            log.error(  # noqa: TRY400  # where it failed is of no interest
                "what became of the remix of key %s is not in the journal: %s",
                printable(job.key, 80),
                failure,
            )


def _bought_nothing(error: BaseException) -> bool:
    """Whether the error of a submit says for sure that nothing was bought."""
    if isinstance(error, APIError):
        return error.safe_to_resubmit
    return isinstance(error, OctoremixError) and not isinstance(error, SubmitOutcomeUnknownError)


def _reason(error: BaseException, *, texts: bool) -> str:
    """Return what is kept of an error; its text may quote the prompt."""
    if texts:
        return (isinstance(error, SubmitOutcomeUnknownError) and error.reason) or str(error)
    if isinstance(error, APIError):
        return f"{type(error).__name__} ({error.status})"
    return type(error).__name__
