"""What is written about a purchase, in the order that makes it safe.

The intent is on the disk before the POST leaves, and what became of it before anybody is told. A
process that dies in between leaves an intent, which is a job in doubt: never one that is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time

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

    async def known(self, order: Order) -> RemixFuture | None:
        """Return the future of a job that was bought before, or ``None`` if it is to be bought.

        While another process is buying it, its id is waited for.

        Raises:
            RemixError: It was bought and ended without a video.
            SubmitOutcomeUnknownError: It may have been bought.
            KeyReusedError: The key stands for another request.
        """
        if self._ledger is None or not order.named:
            return None
        loop = asyncio.get_running_loop()
        pause, attempt, until = _FIRST_LOOK, 0, 0.0
        while True:
            if (future := self._unwritten.get(order.key)) is not None:
                return future
            job = await self._ledger.look(order.request, order.key)
            if job is None or order.may_buy(job):
                return None
            if job.state is not State.INTENT:
                return order.take_up(job)
            if job.attempt != attempt:
                # The loop's clock measures, for that of the wall may be set meanwhile.
                left = job.intent_at + self._timeout + _MARGIN - time.time()
                attempt, until = job.attempt, loop.time() + left
            if loop.time() >= until:
                raise outcome_unknown(
                    order.request,
                    None,
                    "the process that sent it lives and has not told what came of it",
                )
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
        again = order.again
        if purchase.doubt is not None:  # and yet another attempt: it was asked for
            again |= {State.IN_DOUBT}
        try:
            job = await self._ledger.claim(order.request, order.key, again, order.attempt)
        except asyncio.CancelledError:
            self._ledger.withdrawn(order.key)
            raise
        if not job.fresh:
            raise KnownJobError
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
        if _may_have_bought(error):
            sent_at = purchase.sent_at
            moment = job.intent_at if sent_at is None else sent_at.timestamp()
            writing = self._ledger.in_doubt(job, str(error), moment, request_id)
        else:
            writing = self._ledger.refused(job, str(error), request_id)
        try:
            await writing
        except JournalError as failure:  # what is told is what happened to the job
            log.error(  # noqa: TRY400  # where it failed is of no interest
                "what became of the remix of key %s is not in the journal: %s",
                printable(job.key, 80),
                failure,
            )


def _may_have_bought(error: BaseException) -> bool:
    """Whether a job may exist although its submit failed: its key must not buy it once more."""
    if isinstance(error, APIError):  # a refusal by an upstream's time-out, or a redirect by 303
        return not error.safe_to_resubmit
    return isinstance(error, SubmitOutcomeUnknownError) or not isinstance(error, OctoremixError)
