"""One command, from its first coroutine to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import Factory, define, field

from .. import (
    Event,
    JournalError,
    OctoremixError,
    PollPolicy,
    RemixFuture,
    RemixRequest,
    Session,
    SessionClosedError,
    SQLiteJournal,
    SubmitOutcomeUnknownError,
    TaskLostError,
    Video,
    WaitError,
)
from ..errors import printable
from ._doubt_words import tell_how_to_settle
from ._exit import Code, gravest, message_of, verdict_on
from ._options import Connection
from ._output import Output, OutputClosedError
from ._signals import caught

__all__ = ["Run", "Work", "all_of", "execute"]

GRACE = 10.0
"""Seconds that the answer to a submit is waited for when we are told to stop."""

_SIGNALS = {
    signal.SIGINT: (Code.INTERRUPTED, "interrupted"),
    signal.SIGTERM: (Code.TERMINATED, "terminated"),
}


@define(eq=False)
class Run:
    """What a command knows and has found out.

    Attributes:
        output: Where its words go.
        connection: How to reach the gateway, and what the commands that follow need for it.
        quiet: Whether acceptances are not worth a line each.
        billed: Whether jobs that go on cost anything.
        endless: Whether a signal is the way to end it.
        finish: Called at the first Ctrl-C, to finish what runs and begin nothing new; without it
            Ctrl-C ends the command at once, as a second one does.
        noticed: Told of every event of the session.
        journalled: Whether what is bought is recorded.
    """

    output: Output
    connection: Connection = Factory(Connection)
    quiet: bool = False
    billed: bool = True
    endless: bool = False
    finish: Callable[[], object] | None = None
    noticed: Callable[[Event], object] | None = None
    journalled: bool = field(init=False, default=False)
    _last_bought: str | None = field(init=False, default=None)
    _codes: list[Code] = field(init=False, factory=list)
    _going_on: dict[str, Video | None] = field(init=False, factory=dict)
    _stopped: Code | None = field(init=False, default=None)

    @property
    def exit_code(self) -> Code:
        """The gravest of what has happened."""
        return gravest([*self._codes, *([self._stopped] if self._stopped is not None else [])])

    @contextlib.asynccontextmanager
    async def session(
        self,
        poll: PollPolicy,
        journal: Path | SQLiteJournal | None = None,
        *,
        needed: bool = True,
        rate_limit: float | None = None,
    ) -> AsyncIterator[Session]:
        """Open the session.

        Args:
            poll: How tasks are followed.
            journal: Where what is bought is recorded, or ``None``.
            needed: Whether a journal that can't be used is an error; else it is done without.
            rate_limit: The most requests a second, or ``None``.

        Raises:
            ConfigurationError: A setting is missing or malformed.
            JournalError: The journal can't be used; nothing was sent.
        """
        make = partial(
            self.connection.session, self.output, poll, self.notice, rate_limit=rate_limit
        )
        async with contextlib.AsyncExitStack() as stack:
            session = make(journal=journal)
            try:
                await stack.enter_async_context(session)
            except JournalError as error:
                await session.aclose()
                if needed:
                    raise
                self.output.warn(f"{error}; what this command learns is not recorded")
                journal = None
                session = await stack.enter_async_context(make())
            self.journalled = journal is not None
            yield session

    def notice(self, event: Event) -> None:
        """Take notice of an event of the session."""
        if self.noticed is not None:
            self.noticed(event)
        if event.kind == "accepted":
            self._last_bought = event.id
        if event.kind == "cool_down" and (event.delay or 0) >= 2:
            self.output.note(f"the gateway asks to wait: paused for {event.delay:.0f} s", "dim")

    def goes_on(self, id: str, video: Video | None = None) -> None:
        """Remember that a task is followed: if we must stop, the user needs its id."""
        self._going_on[id] = video

    def ended(self, id: str) -> None:
        """Remember that a task is done with, whichever way."""
        self._going_on.pop(id, None)

    def code(self, code: Code) -> None:
        """Take an exit code into account."""
        self._codes.append(code)

    async def submit(
        self, session: Session, request: RemixRequest, *, retry_failed: bool = False
    ) -> RemixFuture:
        """Buy one job; see `buy`."""
        return await self.buy(
            session,
            session.submit(
                request.video_id,
                prompt=request.prompt,
                model=request.model,
                extra=request.extra,
                key=request.key,
                retry_failed=retry_failed,
            ),
        )

    async def buy(
        self, session: Session, purchase: Coroutine[Any, Any, RemixFuture]
    ) -> RemixFuture:
        """Buy one job. If we are told to stop meanwhile, find out first what became of it."""
        buying = asyncio.ensure_future(purchase)
        try:
            future = await asyncio.shield(buying)
        except asyncio.CancelledError:
            await self._settle(session, buying)
            raise
        self._accepted(future)
        return future

    async def _settle(self, session: Session, buying: asyncio.Future[RemixFuture]) -> None:
        if session.stats.requests_in_flight:
            self.output.note(
                f"waiting at most {GRACE:.0f} s for the answer to a submit that is out, to learn "
                "its id; the same signal again gives it up"
            )
        # A second signal cancels the wait; closing then still ends the purchase.
        with contextlib.suppress(asyncio.CancelledError):
            await session.aclose(GRACE)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([buying], timeout=1)
        try:
            self._accepted(buying.result())
        except SubmitOutcomeUnknownError as error:
            self.failed(error)
        except (OctoremixError, asyncio.CancelledError):
            self.output.note("nothing was bought")

    def _accepted(self, future: RemixFuture) -> None:
        self.goes_on(future.id, future.video)
        known = self.journalled and future.id != self._last_bought
        if not self.quiet:
            word = "bought before" if known else "accepted"
            self.output.note(f"{word}: {printable(future.id)}")
        self.output.event("known" if known else "accepted", id=future.id, video=future.video)

    def let_go(self, future: RemixFuture) -> None:
        """Tell the id of a job that is not waited for."""
        self.ended(future.id)
        if not self.output.json:
            self.output.write(printable(future.id))
        self.output.note(f"to follow: {self.connection.command('watch', ids=[future.id])}")

    async def follow(self, future: RemixFuture, changed: Callable[[Video], object]) -> Video:
        """Await a task's video, and tell each new snapshot.

        Raises:
            OctoremixError: As when the future is awaited.
        """
        async for video in future.updates():
            known = self._going_on.get(future.id)
            self.goes_on(future.id, video)
            changed(video)
            if video != known and not video.status.terminal:
                self.output.event("update", id=future.id, video=video)
        video = await future
        self.ended(future.id)
        return video

    def failed(
        self,
        error: BaseException,
        id: str | None = None,
        retry: str = "",
    ) -> None:
        """Report an error and take its code into account.

        Args:
            error: What happened.
            id: The task, where the error does not say it.
            retry: What to do about it, where it is not what the error suggests.
        """
        task_id = getattr(error, "id", None) or id
        if task_id is not None:
            self.ended(task_id)
        verdict = verdict_on(error)
        self.code(verdict.code)
        detached = isinstance(error, (WaitError, SessionClosedError))
        detached = detached and not isinstance(error, TaskLostError)
        self.output.complain(message_of(error), retry or self._hint(verdict.hint, task_id))
        self.output.trace(error)
        more = {}
        if self.journalled and isinstance(error, SubmitOutcomeUnknownError) and error.request:
            more["key"] = error.request.key
            if error.request.key is not None and not error.abandoned:
                tell_how_to_settle(self.output, self.connection, error.request.key)
        video = getattr(error, "video", None)
        event = "detached" if detached else "error"
        self.output.event(event, id=task_id, video=video, error=error, **more)

    def _hint(self, hint: str, id: str | None) -> str:
        if id is None:
            return "" if "{" in hint else hint
        return hint.format(
            watch=self.connection.command("watch", ids=[id]),
            download=self.connection.command("download", ids=[id]),
        )

    def stopped(self, code: Code, word: str) -> None:
        """Remember why we stop before the end."""
        if self._stopped is None:
            self._stopped = Code.DONE if self.endless else code
        if word and not self.endless:
            self.output.note(word, "bold")

    def detach(self) -> None:
        """Say which tasks go on without us, and the command that follows them."""
        going_on, self._going_on = self._going_on, {}
        if not going_on or not self.billed:
            return
        self.code(Code.RUNNING)
        jobs = (
            "1 job goes on and is" if len(going_on) == 1 else f"{len(going_on)} jobs go on and are"
        )
        self.output.note(f"{jobs} billed:")
        for task_id in going_on:
            self.output.note(f"  {printable(task_id)}")
        self.output.note(f"to follow: {self.connection.command('watch', ids=going_on)}")
        with contextlib.suppress(OutputClosedError):
            for task_id, video in going_on.items():
                self.output.event("detached", id=task_id, video=video)


Work = Callable[[Run], Coroutine[Any, Any, None]]


def execute(run: Run, work: Work) -> int:
    """Run a command's coroutine; return the exit code.

    It is cancelled by Ctrl-C and SIGTERM. Errors that it lets pass are reported here.
    """
    with run.output.logging():
        return int(asyncio.run(_supervised(run, work)))


async def _supervised(run: Run, work: Work) -> Code:
    task = asyncio.ensure_future(work(run))

    def stop(number: int) -> None:
        if number == signal.SIGINT and run.finish is not None:
            finish, run.finish = run.finish, None
            finish()
            return
        code, word = _SIGNALS[signal.Signals(number)]
        run.stopped(code, word)
        task.cancel()

    with caught(stop):
        try:
            await asyncio.wait([task])
            _judge(run, task)
        finally:
            run.detach()
    return run.exit_code


def _judge(run: Run, task: asyncio.Future[None]) -> None:
    try:
        task.result()
    except asyncio.CancelledError:
        run.stopped(Code.INTERRUPTED, "")
    except OutputClosedError:
        run.stopped(Code.CLOSED, "")
    except OctoremixError as error:
        _report(run, error)
    except OSError as error:
        _report(run, error)
    except Exception as error:  # noqa: BLE001 - reported, and with --verbose shown whole
        run.output.complain(
            f"unexpected {type(error).__name__}: {error}",
            "this is a fault of octoremix: please report it, with what --verbose shows",
        )
        run.output.trace(error)
        run.code(Code.FAILED)


def _report(run: Run, error: Exception) -> None:
    try:
        run.failed(error)
    except OutputClosedError:
        run.stopped(Code.CLOSED, "")


async def all_of(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines side by side; the first error ends the rest and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
