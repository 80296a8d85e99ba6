"""From what a caller asks for to the order that is submitted, and to its future."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator
from types import EllipsisType

from attrs import frozen

from ._journal import Job, State
from ._poller import Poller
from ._recovery import Recovery
from ._submit import ENDED_BADLY, Order, Submitter
from ._wire import Reading
from .errors import APITimeoutError, ConfigurationError, OctoremixError
from .futures import RemixFuture
from .models import RemixRequest, with_key
from .policies import check_seconds

__all__ = ["Bought", "Buyer", "seconds_left"]


@frozen
class Bought:
    """A job that the gateway accepted: now (``fresh``), or before."""

    future: RemixFuture
    fresh: bool


class Buyer:
    """Buys jobs for a session.

    Args:
        submitter: Sends them.
        poller: Follows them.
        recovery: Takes up what the journal knows; ``None`` without a journal.
        deadline: Seconds after which a task is given up, or ``None``; the caller's comes first.
        bind: Returns the event loop of the session, or raises where it can't be used.
    """

    def __init__(
        self,
        submitter: Submitter,
        poller: Poller,
        recovery: Recovery | None,
        *,
        deadline: float | None,
        bind: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        self._submitter = submitter
        self._poller = poller
        self._recovery = recovery
        self._deadline = deadline
        self._bind = bind
        self._keys = _keys_of_our_own()

    def __repr__(self) -> str:
        return f"<Buyer for {self._submitter}>"

    def deadline(self, given: float | EllipsisType | None) -> float | None:
        """Return the deadline of a task: what its caller gave, or the policy's for ``...``."""
        if given is ...:
            return self._deadline
        check_seconds("deadline", given, none=True)
        return given

    def recovery(self) -> Recovery:
        """Return what takes up jobs of the journal.

        Raises:
            ConfigurationError: The session has no journal.
        """
        self._bind()
        if self._recovery is None:
            raise ConfigurationError(
                "the session has no journal: pass journal='remixes.db', or any other path"
            )
        return self._recovery

    async def buy(
        self,
        request: RemixRequest,
        *,
        deadline: float | EllipsisType | None = ...,
        source: RemixFuture | None = None,
        end: float | None = None,
        retry_failed: bool = False,
        again: frozenset[State] = frozenset(),
        attempt: int | None = None,
        known_only: bool = False,
        halted: asyncio.Future[None] | None = None,
        failed: Callable[[OctoremixError], None] | None = None,
        needs_journal: bool = True,
    ) -> Bought:
        """Buy one job, or take up that of its key.

        Args:
            request: The job.
            deadline: See `Session.submit`.
            source: The future of its source, which is awaited first.
            end: The time of the event loop until which the caller waits, or ``None``.
            retry_failed: See `Session.submit`.
            again: The states in the journal from which it is bought once more.
            attempt: The attempt that those states must be of, or ``None``.
            known_only: Buy nothing: take up what was bought before.
            halted: Done once it is not to be bought any more, or ``None``.
            failed: Told of an attempt that failed, before another job may be sent, or ``None``.
            needs_journal: Whether a key without a journal is an error, or means nothing.

        Raises:
            OctoremixError: As `Session.submit` raises.
            NotSubmittedError: It was not bought before, and was not to be, or it was halted.
        """
        seconds = self.deadline(deadline)
        loop = self._bind()
        named = request.key is not None and (needs_journal or self._recovery is not None)
        if named:
            self.recovery()
        elif self._recovery is not None:
            request = with_key(request, next(self._keys))
        if source is not None:
            await source.wait(seconds_left(loop, end))
            self._bind()
        self._poller.check(adding=self._submitter.pending)
        left = seconds_left(loop, end)
        if left == 0:
            raise APITimeoutError("the time was over before anything was sent or bought")
        fresh = False

        def accept(accepted: Reading) -> RemixFuture:
            nonlocal fresh
            fresh = True
            return self._poller.follow(
                accepted.task_id, deadline=seconds, request=request, accepted=accepted
            )

        def take_up(job: Job) -> RemixFuture:
            return self.recovery().take_up(job, request, seconds)

        order = Order(
            request=request,
            accept=accept,
            take_up=take_up,
            named=named,
            again=again | ENDED_BADLY if retry_failed else again,
            attempt=attempt,
            known_only=known_only,
            halted=halted,
            failed=failed,
        )
        future = await self._submitter.submit(order, timeout=left)
        return Bought(future, fresh)


def _keys_of_our_own() -> Iterator[str]:
    """Return keys that nobody else makes; in order, so that the journal has neighbours together."""
    numbered = f"{secrets.token_hex(12)}-{{:06}}"
    return map(numbered.format, itertools.count(1))


def seconds_left(loop: asyncio.AbstractEventLoop, end: float | None) -> float | None:
    """Return how long a caller still waits, or ``None`` for as long as it takes."""
    return None if end is None else max(0.0, end - loop.time())
