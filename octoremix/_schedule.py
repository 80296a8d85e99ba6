"""Which task is due, and what an answer means for it: the poller's decisions, without I/O.

Nothing here sleeps, sends or settles. `now` is a parameter everywhere, in the seconds of any
monotonic clock, and what has to be done is returned.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import KeysView, ValuesView
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ._strategy import Strategy
from ._timetable import FollowedTask, Timetable
from .errors import (
    APIError,
    AuthenticationError,
    OctoremixError,
    PermissionDeniedError,
    PollingFailedError,
    QuotaExceededError,
    RateLimitError,
    TaskLostError,
    TaskNotFoundError,
    WaitTimeoutError,
    printable,
    quoted,
)
from .models import Video, outcome_of
from .policies import PollPolicy

if TYPE_CHECKING:
    from ._wire import Reading

__all__ = ["EndEveryWait", "Schedule"]

NOT_FOUND_GRACE = 60.0
"""Seconds after our own submit during which an unknown id may be a row not yet visible."""

UNAUTHORIZED_SPAN = 10.0
"""Seconds that two refusals of the key must be apart before every wait is ended."""


@frozen
class EndEveryWait:
    """The decision that the key is refused for good, so no wait can go on."""

    cause: AuthenticationError


class Schedule:
    """The tasks that are followed, and when each is asked for next.

    Args:
        policy: How tasks are followed.
        grace: Seconds after its deadline that a task's poll may still take.
    """

    def __init__(self, policy: PollPolicy, *, grace: float) -> None:
        self._policy = policy
        self._grace = grace
        self._tasks: dict[str, FollowedTask] = {}
        self._polls = Timetable(self._poll_is_live)
        self._deadlines = Timetable(self._deadline_is_live)
        self._unauthorized_at: float | None = None
        self._strategy = Strategy(policy.wait)

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Schedule of {len(self._tasks)} tasks>"

    @property
    def ids(self) -> KeysView[str]:
        """The ids that are followed, as a live view."""
        return self._tasks.keys()

    @property
    def tasks(self) -> ValuesView[FollowedTask]:
        """The tasks that are followed, as a live view."""
        return self._tasks.values()

    def get(self, task_id: str) -> FollowedTask | None:
        """Return the task of that id while it is followed."""
        return self._tasks.get(task_id)

    def add(
        self,
        task_id: str,
        now: float,
        *,
        handle: Any,
        deadline: float | None,
        accepted: Reading | None = None,
        age: float | None = None,
    ) -> FollowedTask:
        """Follow a task that is not followed yet.

        Args:
            task_id: Its id.
            now: The present.
            handle: Whatever the caller keeps with it.
            deadline: Seconds from now after which it is given up, or ``None``.
            accepted: The answer to our own submit; ``None`` for any other task.
            age: Seconds since an earlier submit of our own, or ``None``.
        """
        if accepted is not None:
            age = 0.0
        task = FollowedTask(
            task_id,
            handle=handle,
            reading=accepted,
            submitted_at=None if age is None else now - age,
            last_good_at=now,
            changed_at=now,
        )
        self._tasks[task_id] = task
        task.poll_number = self._polls.add(now + self._policy.first_delay, task_id)
        if deadline is not None:
            task.deadline = now + deadline
            task.deadline_number = self._deadlines.add(task.deadline, task_id)
        return task

    def remove(self, task: FollowedTask) -> None:
        """Forget a task; what still comes of it must be ignored."""
        del self._tasks[task.id]
        if task.poll_number is not None:
            self._polls.withdrawn()
        if task.deadline_number is not None:
            self._deadlines.withdrawn()
        task.poll_number = task.deadline_number = None

    def next_poll(self) -> float:
        """Return when the next task is due, or infinity."""
        return self._polls.next()

    def next_deadline(self) -> float:
        """Return when `strike` has something to do next, or infinity."""
        return self._deadlines.next()

    def take(self, now: float) -> FollowedTask | None:
        """Return one task that is due, the longest overdue first; it counts as in flight."""
        task_id = self._polls.pop(now)
        if task_id is None:
            return None
        task = self._tasks[task_id]
        task.poll_number = None
        task.in_flight = True
        task.polls += 1
        return task

    def patience(self, task: FollowedTask, now: float) -> float:
        """Return how many seconds a poll sent now may take before its task's time is over."""
        until = min(task.give_up_at, max(task.deadline, now) + self._grace)
        return max(0.0, until - now)

    def stalled(self, task: FollowedTask, now: float) -> bool:
        """Whether a task's answer has not changed for so long that its record should be asked for.

        That is so until a good answer comes while it is, and again when that has changed.
        """
        after = self._policy.stall_after
        task.looked = not task.stall_seen and after is not None and now - task.changed_at >= after
        return task.looked

    def release(self, task: FollowedTask, now: float) -> None:
        """Put a task back whose poll was broken off by somebody else; it is due at once."""
        task.in_flight = False
        self._due_at(task, now)

    def strike(self, now: float) -> tuple[FollowedTask, OctoremixError] | None:
        """Act on one deadline that has passed.

        At its deadline a task gets one last poll, ahead of all others. If that could not even be
        sent within the grace, the task is given up without it.

        Returns:
            A task that was given up and forgotten, with its error; or ``None``. To be called
            again while `next_deadline` is not after ``now``.
        """
        task_id = self._deadlines.pop(now)
        if task_id is None:
            return None
        task = self._tasks[task_id]
        task.deadline_number = None
        if task.give_up_at == math.inf:
            task.give_up_at = now + self._grace
            task.deadline_number = self._deadlines.add(task.give_up_at, task_id)
            if not task.in_flight:
                self._poll_last(task)
        elif not task.in_flight:
            return task, self._end(task, _deadline_passed(task))
        return None

    def observe(
        self, task: FollowedTask, answer: Reading | OctoremixError, now: float
    ) -> Video | OctoremixError | EndEveryWait | None:
        """Take in what a poll brought.

        Args:
            task: What was asked for.
            answer: What it tells, or why there is nothing.
            now: The present.

        Returns:
            ``None`` while the task goes on; what its waiters get, when the task is done with and
            forgotten; or that every wait ends.
        """
        task.in_flight = False
        if isinstance(answer, OctoremixError):
            verdict = self._failed(task, answer, now)
            if verdict is not None:
                return verdict
        else:
            self._unauthorized_at = None
            if answer is not task.reading:
                task.changed_at, task.stall_seen = now, False
            elif task.looked:
                task.stall_seen = True
            task.reading, task.failures, task.last_good_at = answer, 0, now
            if answer.status.terminal:
                self.remove(task)
                return outcome_of(answer.video)
        if now >= task.deadline:
            if task.last_poll or now >= task.give_up_at:
                return self._end(task, _deadline_passed(task))
            self._poll_last(task)
            return None
        if isinstance(answer, RateLimitError):
            self._due_at(task, now)  # the cool-down holds it back, not a pause of its own
            return None
        return self._pause(task, answer, now)

    def _failed(
        self, task: FollowedTask, error: OctoremixError, now: float
    ) -> OctoremixError | EndEveryWait | None:
        """Judge a failed poll: the end of the task, of all of them, or nothing yet."""
        if isinstance(error, RateLimitError):
            return None
        if isinstance(error, AuthenticationError) and error.from_gateway:
            if self._unauthorized_at is None:
                self._unauthorized_at = now
            elif now - self._unauthorized_at >= UNAUTHORIZED_SPAN:
                self._unauthorized_at = None
                return EndEveryWait(error)
        if isinstance(error, (PermissionDeniedError, QuotaExceededError)) and error.from_gateway:
            return self._end(task, refusal(task, error))
        if isinstance(error, TaskNotFoundError):
            fresh = task.submitted_at is not None and now - task.submitted_at < NOT_FOUND_GRACE
            if not fresh:
                # Of every task but a tracked one that never answered it is known that it was there.
                known = task.reading is not None or task.submitted_at is not None
                return self._end(task, _lost(task, error) if known else error)
        task.failures += 1
        if (
            task.failures >= self._policy.max_failures
            and now - task.last_good_at >= self._policy.failure_window
        ):
            return self._end(task, _kept_failing(task, error, now))
        return None

    def _pause(
        self, task: FollowedTask, answer: Reading | OctoremixError, now: float
    ) -> OctoremixError | None:
        floor = 0.0 if isinstance(answer, OctoremixError) else answer.floor
        try:
            when = now + max(self._strategy.pause(task, answer), floor)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a strategy may raise anything: asyncio.CancelledError is no Exception
            # It may have detached the task before.
            followed = self._tasks.get(task.id) is task
            return self._end(task, _bad_strategy(task, error)) if followed else None
        self._due_at(task, when)
        return None

    def _poll_is_live(self, number: int, task_id: str) -> bool:
        task = self._tasks.get(task_id)
        return task is not None and task.poll_number == number

    def _deadline_is_live(self, number: int, task_id: str) -> bool:
        task = self._tasks.get(task_id)
        return task is not None and task.deadline_number == number

    def _due_at(self, task: FollowedTask, when: float) -> None:
        # A strategy of the user's may have detached it.
        if self._tasks.get(task.id) is task:
            task.poll_number = self._polls.add(when, task.id)

    def _poll_last(self, task: FollowedTask) -> None:
        if task.poll_number is not None:
            task.poll_number = None
            self._polls.withdrawn()
        task.last_poll = True
        self._due_at(task, -math.inf)

    def _end(self, task: FollowedTask, error: OctoremixError) -> OctoremixError:
        self.remove(task)
        return error


def refusal(task: FollowedTask, cause: APIError) -> PollingFailedError:
    """Return what the waiters of a task get when the gateway refuses to tell about it."""
    return _stopped(task, "is no longer told about", cause)


def _stopped(
    task: FollowedTask, what: str, cause: BaseException, shown: str | None = None
) -> PollingFailedError:
    why = printable(cause if shown is None else shown)
    error = PollingFailedError(
        f"task {quoted(task.id)} {what}: {why}; it may go on and is billed: "
        "session.track(id) takes the wait up again",
        id=task.id,
        video=task.video,
    )
    error.__cause__ = cause
    return error


def _kept_failing(task: FollowedTask, cause: OctoremixError, now: float) -> PollingFailedError:
    seconds = now - task.last_good_at
    return _stopped(task, f"failed {task.failures} polls in a row over {seconds:.0f} s", cause)


def _bad_strategy(task: FollowedTask, cause: BaseException) -> PollingFailedError:
    # Also where its own __str__ fails.
    shown = "".join(traceback.format_exception_only(cause)).strip()
    return _stopped(task, "can't be scheduled, the wait strategy failed", cause, shown)


def _lost(task: FollowedTask, cause: APIError) -> TaskLostError:
    error = TaskLostError(
        f"task {quoted(task.id)} is not known to the gateway any more; it was accepted and "
        "may have been billed",
        id=task.id,
        video=task.video,
    )
    error.__cause__ = cause
    return error


def _deadline_passed(task: FollowedTask) -> WaitTimeoutError:
    seen = "not seen yet" if task.reading is None else f"last seen {task.reading.status}"
    return WaitTimeoutError(
        f"task {quoted(task.id)} reached its deadline ({seen}); it may go on and is billed: "
        "session.track(id) takes the wait up again",
        id=task.id,
        video=task.video,
    )
