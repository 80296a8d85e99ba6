"""The schedule alone: tenacity's wait strategies, and those that misbehave."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import tenacity
from tenacity.wait import wait_base

from octoremix import OctoremixError, PollingFailedError, PollPolicy, ServerError
from octoremix._schedule import Schedule

from .readings import ask, assert_survives, follow, reading, refused

Strategy = Callable[[tenacity.RetryCallState], Any]

needs_wait_exception = pytest.mark.skipif(
    not hasattr(tenacity, "wait_exception"), reason="this tenacity has no wait_exception yet"
)


def make_schedule(wait: Strategy) -> Schedule:
    return Schedule(PollPolicy(wait=wait), grace=10.0)


def pauses(wait: Strategy, count: int, answer: object = None) -> list[float]:
    """Return the pauses that a strategy gives one task after its first answers."""
    schedule = make_schedule(wait)
    follow(schedule)
    given, now = [], 5.0
    for _ in range(count):
        assert ask(schedule, answer or reading(), now) is None
        given.append(schedule.next_poll() - now)
        now = schedule.next_poll()
    return given


class wait_polls(wait_base):  # noqa: N801
    """A user's own strategy: as many seconds as there were polls."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        return retry_state.kwargs["task"].polls


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (tenacity.wait_fixed(7), [7, 7, 7, 7]),
        (tenacity.wait_fixed(timedelta(minutes=1)), [60, 60, 60, 60]),
        (tenacity.wait_none(), [0, 0, 0, 0]),
        (tenacity.wait_exponential(multiplier=2, max=10), [2, 4, 8, 10]),
        (tenacity.wait_incrementing(start=1, increment=2, max=6), [1, 3, 5, 6]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(2)), [1, 2, 2, 2]),
        (tenacity.wait_fixed(3) + tenacity.wait_exponential(multiplier=1), [4, 5, 7, 11]),
        (sum([tenacity.wait_fixed(1), tenacity.wait_fixed(2)]), [3, 3, 3, 3]),
        (tenacity.wait_combine(tenacity.wait_fixed(1), lambda retry_state: 0.5), [1.5] * 4),
        (lambda state: state.attempt_number, [1, 2, 3, 4]),
        (wait_polls(), [1, 2, 3, 4]),
        (lambda state: Fraction(5, 2), [2.5] * 4),
        (lambda state: Decimal("2.5"), [2.5] * 4),
    ],
)
def test_a_strategy_is_used_as_it_is(wait: Strategy, expected: list[float]) -> None:
    """The pause is exactly what the strategy says for this poll of this task: no jitter is added."""
    assert pauses(wait, 4) == expected


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [
        (tenacity.wait_random(2, 4), 2, 4),
        (tenacity.wait_random_exponential(multiplier=1, min=1, max=5), 1, 5),
        (tenacity.wait_exponential_jitter(max=9, jitter=1), 1, 9),
        (tenacity.wait_fixed(10) + tenacity.wait_random(0, 1), 10, 11),
    ],
)
def test_a_random_strategy_stays_random(wait: Strategy, least: float, most: float) -> None:
    """A strategy that draws lots does so for every poll, within its own bounds."""
    drawn = pauses(wait, 20)

    assert all(least - 1e-6 <= pause <= most + 1e-6 for pause in drawn)
    assert len(set(drawn)) > 1


@needs_wait_exception
def test_a_strategy_may_follow_the_failure() -> None:
    """`wait_exception` is asked about the very error that the poll failed with."""
    failure = refused(ServerError, retry_after=44.0)
    wait = tenacity.wait_exception(lambda error: error.retry_after)

    assert pauses(wait, 3, failure) == [44, 44, 44]


def test_tasks_do_not_share_their_attempts() -> None:
    """One state serves all tasks, yet each sees the number of its own polls."""
    schedule = make_schedule(tenacity.wait_incrementing(start=100, increment=100))
    follow(schedule, "old")
    for now in (5.0, 105.0, 305.0):
        ask(schedule, reading(), now)
    assert schedule.next_poll() == 605.0
    follow(schedule, "young", 400.0)

    ask(schedule, reading(), 405.0)

    assert schedule.next_poll() == 505.0


def test_a_strategy_sees_a_good_answer() -> None:
    """It sees a finished outcome whose result is the snapshot, and the task that it is about."""
    seen: list[object] = []

    def look(state: tenacity.RetryCallState) -> float:
        outcome, task = state.outcome, state.kwargs["task"]
        assert outcome is not None
        assert outcome.done()
        assert not outcome.running()
        assert not outcome.cancelled()
        assert not outcome.failed
        assert outcome.exception() is None
        assert outcome.attempt_number == state.attempt_number == task.polls == 1
        assert outcome.result() == task.video
        seen.extend([task.id, task.failures, task.video.progress])
        assert "returned Video(" in repr(state)
        assert "poll 1" in repr(outcome)
        return 10

    assert pauses(look, 1, reading(progress=12)) == [10]
    assert seen == ["task_1", 0, 12]


def test_a_strategy_sees_a_failure() -> None:
    """It sees an outcome that failed with the poll's error, and how many failed in a row."""
    failure = refused(ServerError)
    failures: list[int] = []

    def look(state: tenacity.RetryCallState) -> float:
        outcome, task = state.outcome, state.kwargs["task"]
        assert outcome is not None
        assert outcome.failed
        assert outcome.exception() is failure
        with pytest.raises(ServerError) as caught:
            outcome.result()
        assert caught.value is failure
        assert task.video is None
        assert "failed (ServerError it went wrong)" in repr(state)
        assert "ServerError" in repr(outcome)
        failures.append(task.failures)
        return 10

    assert pauses(look, 3, failure) == [10, 10, 10]
    assert failures == [1, 2, 3]


def test_the_shared_state_holds_on_to_nothing() -> None:
    """Between polls neither the last answer nor the task is kept alive by the state."""
    states: list[tenacity.RetryCallState] = []

    def keep(state: tenacity.RetryCallState) -> float:
        states.append(state)
        return 10

    pauses(keep, 2)

    assert states[0] is states[1]
    assert states[0].outcome is None
    assert states[0].kwargs == {}


# Strategies that misbehave


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def raising(error: BaseException) -> Strategy:
    def wait(_: tenacity.RetryCallState) -> float:
        raise error

    return wait


def returning(value: object) -> Strategy:
    return lambda _: value


NONSENSE = [
    *(
        pytest.param(returning(value), id=f"returns {value!r:.30}")
        for value in (
            math.nan,
            math.inf,
            -math.inf,
            -1,
            -1e-9,
            None,
            "10",
            "",
            [],
            1j,
            10**400,
            Decimal("NaN"),
            timedelta(seconds=10),
        )
    ),
    *(
        pytest.param(raising(error), id=f"raises {type(error).__name__}")
        for error in (
            ValueError("boom"),
            KeyError("task"),
            AssertionError(),
            RecursionError(),
            OctoremixError("not ours"),
            UnprintableError(),
            asyncio.CancelledError(),
            GeneratorExit(),
        )
    ),
]


@pytest.mark.parametrize("bad", NONSENSE)
@pytest.mark.parametrize("answer", [reading(progress=9), refused(ServerError)], ids=["good", "bad"])
def test_a_broken_strategy_ends_its_task_only(bad: Strategy, answer: object) -> None:
    """One that raises or returns nonsense ends that task with its id, and no other."""

    def wait(state: tenacity.RetryCallState) -> float:
        return bad(state) if state.kwargs["task"].id == "task_1" else 10

    schedule = make_schedule(wait)
    follow(schedule, "task_1", deadline=100.0)
    other = follow(schedule, "task_2", 1.0)

    error = ask(schedule, answer, 6.0)

    assert isinstance(error, PollingFailedError)
    assert error.id == "task_1"
    assert (error.video is None) == isinstance(answer, OctoremixError)
    assert error.__cause__ is not None
    assert "the wait strategy failed" in str(error)
    assert str(error).isprintable()
    assert_survives(error)
    assert list(schedule.tasks) == [other]
    assert schedule.next_deadline() == math.inf

    assert ask(schedule, reading(), 6.0) is None
    assert schedule.next_poll() == 16.0


def test_a_broken_strategy_is_named() -> None:
    """The message says what the strategy raised, by its type too, or what it returned."""
    for bad, told in (
        (raising(KeyError("pause")), "KeyError: 'pause'"),
        (returning(-3), "it returned -3, not a number of seconds"),
    ):
        schedule = make_schedule(bad)
        follow(schedule)
        assert told in str(ask(schedule, reading(), 5.0))


@needs_wait_exception
def test_wait_exception_alone_has_no_pause_for_a_good_answer() -> None:
    """tenacity's own refusal ends the task and is told, for the strategy is used as it is."""
    schedule = make_schedule(tenacity.wait_exception(lambda error: 10))
    follow(schedule)

    error = ask(schedule, reading(), 5.0)

    assert isinstance(error, PollingFailedError)
    assert "RuntimeError" in str(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_order_to_stop_the_program_passes(error: BaseException) -> None:
    """Ctrl-C while a strategy runs is no fault of the strategy, and not swallowed."""
    schedule = make_schedule(raising(error))
    follow(schedule)

    with pytest.raises(type(error)):
        ask(schedule, reading(), 5.0)


# Strategies that act on the schedule


@pytest.mark.parametrize("then", [pytest.param(returning(10), id="goes on"), *NONSENSE])
def test_a_strategy_may_detach_its_task(then: Strategy) -> None:
    """A task that its own strategy removed stays removed, whatever the strategy does next."""

    def wait(state: tenacity.RetryCallState) -> float:
        schedule.remove(state.kwargs["task"])
        return then(state)

    schedule = make_schedule(wait)
    follow(schedule, deadline=100.0)

    assert ask(schedule, reading(), 5.0) is None

    assert len(schedule) == 0
    assert schedule.next_poll() == schedule.next_deadline() == math.inf


@pytest.mark.parametrize("then", [pytest.param(returning(10), id="goes on"), *NONSENSE])
def test_a_strategy_may_follow_its_task_anew(then: Strategy) -> None:
    """A task of the same id that the strategy began to follow is not touched by the old one's end."""

    def wait(state: tenacity.RetryCallState) -> float:
        schedule.remove(state.kwargs["task"])
        anew.append(follow(schedule, now=5.0))
        return then(state)

    anew: list[object] = []
    schedule = make_schedule(wait)
    follow(schedule)

    assert ask(schedule, reading(), 5.0) is None

    assert list(schedule.tasks) == anew
    assert schedule.next_poll() == 10.0
    assert schedule.take(10.0) is anew[0]
    assert schedule.take(1000.0) is None


def test_a_strategy_may_detach_another_task() -> None:
    """Removing others from within a strategy leaves its own task scheduled."""

    def wait(_: tenacity.RetryCallState) -> float:
        schedule.remove(other)
        return 10

    schedule = make_schedule(wait)
    task, other = follow(schedule, "task_1"), follow(schedule, "task_2", 1.0)

    assert ask(schedule, reading(), 5.0) is None

    assert list(schedule.tasks) == [task]
    assert schedule.next_poll() == 15.0
