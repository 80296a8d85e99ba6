"""One thread that writes: whatever comes while it is busy goes to the disk together.

A commit costs one wait for the disk, however much is in it. So none is made for each record: those
that come during a commit form the next one.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve, field

from ..errors import JournalBusyError, JournalError, OctoremixError, printable
from .bulk import Work, outcomes_of

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Writer"]

log = logging.getLogger("octoremix")

_T = TypeVar("_T")

MOST_TOGETHER = 1_000
"""Records in one commit at most: what comes next shall not wait long for it."""

PAUSE = 0.004
"""Seconds between two commits where records come thick: those that come meanwhile share the next.

A thread waits for its turn several times in a commit, and the event loop pays for each.
"""

THICK = 32
"""Records in one commit from which on they come thick."""

_AT_ONCE = 16
"""Futures that are settled in one turn of the loop: whoever waits for one has work to do then."""


@define(eq=False)  # two are made for each submit, and frozen ones take longer
class _Item:
    work: Work
    future: asyncio.Future[Any] = field(repr=False)
    undo: Work | None = None
    record: bool = False
    tried: bool = False


class Writer:
    """Runs work on a store, in its thread and in the order in which it comes.

    Args:
        open_store: Opens the store; called in the thread, before the first work.
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self._process: int | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="octoremix journal")
        self._waiting: list[_Item] = []
        self._committing: asyncio.Future[list[Any]] | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._settling: deque[tuple[_Item, Any]] = deque()
        # What could not be written and must not be lost: tried again before all that follows.
        self._unwritten: list[Work] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<Writer with {len(self._waiting)} records to write>"

    def run(
        self, work: Callable[[Store], _T], *, undo: Work | None = None, record: bool = False
    ) -> asyncio.Future[_T]:
        """Do some work; the result is there when the disk has it.

        Nobody needs to await the future: the work is done all the same.

        Args:
            work: What to do with the store, where it is `Bulk` together with its like. It is done
                again where that may help, so it must change nothing else.
            undo: Of work that announces a purchase, which is refused where its outcome might not be
                kept: what takes it back where nobody knows whether the disk has it.
            record: Whether it tells of a purchase that was made. It is kept until it is written.

        Raises:
            JournalError: It could not be written. Raised by the future.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._process = self._process or os.getpid()
        if self._process != os.getpid():
            why = "the journal was opened before this process was forked: open it after a fork"
            _fail(future, JournalError(why))
        elif self._closed:
            _fail(future, JournalError("the journal is closed"))
        else:
            self._waiting.append(_Item(work, future, undo, record))
            idle = self._committing is None and self._pause is None
            if idle and len(self._waiting) == 1:
                # With all that is asked for in this turn of the loop: it is one wait for the disk.
                asyncio.get_running_loop().call_soon(self._commit_next)
        return future

    async def flush(self) -> None:
        """Wait until all that was asked for until now is written, or has failed."""
        # Behind it in the line, and not until the line is empty: that may never be.
        await asyncio.wait([self.run(_nothing)])

    async def aclose(self) -> None:
        """Write what is left and let go of the store."""
        if self._closed or self._process not in {None, os.getpid()}:
            return
        while self._committing is not None or self._waiting or self._settling:
            self._commit_next()
            if self._committing is not None:
                await asyncio.wait([self._committing])
            await asyncio.sleep(0)
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _commit_next(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._committing is not None or not self._waiting:
            return
        together = self._waiting[:MOST_TOGETHER]
        del self._waiting[:MOST_TOGETHER]
        loop = asyncio.get_running_loop()
        try:
            self._committing = loop.run_in_executor(self._thread, self._commit, together)
        except RuntimeError as error:  # of a system without another thread, or at its very end
            failure = JournalError(f"the journal can't be written: {printable(error)}")
            self._tell(together, self._failed(together, failure))
            self._commit_next()
        else:
            self._committing.add_done_callback(lambda done: self._committed(together, done))

    def _committed(self, together: list[_Item], done: asyncio.Future[list[Any]]) -> None:
        self._committing = None
        outcomes: list[Any]
        if done.cancelled():  # by nobody but the end of the event loop
            outcomes = [JournalError("the journal was cancelled") for _ in together]
        else:
            outcomes = done.result()
        if len(together) < THICK:
            self._commit_next()
        else:
            self._pause = asyncio.get_running_loop().call_later(PAUSE, self._commit_next)
        self._tell(together, outcomes)

    def _tell(self, together: list[_Item], outcomes: Sequence[Any]) -> None:
        under_way = bool(self._settling)
        self._settling.extend(zip(together, outcomes, strict=True))
        if not under_way:
            self._settle()

    def _settle(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._settling))):
            item, outcome = self._settling.popleft()
            if item.future.done():
                continue
            if isinstance(outcome, BaseException):
                _fail(item.future, outcome)
            else:
                item.future.set_result(outcome)
        if self._settling:
            asyncio.get_running_loop().call_soon(self._settle)

    # All that follows runs in the thread.

    def _commit(self, together: list[_Item]) -> list[Any]:
        try:
            if self._store is None:
                self._store = self._open_store()
            store = self._store
        except Exception as error:  # noqa: BLE001  # each caller gets it
            return [_own(error) for _ in together]
        if self._unwritten:
            self._write_what_was_left(store)
        return self._write(store, together)

    def _write(self, store: Store, together: list[_Item]) -> list[Any]:
        """Write all of it, or each alone where one of them is to blame."""
        alone = len(together) == 1
        try:
            self._check_may_write(store, together)
        except JournalError as error:
            if alone:
                return self._failed(together, error)
            return [outcome for item in together for outcome in self._write(store, [item])]
        try:
            with store.transaction():
                return outcomes_of([item.work for item in together], store)
        except Exception as error:  # noqa: BLE001  # its caller gets it
            if alone or isinstance(error, JournalBusyError):
                return self._failed(together, error)
        return [outcome for item in together for outcome in self._write(store, [_again(item)])]

    def _check_may_write(self, store: Store, together: list[_Item]) -> None:
        buys = any(item.undo is not None for item in together)
        if self._unwritten and (buys or any(item.record for item in together)):
            told = " and nothing was sent" if buys else ""
            raise JournalError(
                f"{len(self._unwritten)} earlier records can't be written to the journal{told}: "
                "make room on its disk, or mend it"
            )
        if buys:
            store.check_room()

    def _failed(self, together: list[_Item], error: Exception) -> list[Exception]:
        """Keep what must not be lost, and return the error for each."""
        for item in together:
            if isinstance(error, JournalError) and item.record:
                self._unwritten.append(item.work)
            elif item.undo is not None and (
                item.tried or not (self._unwritten or isinstance(error, JournalBusyError))
            ):
                self._unwritten.append(item.undo)  # a commit may have come through all the same
        return [_own(error) for _ in together]

    def _write_what_was_left(self, store: Store) -> None:
        """Write it in the order in which it came, since one record may build on another."""
        while self._unwritten:
            try:
                with store.transaction():
                    (found,) = outcomes_of(self._unwritten[:1], store)
                if isinstance(found, JournalError):
                    log.error("a record fits the journal no more: %s", found)
            except JournalError:  # it was told when it failed first
                return
            except Exception:
                log.exception("a record can't be written to the journal, and never will be")
            del self._unwritten[0]

    def _close(self) -> None:
        if self._store is None:
            return
        self._write_what_was_left(self._store)
        if self._unwritten:
            log.error(
                "%d records could not be written to the journal: the ids of their tasks are in the "
                "log above",
                len(self._unwritten),
            )
        self._store.close()


def _nothing(_: Store) -> None:
    """Be done when all before it is."""


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    future.set_exception(error)
    future.exception()  # looked at: most records are awaited by nobody


def _again(item: _Item) -> _Item:
    """Return what to do after a commit failed of which nobody knows whether the disk has it."""
    work, undo = item.work, item.undo
    if undo is None:
        return item

    def anew(store: Store) -> Any:
        undo(store)
        return work(store)

    return evolve(item, work=anew, tried=True)


def _own(error: Exception) -> Exception:
    """Return an error for one of those that it concerns: each raises its own."""
    if isinstance(error, OctoremixError):
        return copy.copy(error)
    failed = JournalError(f"the journal failed: {type(error).__name__}: {printable(error)}")
    failed.__cause__ = error
    return failed
