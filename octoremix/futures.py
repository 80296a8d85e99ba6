"""The future of one task: a passive container that others settle and anyone may await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Context, copy_context
from typing import Any, Protocol

from ._wire import Reading
from .errors import OctoremixError, RemixError, SessionClosedError, WaitTimeoutError, quoted
from .models import RemixRequest, TaskStatus, Video

__all__ = ["RemixFuture"]

_Callback = Callable[["RemixFuture"], object]
_Waiters = set["asyncio.Future[None]"]


class _Follower(Protocol):
    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...

    def detach(self, task_id: str) -> None: ...


class RemixFuture:
    """A task that is followed, and the video that it becomes.

    It can be awaited by any number of callers, any number of times, also after it is done. Every
    waiter is isolated: cancelling one, or letting it time out, touches neither the task nor the
    poller nor another waiter. Nothing has to await it: the task is followed all the same, and an
    outcome that nobody asks for warns nobody.

    Awaiting gives the completed `Video`, or raises:

    Raises:
        RemixError: The task ended without a video; see its subclasses.
        WaitError: We stopped waiting and the task may go on; see its subclasses.
        TaskNotFoundError: A tracked id that the gateway does not know.
        SessionClosedError: The session was closed before the end.

    There is no ``cancel``: the API has none, and the task would go on and be billed. See `detach`.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_error",
        "_follower",
        "_id",
        "_readers",
        "_reading",
        "_request",
        "_settled",
        "_waiters",
    )

    def __init__(
        self,
        task_id: str,
        follower: _Follower | None,
        *,
        request: RemixRequest | None = None,
        reading: Reading | None = None,
    ) -> None:
        self._id = task_id
        self._follower = follower
        self._request = request
        self._reading = reading
        self._error: OctoremixError | None = None
        self._settled = False
        # Made when needed: most of many futures have one waiter or none.
        self._waiters: _Waiters | None = None
        self._readers: _Waiters | None = None
        self._callbacks: list[tuple[_Callback, Context]] | None = None

    @classmethod
    def _completed(cls, reading: Reading, request: RemixRequest | None) -> RemixFuture:
        """Return the future of a task whose video is known already; for the journal alone."""
        future = cls(reading.task_id, None, request=request, reading=reading)
        future._settled = True
        return future

    def __repr__(self) -> str:
        if self._error is not None:
            state = type(self._error).__name__
        else:
            state = f"{self.status}" if self._settled else f"following, {self.status}"
        return f"<RemixFuture {quoted(self._id)}: {state}>"

    @property
    def id(self) -> str:
        """The id of the task, known as soon as the gateway accepted it."""
        return self._id

    @property
    def request(self) -> RemixRequest | None:
        """What was submitted, or ``None`` for a task that was only tracked."""
        return self._request

    @property
    def video(self) -> Video | None:
        """The last snapshot seen, or ``None`` before the first."""
        return None if self._reading is None else self._reading.video

    @property
    def status(self) -> TaskStatus:
        """The last status seen; ``UNKNOWN`` before the first snapshot."""
        return TaskStatus.UNKNOWN if self._reading is None else self._reading.status

    @property
    def progress(self) -> float | None:
        """The last progress seen, per cent from 0 to 100, or ``None``."""
        return None if self._reading is None else self._reading.video.progress

    def done(self) -> bool:
        """Whether the wait is over, whichever way."""
        return self._settled

    def cancelled(self) -> bool:
        """Return ``False``: a task can't be cancelled, and a waiter's cancellation is its own."""
        return False

    def result(self) -> Video:
        """Return the completed video or raise what happened instead.

        Raises:
            asyncio.InvalidStateError: It is not done yet.
            OctoremixError: As when it is awaited.
        """
        error = self.exception()
        if error is not None:
            raise error.with_traceback(None)
        assert self._reading is not None
        return self._reading.video

    def exception(self) -> OctoremixError | None:
        """Return the error that awaiting raises, or ``None`` if there is a video.

        Raises:
            asyncio.InvalidStateError: It is not done yet.
        """
        if not self._settled:
            raise asyncio.InvalidStateError(f"task {quoted(self._id)} is still followed")
        return self._error

    def __await__(self) -> Generator[Any, None, Video]:
        while not self._settled:
            if self._waiters is None:
                self._waiters = set()
            yield from self._join(self._waiters).__await__()
        return self.result()

    async def wait(self, timeout: float | None = None) -> Video:
        """Await the video, at most so many seconds.

        Unlike the future itself this is a coroutine, which `asyncio.TaskGroup.create_task` takes.

        Args:
            timeout: Seconds, or ``None`` to wait as long as the task is followed.

        Raises:
            WaitTimeoutError: The time is over; the task stays followed.
            OctoremixError: As when the future is awaited.
        """
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                return await self
        except TimeoutError:
            if not deadline.expired():
                raise
        raise WaitTimeoutError(
            f"task {quoted(self._id)} was not done within {timeout:g} s "
            f"(last seen {self.status}); it stays followed and is billed",
            id=self._id,
            video=self.video,
        )

    async def updates(self) -> AsyncGenerator[Video, None]:
        """Yield each changed snapshot, the newest where the reader is slow, the terminal one last.

        A task that ends without a video ends the iteration with its last snapshot; the error is
        for those who await the future.

        Raises:
            WaitError: We stopped waiting before the task's end.
        """
        seen = None
        while True:
            video, settled = self.video, self._settled
            if video is not None and video != seen:
                seen = video
                yield video
            elif settled:
                break
            else:
                if self._readers is None:
                    self._readers = set()
                await self._join(self._readers)
        if self._error is not None and not isinstance(self._error, RemixError):
            raise self._error.with_traceback(None)

    def add_done_callback(self, fn: _Callback, *, context: Context | None = None) -> None:
        """Call ``fn(self)`` soon after the future is done, as `asyncio.Future` does."""
        entry = fn, context or copy_context()
        if self._settled:
            self._call(*entry)
        elif self._callbacks is None:
            self._callbacks = [entry]
        else:
            self._callbacks.append(entry)

    def remove_done_callback(self, fn: _Callback) -> int:
        """Take a callback back and return how many times it had been added."""
        kept = [entry for entry in self._callbacks or () if entry[0] != fn]
        removed = len(self._callbacks or ()) - len(kept)
        self._callbacks = kept or None
        return removed

    def detach(self) -> None:
        """Stop following the task; its waiters get `DetachedError`. It goes on and is billed."""
        if self._follower is not None:
            self._follower.detach(self._id)

    def _observe(self, reading: Reading) -> None:
        """Take in an answer; for the poller alone."""
        self._reading = reading
        readers, self._readers = self._readers, None
        _wake(readers)

    def _settle(self, outcome: Video | OctoremixError) -> None:
        """End the wait with the video that was observed last, or an error; for the poller alone."""
        self._error = outcome if isinstance(outcome, OctoremixError) else None
        self._settled = True
        self._follower = None
        readers, self._readers = self._readers, None
        waiters, self._waiters = self._waiters, None
        _wake(readers)
        _wake(waiters)
        callbacks, self._callbacks = self._callbacks, None
        for fn, context in callbacks or ():
            self._call(fn, context)

    def _call(self, fn: _Callback, context: Context) -> None:
        asyncio.get_running_loop().call_soon(fn, self, context=context)

    def _join(self, waiters: _Waiters) -> asyncio.Future[None]:
        """Add a waiter of the caller's own, so that its cancellation concerns nobody else."""
        loop = asyncio.get_running_loop()
        if self._follower is not None and self._follower.loop not in {loop, None}:
            raise SessionClosedError(
                f"task {quoted(self._id)} is followed in another event loop: await it there",
                id=self._id,
            )
        waiter = loop.create_future()
        waiters.add(waiter)
        waiter.add_done_callback(waiters.discard)
        return waiter


def _wake(waiters: _Waiters | None) -> None:
    for waiter in tuple(waiters or ()):
        if not waiter.done():
            waiter.set_result(None)
