"""The one coroutine that asks for all tasks of a session, and settles their futures.

It decides nothing itself: `_schedule` says what is due and what an answer means, `_pace` whether
anything may be sent now. It knows no HTTP: it is handed a ``fetch``.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, KeysView
from functools import partial
from typing import Any

from ._alarm import Alarm
from ._pace import Pace
from ._permits import tell_pause
from ._schedule import EndEveryWait, Schedule, refusal
from ._timetable import FollowedTask
from ._wire import Reading
from .errors import (
    APITimeoutError,
    AuthenticationError,
    ConfigurationError,
    DetachedError,
    OctoremixError,
    RateLimitError,
    SessionClosedError,
    printable,
    quoted,
)
from .futures import RemixFuture
from .models import Event, RemixRequest, Video
from .policies import PollPolicy

__all__ = ["Poller"]

log = logging.getLogger("octoremix")

Fetch = Callable[[str, Reading | None, bool, float], Coroutine[Any, Any, Reading]]
"""Asks for the task of an id. It is told the last answer about it, whether that has been the same
for too long, and at which time of the loop it will be broken off: it is timed from outside."""

LONGEST_GRACE = 10.0
"""Seconds after a task's deadline that its poll may take at most."""

CHUNK = 256
"""How many tasks are ended before the event loop gets a turn."""


class Poller:
    """Follows tasks until each has reached its end or its deadline.

    Args:
        fetch: Asks for one task.
        policy: How tasks are followed.
        pace: Permits for the session's requests.
        request_timeout: Seconds that a poll may take.
        max_tasks: The most tasks that are followed at once.
        notify: Told of every `Event`, or ``None``.
        record: Told of every final answer, before its future is settled, or ``None``.
    """

    def __init__(
        self,
        fetch: Fetch,
        policy: PollPolicy,
        pace: Pace,
        *,
        request_timeout: float,
        max_tasks: int,
        notify: Callable[[Event], None] | None,
        record: Callable[[Reading], None] | None = None,
    ) -> None:
        self._fetch = fetch
        self._policy = policy
        self._pace = pace
        self._request_timeout = request_timeout
        self._max_tasks = max_tasks
        self._notify = notify
        self._record = record
        self._schedule = Schedule(policy, grace=min(request_timeout, LONGEST_GRACE))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: asyncio.Task[None] | None = None
        # When each poll in flight has taken too long. One alarm watches them all: a timer of its
        # own for each would be a twentieth of what a poll costs.
        self._polls: dict[asyncio.Task[None], float] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._alarm = Alarm()
        self._stopped: str | None = None
        self._refused: AuthenticationError | None = None
        self.sent = 0

    def __repr__(self) -> str:
        return f"<Poller of {len(self._schedule)} tasks, {len(self._polls)} polls in flight>"

    @property
    def ids(self) -> KeysView[str]:
        """The ids that are followed, as a live view."""
        return self._schedule.ids

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which tasks are followed, once there is one."""
        return self._loop

    @property
    def in_flight(self) -> int:
        """How many polls wait for their answer."""
        return len(self._polls)

    def check(self, adding: int = 0) -> None:
        """Raise unless one more task can be followed, besides so many that are on their way.

        Raises:
            SessionClosedError: The poller has stopped.
            ConfigurationError: ``max_tasks`` would be exceeded.
        """
        self.check_running()
        if len(self._schedule) + adding >= self._max_tasks:
            raise ConfigurationError(
                f"{self._max_tasks} tasks are followed already: await some of them first, or raise "
                "max_tasks="
            )

    def check_running(self) -> None:
        """Raise unless tasks are still followed; the first call starts the runner.

        Raises:
            SessionClosedError: The poller has stopped.
        """
        if self._stopped is not None:
            raise SessionClosedError(self._stopped)
        if self._runner is None:
            self._loop = asyncio.get_running_loop()
            self._runner = self._loop.create_task(self._run(), name="octoremix poller")
            self._runner.add_done_callback(self._died)

    def follow(
        self,
        task_id: str,
        *,
        deadline: float | None,
        request: RemixRequest | None = None,
        accepted: Reading | None = None,
        age: float | None = None,
    ) -> RemixFuture:
        """Follow a task and return its future, the same one while it is followed.

        Args:
            task_id: The task.
            deadline: Seconds after which it is given up, or ``None``.
            request: What was submitted, if it was by us.
            accepted: The answer to the submit, if it was by us just now.
            age: Seconds since the submit, if it was by us before.
        """
        known = self._schedule.get(task_id)
        if known is not None:
            future: RemixFuture = known.handle
            return future
        future = RemixFuture(task_id, self, request=request, reading=accepted)
        if self._stopped is not None:  # of a submit that was answered after all was over
            future._settle(self._closed(FollowedTask(task_id, reading=accepted)))
            return future
        self.check_running()
        assert self._loop is not None
        self._schedule.add(
            task_id,
            self._loop.time(),
            handle=future,
            deadline=deadline,
            accepted=accepted,
            age=age,
        )
        self._alarm.wake()
        return future

    def detach(self, task_id: str) -> None:
        """Stop following a task; its future fails with `DetachedError`."""
        task = self._schedule.get(task_id)
        if task is not None:
            error = DetachedError(
                f"task {quoted(task_id)} is no longer followed; it goes on and is billed: "
                "session.track(id) takes the wait up again",
                id=task_id,
                video=task.video,
            )
            self._drop(task, error)

    async def aclose(self) -> None:
        """Stop polling; the futures that are open fail with `SessionClosedError`."""
        self._stopped = self._stopped or "the session is closed"
        self._alarm.cancel()
        running = [*self._polls, *([self._runner] if self._runner else ())]
        for each in running:
            each.cancel()
        try:
            await self._end_all(self._closed)
            if running:
                await asyncio.wait(running)
        finally:  # also where closing is itself cancelled: a future that stays open hangs somebody
            self._end_now(self._closed)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._refused is not None:
                cause, self._refused = self._refused, None
                await self._end_all(partial(refusal, cause=cause))
            now = loop.time()
            for _ in range(CHUNK):
                if self._schedule.next_deadline() > now:
                    break
                given_up = self._schedule.strike(now)
                if given_up is not None:
                    self._settle(*given_up)
            self._stop_late(now)
            self._start_due(loop, now)
            await self._alarm.sleep_until(self._next_turn(loop.time()))

    def _start_due(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        while len(self._polls) < self._policy.concurrency:
            task = self._next(now)
            if task is None:
                return
            # Not by the loop's factory, which may run the beginning of a task at once.
            poll = asyncio.Task(self._poll(loop, task, now), loop=loop)
            self._polls[poll] = self._expiry(task, now)
            poll.add_done_callback(self._polled)

    def _stop_late(self, now: float) -> None:
        """Break off the polls that have taken too long."""
        for poll, until in self._polls.items():
            if until <= now:
                self._polls[poll] = math.inf  # once is enough, and it may take a while to end
                self._late.add(poll)
                poll.cancel()

    def _next(self, now: float) -> FollowedTask | None:
        """Take a task that is due, if a poll may be sent now."""
        if self._pace.poll_at(now) > now:
            return None
        task = self._schedule.take(now)
        if task is not None:
            self._pace.poll_started(now, len(self._schedule))
            self.sent += 1
        return task

    def _next_turn(self, now: float) -> float:
        """Return when the runner has something to do next."""
        until = min(self._schedule.next_deadline(), *self._polls.values(), math.inf)
        room = len(self._polls) < self._policy.concurrency
        due = self._schedule.next_poll() if room else math.inf
        self._pace.polls_wait = due <= now
        return min(until, max(due, self._pace.poll_at(now)))

    async def _poll(self, loop: asyncio.AbstractEventLoop, task: FollowedTask, now: float) -> None:
        """Poll a task, and then whatever else is due, until nothing is."""
        poll = asyncio.current_task()
        assert poll is not None
        following: FollowedTask | None = task
        while following is not None:
            stalled = self._schedule.stalled(following, now)
            answer = await self._ask(following, poll, stalled)
            sent_at, now = now, loop.time()
            self._take_in(following, answer, sent_at, now)
            # A failure need not have waited for anything: many in a row must not stop the loop. And
            # a cancellation that came too late for its poll must not hit the next one.
            failed = isinstance(answer, OctoremixError) or poll in self._late
            following = None if failed else self._next(now)
            if following is not None:
                self._polls[poll] = self._expiry(following, now)
                self._alarm.wake_by(self._polls[poll])
            if len(self._polls) < self._policy.concurrency:
                self._alarm.wake_by(self._schedule.next_poll())

    def _expiry(self, task: FollowedTask, now: float) -> float:
        """Return when a poll of the task that is sent now has taken too long."""
        expiry = now + self._request_timeout
        if expiry < task.deadline:
            return expiry
        return now + min(self._request_timeout, self._schedule.patience(task, now))

    async def _ask(
        self, task: FollowedTask, poll: asyncio.Task[None], stalled: bool
    ) -> Reading | OctoremixError:
        try:
            return await self._fetch(task.id, task.reading, stalled, self._polls[poll])
        except OctoremixError as error:
            return error.with_traceback(None)  # its frames would live as long as the error
        except asyncio.CancelledError:
            if not poll.cancelling():  # of a key's callable, say, that awaited a cancelled task
                return OctoremixError("the poll was broken off by a CancelledError of its own")
            late = poll in self._late
            self._late.discard(poll)
            if not late or poll.uncancel() > 0:
                self._schedule.release(task, asyncio.get_running_loop().time())
                raise
            return APITimeoutError("the poll was not answered in time", id=task.id)
        except Exception as error:
            log.exception("a poll of task %s failed unexpectedly", quoted(task.id))
            return OctoremixError(f"the poll failed unexpectedly: {printable(repr(error))}")

    def _take_in(
        self, task: FollowedTask, answer: Reading | OctoremixError, sent_at: float, now: float
    ) -> None:
        if not isinstance(answer, OctoremixError):
            self._pace.poll_answered(sent_at)
        elif isinstance(answer, RateLimitError):
            self._cool_down(answer, sent_at, now)
        if self._notify is not None:
            told = answer if isinstance(answer, OctoremixError) else answer.video
            self._notify(_event("polled", task.id, told))
        if self._schedule.get(task.id) is not task:
            return  # it was detached meanwhile
        last = task.reading
        verdict = self._schedule.observe(task, answer, now)
        if task.reading is not None and task.reading is not last:
            task.handle._observe(task.reading)
        if isinstance(verdict, EndEveryWait):
            log.error("every wait ends: %s", verdict.cause)
            self._refused = verdict.cause  # the runner is woken by the end of this failed poll
        elif verdict is not None:
            if self._record is not None and isinstance(answer, Reading) and answer.status.terminal:
                self._record(answer)
            self._settle(task, verdict)

    def _polled(self, poll: asyncio.Task[None]) -> None:
        del self._polls[poll]
        self._late.discard(poll)
        if not poll.cancelled() and poll.exception() is not None:
            self._fail(poll.exception())
        self._alarm.wake()

    def _died(self, runner: asyncio.Task[None]) -> None:
        self._fail(None if runner.cancelled() else runner.exception())

    def _fail(self, cause: BaseException | None) -> None:
        """Tell everybody that nothing is polled any more; silence would hang them for ever."""
        if self._stopped is not None:
            return
        if cause is None:
            self._stopped = "the poller was cancelled, as at the end of asyncio.run()"
        else:
            log.critical("the poller has stopped", exc_info=cause)
            self._stopped = f"the poller has stopped: {printable(repr(cause))}"
        self._end_now(self._closed)
        assert self._runner is not None
        self._runner.cancel()
        self._alarm.cancel()

    def _closed(self, task: FollowedTask) -> SessionClosedError:
        return SessionClosedError(
            f"task {quoted(task.id)} is no longer followed: {self._stopped}; it goes on and "
            "is billed: track(id) of another session takes the wait up again",
            id=task.id,
        )

    def _cool_down(self, error: RateLimitError, sent_at: float, now: float) -> None:
        pause = self._pace.poll_refused(sent_at, now, error.retry_after)
        tell_pause("polls and submits", pause, self._notify)

    def _settle(self, task: FollowedTask, outcome: Video | OctoremixError) -> None:
        task.handle._settle(outcome)
        if self._notify is not None:
            self._notify(_event("settled", task.id, outcome))

    def _drop(self, task: FollowedTask, error: OctoremixError) -> None:
        if self._schedule.get(task.id) is task:  # else what was told of another's end detached it
            self._schedule.remove(task)
            self._settle(task, error)

    def _end_now(self, error_for: Callable[[FollowedTask], OctoremixError]) -> None:
        for task in list(self._schedule.tasks):
            self._drop(task, error_for(task))

    async def _end_all(self, error_for: Callable[[FollowedTask], OctoremixError]) -> None:
        # Taken out one by one: a list that lives to the end would free all of them in one go.
        tasks = deque(self._schedule.tasks)
        while tasks:
            for _ in range(min(CHUNK, len(tasks))):
                task = tasks.popleft()
                self._drop(task, error_for(task))
            await asyncio.sleep(0)


def _event(kind: str, task_id: str, brought: Video | OctoremixError) -> Event:
    if isinstance(brought, Video):
        return Event(kind=kind, id=task_id, video=brought)
    return Event(kind=kind, id=task_id, error=brought)
