"""The jobs of one batch, bought one by one until it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from attrs import define, field, frozen

from ..errors import (
    APIConnectionError,
    ConfigurationError,
    JournalError,
    NotSubmittedError,
    OctoremixError,
    RateLimitError,
    SubmitOutcomeUnknownError,
)
from ..futures import RemixFuture
from ..models import RemixRequest
from .budget import Budget, Paid
from .stops import concerns_all, is_doubt, tells_of_gateway

__all__ = ["Bought", "Buy", "Limits", "Purchases"]

log = logging.getLogger("octoremix")

PUT_BACK = 1.0
"""Seconds before an item that met with a 429 is tried again; the session's cool-down adds to it."""

MOST_UNSENT = 3
"""Submits of one item that could not even be sent, each with all its attempts, before all stop."""


class Bought(Protocol):
    """A job that the gateway accepted: now (``fresh``), or in an earlier run."""

    @property
    def future(self) -> RemixFuture: ...

    @property
    def fresh(self) -> bool: ...


class Buy(Protocol):
    """Buys a job, or only takes up one that was bought before (``known_only``).

    It raises `NotSubmittedError` where it was not to be bought, or ``halted`` was done in time. It
    tells ``failed`` of an attempt that failed before any other job may be sent instead.
    """

    def __call__(
        self,
        request: RemixRequest,
        *,
        known_only: bool = False,
        halted: asyncio.Future[None] | None = None,
        failed: Callable[[OctoremixError], None] | None = None,
    ) -> Coroutine[Any, Any, Bought]: ...


@frozen(kw_only=True)
class Limits:
    """How far a batch goes.

    Attributes:
        concurrency: The most items that are taken and not yet given back.
        max_in_doubt: The most jobs in doubt before nothing more is bought.
        max_jobs: The most jobs that are paid for, or ``None``.
    """

    concurrency: int
    max_in_doubt: int
    max_jobs: int | None


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@define(eq=False, repr=False)
class Purchases:
    """Buys the jobs of one batch: the first alone, and none once the next would go wrong too.

    Args:
        buy: Buys one job.
        limits: How far it goes.
        paid: Tells how many jobs of some keys were paid for before; ``None`` without a journal.
        on_stop: Called when it stops.

    Attributes:
        stopped: Why nothing more is bought, or ``None``.
        budget: How many jobs may still be paid for.
    """

    _buy: Buy
    _limits: Limits
    _paid: Paid | None
    _on_stop: Callable[[], None]

    stopped: str | None = field(init=False, default=None)
    budget: Budget = field(init=False)
    _cause: OctoremixError | None = field(init=False, default=None)
    _halted: asyncio.Future[None] = field(init=False, factory=_future)
    _alone: asyncio.Lock = field(init=False, factory=asyncio.Lock)
    _proven: bool = field(init=False, default=False)
    _doubts: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.budget = Budget(self._limits.max_jobs, self._paid)

    def __repr__(self) -> str:
        return f"<Purchases, {self._doubts} in doubt: {self.stopped or 'going on'}>"

    def stop(self, why: str, cause: OctoremixError | None = None) -> None:
        """Buy nothing more; also what is not sent yet is not sent."""
        if self.stopped is None:
            self.stopped, self._cause = why, cause
            log.warning("the batch buys nothing more: %s", why)
            self._halted.set_result(None)
            self._on_stop()

    def ended(self, error: OctoremixError) -> None:
        """Draw the consequences of a wait that ended in an error."""
        if concerns_all(error):
            self.stop(str(error), error)

    async def bought(self, request: RemixRequest) -> Bought:
        """Buy one job, or take up what was bought before.

        Raises:
            NotSubmittedError: Nothing is bought any more.
            OctoremixError: It could not be bought, or may have been, or ended badly before.
        """
        try:
            await self.budget.count([request.key])
        except JournalError as error:
            if self.stopped is None:
                self.ended(error)
                raise
        if self.budget.limited or not self._proven:
            # A stored result needs no place in the budget, and no turn of its own.
            known = await self._known(request)
            if known is not None:
                return known
        try:
            return await self._newly_bought(request)
        except NotSubmittedError:
            known = await self._known(request)
            if known is None:
                raise
            return known

    async def _known(self, request: RemixRequest) -> Bought | None:
        """Return a job that was bought before, or ``None``."""
        if self._paid is None or request.key is None:
            return None
        try:
            return await self._buy(request, known_only=True)
        except (NotSubmittedError, RateLimitError, APIConnectionError):
            return None  # also where another item of the same key was just not accepted
        except OctoremixError as error:
            if self.stopped is not None and concerns_all(error):
                return None  # what is told is why it was not bought
            self._judge(error)
            raise

    async def _newly_bought(self, request: RemixRequest) -> Bought:
        """Buy one job within the budget; after a 429 it is put back."""
        if not await self.budget.take():
            self.stop(f"max_jobs={self._limits.max_jobs} jobs are paid for")
            raise self._not_submitted()
        spent = False
        try:
            while True:
                attempt = await self._in_turn(request)
                if not isinstance(attempt, RateLimitError):
                    spent = attempt.fresh
                    return attempt
                await asyncio.wait([self._halted], timeout=PUT_BACK)
        except OctoremixError as error:
            spent = is_doubt(error)
            raise
        finally:
            self.budget.settle(spent=spent)

    async def _in_turn(self, request: RemixRequest) -> Bought | RateLimitError:
        """Buy one job, alone as long as none was accepted."""
        if not self._proven:
            async with self._alone:
                if not self._proven:  # by whoever had the turn before
                    return await self._sent(request)
        return await self._sent(request)

    async def _sent(self, request: RemixRequest) -> Bought | RateLimitError:
        """Buy one job, and try again a few times where nothing could be sent."""
        judged: list[OctoremixError] = []

        def failed(error: OctoremixError) -> None:
            # At once, so that no other job leaves between a doubt too many and the stop.
            judged.append(error)
            self._judge(error)

        unsent = 0
        while self.stopped is None:
            try:
                bought = await self._buy(request, halted=self._halted, failed=failed)
            except RateLimitError as error:
                return error
            except APIConnectionError as error:
                unsent += 1
                if unsent == MOST_UNSENT:
                    self.stop(f"the gateway can't be reached: {error}", error)
                    raise
                await asyncio.wait([self._halted], timeout=PUT_BACK)
            except NotSubmittedError:
                pass  # this batch stopped, or another that was just buying what has the same key
            except OctoremixError as error:
                if error not in judged:
                    self._judge(error)
                raise
            else:
                self._proven = self._proven or bought.fresh
                return bought
        raise self._not_submitted()

    def _judge(self, error: OctoremixError) -> None:
        """Draw the consequences of a submit that failed."""
        if is_doubt(error) and tells_of_gateway(error):
            self._doubts += 1
            if self._doubts > self._limits.max_in_doubt:
                last = isinstance(error, SubmitOutcomeUnknownError) and error.reason
                self.stop(
                    f"{self._doubts} jobs are in doubt: they may have been charged, as might the "
                    f"next; the last: {last or error}",
                    error,
                )
        if isinstance(error, ConfigurationError):  # the item itself was checked before
            self.stop(str(error), error)
        self.ended(error)

    def _not_submitted(self) -> NotSubmittedError:
        error = NotSubmittedError(
            f"the job was not bought, and is free to run again, for the batch stopped: {self.stopped}"
        )
        error.__cause__ = self._cause
        return error
