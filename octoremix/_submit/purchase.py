"""The task that buys one job, and whose cancellation is barred while its request is out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import field, frozen

from .._journal import Job, State
from .._wire import Reading
from ..errors import OctoremixError, SubmitOutcomeUnknownError, quoted
from ..futures import RemixFuture
from ..models import RemixRequest

__all__ = [
    "ENDED_BADLY",
    "Order",
    "Purchase",
    "current_purchase",
    "outcome_unknown",
]

ENDED_BADLY = frozenset({State.FAILED, State.CANCELLED, State.EXPIRED, State.ABANDONED})
"""What a caller may ask to be bought once more."""


@frozen(kw_only=True)
class Order:
    """What is to be bought, and what becomes of it.

    Attributes:
        request: The job; with a journal it has a key.
        accept: Follows the task that was just bought, also when its caller has gone.
        take_up: Returns the future of a job that the journal knows already, or raises its outcome.
        named: Whether the key is the caller's, so that the journal may know it.
        again: The states in the journal from which it is bought once more, besides that in which
            nothing was bought.
        attempt: The attempt that those states must be of, or ``None``.
        known_only: Whether to take it up if it was bought before, and else to leave it.
        halted: Done once it is not to be bought any more, unless its request is out; or ``None``.
        failed: Told of an attempt that failed, before another job gets its slot; or ``None``.
    """

    request: RemixRequest
    accept: Callable[[Reading], RemixFuture] = field(repr=False)
    take_up: Callable[[Job], RemixFuture] = field(repr=False)
    named: bool = False
    again: frozenset[State] = frozenset()
    attempt: int | None = None
    known_only: bool = False
    halted: asyncio.Future[None] | None = field(default=None, repr=False)
    failed: Callable[[OctoremixError], None] | None = field(default=None, repr=False)

    @property
    def wants(self) -> bool:
        """Whether it is still to be bought."""
        return not self.known_only and (self.halted is None or not self.halted.done())

    @property
    def key(self) -> str:
        """The key, of an order that has one."""
        assert self.request.key is not None
        return self.request.key


class Purchase(asyncio.Task[RemixFuture]):
    """The task that buys one job.

    While its request is out nobody's `cancel` reaches it, not even that of `asyncio.run`, which
    cancels every task at its end and then waits for them: what was paid for is worth the wait.
    `abort` does, for whoever's patience has an end.

    Attributes:
        order: What it buys.
        orders: Those of the callers who wait for it, the same job in each.
        out: Whether the request has begun to leave and its outcome is not yet kept.
        posting: Whether the answer is waited for.
        sent_at: When the last request began to leave, or ``None``.
        aborted: Why it was aborted, or ``None``.
        abandoned: Whether the last of them has gone.
        doubt: What became of an attempt that may have bought the job, or ``None``.
        elsewhere: What to tell while another process buys the job, or ``None``.
        attempt: Which attempt of the job it announced last, or ``None``.
    """

    order: Order
    orders: list[Order]
    out = False
    posting = False
    sent_at: datetime | None = None
    aborted: str | None = None
    abandoned = False
    doubt: SubmitOutcomeUnknownError | None = None
    elsewhere: SubmitOutcomeUnknownError | None = None
    attempt: int | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anybody who waits for it still wants it bought."""
        return any(order.wants for order in self.orders)

    def may_buy(self, job: Job) -> bool:
        """Whether a job that the journal knows is to be bought once more."""
        if job.state is State.REFUSED:
            return True
        again, attempt = self.order.again, self.order.attempt
        if self.attempt is not None:  # what others bought since then is not what was asked for
            may_pay_twice = self.doubt is not None or State.IN_DOUBT in again
            again = frozenset({State.IN_DOUBT} if may_pay_twice else ())
            attempt = self.attempt
        return job.state in again and attempt in {None, job.attempt}

    def cancel(self, msg: Any | None = None) -> bool:
        return False if self.out else super().cancel(msg)

    def abort(self, why: str) -> None:
        """Break off the wait for an answer; what is being kept on the disk is not broken off."""
        if self.aborted is None and (self.posting or not self.out):
            self.aborted = why
            super().cancel()


def current_purchase() -> Purchase:
    """Return the purchase that runs."""
    purchase = asyncio.current_task()
    assert isinstance(purchase, Purchase)
    return purchase


def outcome_unknown(
    request: RemixRequest, sent_at: datetime | None, why: str, request_id: str | None = None
) -> SubmitOutcomeUnknownError:
    """Return the error of a job that may have been bought."""
    when = f"{sent_at:%Y-%m-%d %H:%M:%S} UTC" if sent_at else "now"
    named = f" (request id {request_id})" if request_id else ""
    return SubmitOutcomeUnknownError(
        f"the remix of video {quoted(request.video_id)} was sent at {when}{named} and its "
        f"outcome is unknown: {why}. The job may exist and may be billed, so it is not sent again; "
        "look for it in the OctopusX console before you submit it once more",
        reason=why,
        request=request,
        sent_at=sent_at,
        request_id=request_id,
    )
