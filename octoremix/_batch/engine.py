"""What runs a batch: takes items as there is room, buys them, waits for them, saves them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from attrs import define, field, frozen

from ..errors import (
    APIConnectionError,
    ConfigurationError,
    NotSubmittedError,
    OctoremixError,
    RateLimitError,
    RemixError,
    printable,
)
from ..futures import RemixFuture
from ..models import RemixRequest, Video
from .saving import Saver
from .stops import concerns_all, is_doubt
from .values import BatchEvent, Item, Outcome, item_of, steps_of, with_source

__all__ = ["Bought", "Engine", "Limits", "Requests"]

log = logging.getLogger("octoremix")

_PUT_BACK = 1.0
"""Seconds before an item that met with a 429 is tried again; the session's cool-down adds to it."""

MOST_UNSENT = 3
"""Submits of one item that could not even be sent, each with all its attempts, before all stop."""


@runtime_checkable
class Bought(Protocol):
    """A job that the gateway accepted: now (``fresh``), or in an earlier run."""

    @property
    def future(self) -> RemixFuture: ...

    @property
    def fresh(self) -> bool: ...


class Buy(Protocol):
    """Buys a job, or only takes up one that was bought before."""

    def __call__(
        self, request: RemixRequest, *, known_only: bool = False
    ) -> Coroutine[Any, Any, Bought]: ...


Requests = Iterable[object] | AsyncIterable[object]


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


@define(eq=False)
class _Budget:
    """How many jobs may still be paid for."""

    left: int | None
    counted: bool = False

    def take(self) -> bool:
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0

    def give_back(self) -> None:
        if self.left is not None:
            self.left += 1


@define(eq=False, repr=False)
class Engine:
    """Runs one batch.

    Args:
        requests: The items.
        buy: Buys one job.
        limits: How far it goes.
        ordered: Whether outcomes come in the order of the input.
        saver: Saves the videos, or ``None``.
        paid: Tells how many jobs of some keys were paid for before; ``None`` without a journal.
        notify: Told of every `BatchEvent`, or ``None``.
    """

    _requests: Requests
    _buy: Buy
    _limits: Limits
    _ordered: bool
    _saver: Saver | None
    _paid: Callable[[Sequence[str]], Awaitable[int]] | None
    _notify: Callable[[BatchEvent], object] | None

    _source: AsyncIterator[object] | Iterator[object] = field(init=False)
    stopped: str | None = field(init=False, default=None)
    _cause: OctoremixError | None = field(init=False, default=None)
    _running: dict[asyncio.Task[None], list[str]] = field(init=False, factory=dict)
    _finished: deque[Outcome] = field(init=False, factory=deque)
    _waiting_for_turn: dict[int, Outcome] = field(init=False, factory=dict)
    _next_index: int = field(init=False, default=0)
    _taken: int = field(init=False, default=0)
    _pulling: asyncio.Task[object] | None = field(init=False, default=None)
    _exhausted: bool = field(init=False, default=False)
    _broken: BaseException | None = field(init=False, default=None)
    _changed: asyncio.Event = field(init=False, factory=asyncio.Event)
    _preparing: asyncio.Task[None] | None = field(init=False, default=None)
    _alone: asyncio.Lock = field(init=False, factory=asyncio.Lock)
    _proven: bool = field(init=False, default=False)
    _doubts: int = field(init=False, default=0)
    _budget: _Budget = field(init=False)
    _left: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._budget = _Budget(self._limits.max_jobs)
        if isinstance(self._requests, AsyncIterable):
            self._source = aiter(self._requests)
        else:
            self._source = iter(self._requests)

    def __repr__(self) -> str:
        return f"<Engine of {len(self._running)} items>"

    @property
    def ids(self) -> list[str]:
        """The tasks that are waited for."""
        return [ids[-1] for ids in self._running.values() if ids]

    @property
    def held(self) -> int:
        """How many items were taken and not yet given back."""
        finished = len(self._finished) + len(self._waiting_for_turn)
        return len(self._running) + finished + (self._pulling is not None)

    async def next(self) -> Outcome:
        """Return the next outcome.

        Raises:
            StopAsyncIteration: There is none left.
            ConfigurationError: The folder for the videos can't be used.
        """
        await self._prepared()
        while True:
            self._changed.clear()
            outcome = self._ready()
            self._fill()
            if outcome is not None:
                return outcome
            if self._left or (self._exhausted and not self.held):
                if self._broken is not None:
                    broken, self._broken = self._broken, None
                    raise broken
                raise StopAsyncIteration
            await self._changed.wait()

    def stop(self, why: str, cause: OctoremixError | None = None) -> None:
        """Buy nothing more; what was bought is finished, the rest is told that it was not."""
        if self.stopped is None:
            self.stopped, self._cause = why, cause
            log.warning("the batch buys nothing more: %s", why)
            self._changed.set()

    def leave(self) -> list[str]:
        """Let go of everything at once, and return the ids of the tasks that go on."""
        if self._left:
            return []
        self._left = True
        going_on = self.ids
        for task in [*self._running, self._pulling, self._preparing]:
            if task is not None:
                task.cancel()
        if going_on:
            log.warning(
                "a batch was left early; %d tasks go on and are billed: %s",
                len(going_on),
                ", ".join(map(printable, going_on)),
            )
        self._changed.set()
        return going_on

    async def aclose(self) -> list[str]:
        """Let go of everything, and wait until it has let go."""
        going_on = self.leave()
        tasks = [*self._running, *filter(None, [self._pulling, self._preparing])]
        if tasks:
            await asyncio.wait(tasks)
        if isinstance(self._source, AsyncIterator) and hasattr(self._source, "aclose"):
            with suppress(Exception):  # the user's own code, and nobody waits for it
                await self._source.aclose()
        return going_on

    async def _prepared(self) -> None:
        if self._preparing is None:
            self._preparing = asyncio.ensure_future(self._prepare())
        await asyncio.shield(self._preparing)

    async def _prepare(self) -> None:
        if self._saver is not None:
            await self._saver.prepare()
        if self._budget.left is None or self._paid is None:
            return
        if isinstance(self._requests, Collection):  # which can be gone through twice
            paid = await self._paid(list(_keys(self._requests)))
            self._budget = _Budget(self._budget.left - paid, counted=True)

    def _ready(self) -> Outcome | None:
        """Return an outcome that may be given out now."""
        if not self._ordered:
            return self._finished.popleft() if self._finished else None
        while self._finished:
            outcome = self._finished.popleft()
            self._waiting_for_turn[outcome.index] = outcome
        outcome_due = self._waiting_for_turn.pop(self._next_index, None)
        if outcome_due is not None:
            self._next_index += 1
        return outcome_due

    def _fill(self) -> None:
        """Take items from the input as long as there is room."""
        while not self._exhausted and not self._left and self.held < self._limits.concurrency:
            if isinstance(self._source, AsyncIterator):
                if self._pulling is None:
                    self._pulling = asyncio.ensure_future(_pulled(self._source))
                    self._pulling.add_done_callback(self._pulled)
                return
            try:
                given = next(self._source)
            except StopIteration:
                self._exhausted = True
            except Exception as error:  # noqa: BLE001  # the user's: raised when the rest is done
                self._exhausted, self._broken = True, error
            else:
                self._start(given)

    def _pulled(self, pulling: asyncio.Task[object]) -> None:
        self._pulling = None
        if self._left or pulling.cancelled():
            self._exhausted = True
        elif (error := pulling.exception()) is None:
            given = pulling.result()
            if given is _END:
                self._exhausted = True
            else:
                self._start(given)
                self._fill()
        else:
            self._exhausted, self._broken = True, error
        self._changed.set()

    def _start(self, given: object) -> None:
        index = self._taken
        self._taken += 1
        ids: list[str] = []
        task = asyncio.ensure_future(self._run(index, given, ids))
        self._running[task] = ids
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and task.exception() is not None:
            task.get_loop().call_exception_handler(
                {"message": "an item of a batch failed", "exception": task.exception()}
            )
        self._changed.set()

    async def _run(self, index: int, given: object, ids: list[str]) -> None:
        """Bring one item to its outcome."""
        outcome = Outcome(index=index, request=given)
        try:
            item = item_of(given)
            outcome = Outcome(index=index, request=item)
            request, video = await self._made(index, item, ids)
            outcome = Outcome(index=index, request=item, id=video.id, video=video)
            if self._saver is not None:
                self._tell("finished", index, request, video.id, video=video)
                path = await self._saver.save(video, request, index)
                outcome = Outcome(index=index, request=item, id=video.id, video=video, path=path)
        except OctoremixError as error:
            outcome = _with_error(outcome, error, ids)
        except Exception as error:
            log.exception("an item of the batch failed unexpectedly")
            failure = OctoremixError(f"it failed unexpectedly: {printable(repr(error))}")
            failure.__cause__ = error
            outcome = _with_error(outcome, failure, ids)
        self._finished.append(outcome)
        self._changed.set()

    async def _made(self, index: int, item: Item, ids: list[str]) -> tuple[RemixRequest, Video]:
        """Buy what an item is made up of, one after the other, and return the last video."""
        video: Video | None = None
        for step in steps_of(item):
            request = with_source(step, video)
            bought = await self._bought(request)
            future = bought.future
            ids.append(future.id)
            self._tell("submitted", index, request, future.id, bought=bought.fresh)
            try:
                video = await future
            except OctoremixError as error:
                if concerns_all(error):
                    self.stop(str(error), error)
                raise
        assert video is not None
        return request, video

    async def _bought(self, request: RemixRequest) -> Bought:
        """Buy one job, alone as long as none was accepted."""
        unsent = 0
        while True:
            if self.stopped is not None or self._budget.left is not None:
                known = await self._known(request)
                if known is not None:
                    return known
            if self._proven:
                attempt = await self._attempt(request)
            else:
                async with self._alone:
                    attempt = await self._attempt(request)
            if isinstance(attempt, Bought):
                return attempt
            if isinstance(attempt, APIConnectionError):
                unsent += 1
                if unsent >= MOST_UNSENT:
                    self.stop(f"the gateway can't be reached: {attempt}", attempt)
                    raise attempt
            await asyncio.sleep(_PUT_BACK)

    async def _known(self, request: RemixRequest) -> Bought | None:
        """Return a job that was bought before, since nothing may be bought now, or not freely."""
        try:
            known = await self._buy(request, known_only=True)
        except NotSubmittedError:
            return None
        except OctoremixError as error:
            if not self._budget.counted and (is_doubt(error) or isinstance(error, RemixError)):
                self._budget.take()
            self._count_doubt(error)
            raise
        if not self._budget.counted:
            self._budget.take()
        return known

    async def _attempt(self, request: RemixRequest) -> Bought | OctoremixError:
        """Buy one job, or return why it is put back."""
        if self.stopped is not None:
            raise self._not_submitted()
        if not self._budget.take():
            self._budget.give_back()
            self.stop(f"max_jobs={self._limits.max_jobs} jobs are paid for")
            raise self._not_submitted()
        try:
            bought = await self._buy(request)
        except (RateLimitError, APIConnectionError) as error:
            self._budget.give_back()
            if isinstance(error, RateLimitError) or not self._left:
                return error
            raise
        except OctoremixError as error:
            self._judge(error)
            raise
        if bought.fresh:
            self._proven = True
        return bought

    def _judge(self, error: OctoremixError) -> None:
        """Draw the consequences of a submit that failed."""
        if not is_doubt(error):
            self._budget.give_back()
        self._count_doubt(error)
        if concerns_all(error):
            self.stop(str(error), error)

    def _count_doubt(self, error: OctoremixError) -> None:
        if not is_doubt(error):
            return
        self._doubts += 1
        if self._doubts > self._limits.max_in_doubt:
            self.stop(
                f"{self._doubts} jobs are in doubt: they may have been charged, as might the next; "
                f"the last: {error}",
                error,
            )

    def _not_submitted(self) -> NotSubmittedError:
        error = NotSubmittedError(
            f"nothing was bought, and the job is free to run again, for the batch stopped: "
            f"{self.stopped}"
        )
        error.__cause__ = self._cause
        return error

    def _tell(
        self,
        kind: str,
        index: int,
        request: RemixRequest,
        id: str,
        *,
        bought: bool = False,
        video: Video | None = None,
    ) -> None:
        if self._notify is None:
            return
        event = BatchEvent(
            kind=kind, index=index, request=request, id=id, bought=bought, video=video
        )
        try:
            self._notify(event)
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            asyncio.get_running_loop().call_exception_handler(
                {"message": "octoremix's on_progress callback failed", "exception": error}
            )


def _keys(requests: Collection[object]) -> Iterator[str]:
    for given in requests:
        with suppress(ConfigurationError):  # which its outcome will tell
            yield from (step.key for step in steps_of(item_of(given)) if step.key is not None)


_END = object()


async def _pulled(source: AsyncIterator[object]) -> object:
    # StopAsyncIteration can't be a task's outcome.
    return await anext(source, _END)


def _with_error(outcome: Outcome, error: OctoremixError, ids: list[str]) -> Outcome:
    video = outcome.video or getattr(error, "video", None)
    return Outcome(
        index=outcome.index,
        request=outcome.request,
        id=error.id or (ids[-1] if ids else None),
        video=video,
        error=error,
    )
