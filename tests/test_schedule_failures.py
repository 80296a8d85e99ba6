"""The schedule alone: what a failed poll means for its task, and for all."""

from __future__ import annotations

import pytest
import tenacity

from octoremix import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    InvalidResponseError,
    OctoremixError,
    PermissionDeniedError,
    PollingFailedError,
    PollPolicy,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    TaskLostError,
    TaskNotFoundError,
    TaskStatus,
    UnexpectedRedirectError,
)
from octoremix._schedule import EndEveryWait, Schedule, refusal

from .readings import ask, assert_survives, follow, reading, refused

GOOD, BAD, BUSY = "good", "bad", "429"


def make_schedule(**settings: object) -> Schedule:
    return Schedule(PollPolicy(wait=tenacity.wait_fixed(10), **settings), grace=10.0)


def forbidden(_: tenacity.RetryCallState) -> float:
    raise AssertionError("the strategy must not be asked")


# Failures that count


@pytest.mark.parametrize(
    ("max_failures", "window", "answers", "given_up_at"),
    [
        # Enough failures, but too soon after the last good answer.
        (3, 120.0, [(5, BAD), (15, BAD), (25, BAD), (35, BAD)], None),
        # Long enough, but too few in a row.
        (3, 20.0, [(5, BAD), (500, BAD)], None),
        # Both, at the first moment that both hold.
        (3, 120.0, [(5, BAD), (15, BAD), (25, BAD), (119.9, BAD), (130, BAD)], 130),
        (3, 120.0, [(5, BAD), (15, BAD), (120, BAD)], 120),
        (2, 0.0, [(5, BAD), (15, BAD)], 15),
        (1, 0.0, [(5, BAD)], 5),
        # A good answer begins both anew.
        (2, 30.0, [(5, BAD), (25, GOOD), (35, BAD), (54.9, BAD)], None),
        (2, 30.0, [(5, BAD), (25, GOOD), (35, BAD), (55, BAD)], 55),
        # 429 neither counts nor begins anything anew.
        (2, 0.0, [(5, BAD), (15, BUSY), (25, BUSY), (35, BUSY)], None),
        (2, 0.0, [(5, BAD), (15, BUSY), (25, BAD)], 25),
        (1, 0.0, [(5, BUSY), (500, BUSY), (5000, BUSY)], None),
    ],
)
def test_a_task_is_given_up_when_failures_and_window_agree(
    max_failures: int,
    window: float,
    answers: list[tuple[float, str]],
    given_up_at: float | None,
) -> None:
    """So many failures in a row *and* so long since the last good answer, neither alone."""
    schedule = make_schedule(max_failures=max_failures, failure_window=window)
    follow(schedule)
    kinds = {GOOD: reading(), BAD: refused(ServerError), BUSY: refused(RateLimitError)}
    ended = None
    for now, kind in answers:
        verdict = ask(schedule, kinds[kind], now)
        if verdict is not None:
            assert isinstance(verdict, PollingFailedError)
            ended = now

    assert ended == given_up_at
    assert len(schedule) == (given_up_at is None)


@pytest.mark.parametrize(
    "kind",
    [
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        InvalidResponseError,
        OctoremixError,
        ServerError,
        UnexpectedRedirectError,
    ],
)
def test_every_failed_poll_counts(kind: type[OctoremixError]) -> None:
    """Whatever went wrong, but for a 429, counts against its task and pauses it as usual."""
    schedule = make_schedule(max_failures=2, failure_window=0)
    task = follow(schedule)

    assert ask(schedule, refused(kind), 5.0) is None
    assert task.failures == 1
    assert schedule.next_poll() == 15.0
    assert isinstance(ask(schedule, refused(kind), 14.0 + 1), PollingFailedError | EndEveryWait)


def test_what_was_given_up_tells_all_that_is_known() -> None:
    """The error has the id, the last snapshot, the count, and the last failure as its cause."""
    schedule = make_schedule(max_failures=2, failure_window=60)
    follow(schedule)
    ask(schedule, reading(progress=40), 5.0)
    ask(schedule, refused(APIConnectionError), 15.0)
    last = refused(ServerError)

    error = ask(schedule, last, 65.0)

    assert isinstance(error, PollingFailedError)
    assert (error.id, error.__cause__) == ("task_1", last)
    assert error.video is not None
    assert error.video.progress == 40
    assert "2 polls in a row over 60 s: it went wrong" in str(error)
    assert "track(id)" in str(error)
    assert_survives(error)


def test_a_429_is_due_at_once_and_asks_no_strategy() -> None:
    """After a 429 the cool-down holds the poll back, not a pause of its own."""
    schedule = Schedule(PollPolicy(wait=forbidden), grace=10.0)
    task = follow(schedule)

    assert ask(schedule, refused(RateLimitError, retry_after=100.0), 7.0) is None
    assert schedule.next_poll() == 7.0
    assert task.failures == 0


# A key that is refused


@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        ([(5, "401"), (15, "401")], True),
        ([(5, "401"), (14.9, "401")], False),
        # The first of the row counts, not the last.
        ([(5, "401"), (14.9, "401"), (15, "401")], True),
        ([(5, "401"), (15, BAD), (25, BUSY), (35, "401")], True),
        ([(5, "401"), (10, GOOD), (15, "401")], False),
        ([(5, "401"), (10, GOOD), (15, "401"), (25, "401")], True),
    ],
)
def test_two_refusals_of_the_key_end_every_wait(
    answers: list[tuple[float, str]], ends: bool
) -> None:
    """Two 401 at least 10 s apart end all, whichever tasks they came for, unless one was good."""
    schedule = Schedule(PollPolicy(wait=tenacity.wait_none(), first_delay=0), grace=10.0)
    for number in range(3):
        follow(schedule, f"task_{number}")
    key = refused(AuthenticationError, status=401)
    kinds = {GOOD: reading(), BAD: refused(ServerError), BUSY: refused(RateLimitError), "401": key}
    verdicts = [ask(schedule, kinds[kind], now) for now, kind in answers]

    assert verdicts[:-1] == [None] * (len(answers) - 1)
    assert verdicts[-1] == (EndEveryWait(key) if ends else None)


def test_the_end_of_every_wait_is_told_once() -> None:
    """After the decision a new row begins, for whoever follows tasks with another key then."""
    schedule = Schedule(PollPolicy(wait=tenacity.wait_none(), first_delay=0), grace=10.0)
    for number in range(4):
        follow(schedule, f"task_{number}")
    key = refused(AuthenticationError)

    verdicts = [ask(schedule, key, now) for now in (0.0, 10.0, 20.0, 30.0)]

    assert verdicts == [None, EndEveryWait(key), None, EndEveryWait(key)]


def test_a_refusal_is_told_with_the_task() -> None:
    """What each waiter gets carries the id, the last snapshot and the gateway's refusal."""
    task = follow(make_schedule(), accepted=reading("queued"))
    cause = refused(AuthenticationError)

    error = refusal(task, cause)

    assert (error.id, error.__cause__) == ("task_1", cause)
    assert error.video is not None
    assert error.video.status is TaskStatus.QUEUED
    assert_survives(error)


@pytest.mark.parametrize("kind", [PermissionDeniedError, QuotaExceededError])
def test_a_task_that_the_gateway_refuses_to_tell_about_ends_alone(
    kind: type[OctoremixError],
) -> None:
    """A 403 or a lack of quota ends its task at once, and no other."""
    schedule = make_schedule()
    follow(schedule, "task_1")
    other = follow(schedule, "task_2", 1.0)
    cause = refused(kind)

    error = ask(schedule, cause, 5.0)

    assert isinstance(error, PollingFailedError)
    assert (error.id, error.__cause__) == ("task_1", cause)
    assert_survives(error)
    assert list(schedule.tasks) == [other]


# A task that the gateway does not know


@pytest.mark.parametrize(
    ("accepted", "seen", "now", "kind"),
    [
        (True, False, 5.0, None),
        (True, False, 59.9, None),
        (True, False, 60.0, TaskLostError),
        (True, True, 59.9, None),
        (True, True, 60.0, TaskLostError),
        (False, False, 5.0, TaskNotFoundError),
        (False, False, 500.0, TaskNotFoundError),
        (False, True, 15.0, TaskLostError),
    ],
)
def test_an_unknown_task_is_new_lost_or_never_was(
    accepted: bool, seen: bool, now: float, kind: type[OctoremixError] | None
) -> None:
    """For 60 s after our own submit it is a failed poll; later it is lost, if it ever was known."""
    schedule = make_schedule()
    task = follow(schedule, accepted=reading("queued") if accepted else None)
    if seen:
        ask(schedule, reading(), 5.0)
    cause = refused(TaskNotFoundError)

    verdict = ask(schedule, cause, max(now, 15.0) if seen else now)

    if kind is None:
        assert verdict is None
        assert task.failures == 1
        return
    assert type(verdict) is kind
    assert verdict.id == "task_1"
    assert_survives(verdict)
    assert len(schedule) == 0
    if isinstance(verdict, TaskLostError):
        assert verdict.__cause__ is cause
        assert verdict.video is not None


@pytest.mark.parametrize("name", ["a:b/c=d ", "x\n\x1b[31m", "ключ", "'\"", "i" * 254])
def test_errors_keep_an_id_as_it_is_and_show_it_escaped(name: str) -> None:
    """Any id is carried byte for byte, while the message shows no control characters."""
    schedule = make_schedule()
    follow(schedule, name)

    error = ask(schedule, refused(PermissionDeniedError, name), 5.0)

    assert isinstance(error, PollingFailedError)
    assert error.id == name
    assert str(error).isprintable()
