"""What runs a batch: takes items as there is room, has them bought, waits for them, saves them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
)
from contextlib import suppress
from functools import partial

from attrs import define, field

from ..errors import JournalError, OctoremixError, printable
from ..futures import RemixFuture
from ..models import RemixRequest, Video
from .budget import Paid
from .purchases import Buy, Limits, Purchases
from .saving import Saver
from .values import BatchEvent, Item, Outcome, item_of, note_step, steps_of, with_source

__all__ = ["Engine", "Requests"]

log = logging.getLogger("octoremix")

Requests = Iterable[object] | AsyncIterable[object]

CHUNK = 256
"""How many items are looked at before the event loop gets a turn."""


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
    _paid: Paid | None
    _notify: Callable[[BatchEvent], object] | None

    _source: AsyncIterator[object] | Iterator[object] = field(init=False)
    _purchases: Purchases = field(init=False)
    _running: dict[int, list[str]] = field(init=False, factory=dict)
    _items: set[asyncio.Task[None]] = field(init=False, factory=set)
    _finished: deque[Outcome] = field(init=False, factory=deque)
    _waiting_for_turn: dict[int, Outcome] = field(init=False, factory=dict)
    _next_index: int = field(init=False, default=0)
    _taken: int = field(init=False, default=0)
    _pulling: asyncio.Task[object] | None = field(init=False, default=None)
    _exhausted: bool = field(init=False, default=False)
    _broken: BaseException | None = field(init=False, default=None)
    _changed: asyncio.Event = field(init=False, factory=asyncio.Event)
    _preparing: asyncio.Task[None] | None = field(init=False, default=None)
    _left: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._purchases = Purchases(self._buy, self._limits, self._paid, self._changed.set)
        if isinstance(self._requests, AsyncIterable):
            self._source = aiter(self._requests)
        else:
            self._source = iter(self._requests)

    def __repr__(self) -> str:
        return f"<Engine of {len(self._running)} items>"

    @property
    def stopped(self) -> str | None:
        """Why nothing more is bought, or ``None``."""
        return self._purchases.stopped

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

    def stop(self, why: str) -> None:
        """Buy nothing more; what was bought is finished, the rest is told that it was not."""
        self._purchases.stop(why)

    def leave(self) -> list[str]:
        """Let go of everything at once, and return the ids of tasks whose outcome nobody got."""
        if self._left:
            return []
        self._left = True
        finished = [*self._finished, *self._waiting_for_turn.values()]
        untold = self.ids + [outcome.id for outcome in finished if outcome.id is not None]
        for task in self._tasks():
            task.cancel()
        if untold:
            log.warning(
                "a batch was left early; nobody got the outcome of %d tasks, which go on and are "
                "billed: %s",
                len(untold),
                ", ".join(map(printable, untold)),
            )
        self._changed.set()
        return untold

    async def aclose(self) -> None:
        """Wait until all has ended that was let go."""
        assert self._preparing is not None
        # What is being prepared ends by itself, and somebody may wait for it.
        await asyncio.wait([*self._tasks(), self._preparing])
        if isinstance(self._source, AsyncIterator) and hasattr(self._source, "aclose"):
            with suppress(Exception):  # the user's own code, and nobody waits for it
                await self._source.aclose()

    def _tasks(self) -> list[asyncio.Task[None] | asyncio.Task[object]]:
        return [*self._items, *filter(None, [self._pulling])]

    async def _prepared(self) -> None:
        if self._preparing is None:
            self._preparing = asyncio.ensure_future(self._prepare())
        await asyncio.shield(self._preparing)

    async def _prepare(self) -> None:
        if self._saver is not None:
            await self._saver.prepare()
        if self._purchases.budget.limited and isinstance(self._requests, Collection):
            # What can be gone through twice is counted beforehand, the rest as it comes.
            with suppress(JournalError):  # which the first item meets with too, and tells
                await self._purchases.budget.count(await _keys(self._requests))

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
        if self._left:
            self._exhausted = True
        elif pulling.cancelled():  # by what the source itself awaited
            self._exhausted, self._broken = True, asyncio.CancelledError("the source was cancelled")
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
        self._running[index] = ids  # first, for a loop may run the beginning of a task at once
        task = asyncio.ensure_future(self._run(index, given, ids))
        self._items.add(task)
        task.add_done_callback(partial(self._ended, index))

    def _ended(self, index: int, task: asyncio.Task[None]) -> None:
        self._items.discard(task)
        self._running.pop(index, None)
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
        except (Exception, asyncio.CancelledError) as error:
            if self._left and isinstance(error, asyncio.CancelledError):
                raise
            log.exception("an item of the batch failed unexpectedly")
            failure = OctoremixError(f"it failed unexpectedly: {printable(repr(error))}")
            failure.__cause__ = error
            outcome = _with_error(outcome, failure, ids)
        del self._running[index]  # here, so that nobody ever finds the item in two places
        self._finished.append(outcome)
        self._changed.set()

    async def _made(self, index: int, item: Item, ids: list[str]) -> tuple[RemixRequest, Video]:
        """Buy what an item is made up of, one after the other, and return the last video."""
        video: Video | None = None
        for number, step in enumerate(steps_of(item), 1):
            request = with_source(step, video)
            try:
                bought = await self._purchases.bought(request)
                ids.append(bought.future.id)
                self._tell("submitted", index, request, bought.future.id, bought=bought.fresh)
                video = await self._video(bought.future)
            except OctoremixError as error:
                note_step(error, item, number)
                raise
        assert video is not None
        return request, video

    async def _video(self, future: RemixFuture) -> Video:
        try:
            return await future
        except OctoremixError as error:
            self._purchases.ended(error)
            raise

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
        # The user's code may raise anything; a cancelled future's result() is no Exception.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            asyncio.get_running_loop().call_exception_handler(
                {"message": "octoremix's on_progress callback failed", "exception": error}
            )


async def _keys(requests: Collection[object]) -> list[str]:
    keys: list[str] = []
    for number, given in enumerate(list(requests)):  # its owner may change it meanwhile
        if not number % CHUNK:
            await asyncio.sleep(0)
        with suppress(Exception):  # which its outcome will tell
            keys += [step.key for step in steps_of(item_of(given)) if step.key is not None]
    return keys


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
