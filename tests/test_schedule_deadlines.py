"""The schedule alone: what happens at a task's deadline."""

from __future__ import annotations

import math

import pytest
import tenacity

from octoremix import (
    OctoremixError,
    PollPolicy,
    RateLimitError,
    ServerError,
    TaskStatus,
    Video,
    WaitTimeoutError,
)
from octoremix._schedule import Schedule

from .readings import ask, assert_survives, follow, reading, refused

GRACE = 10.0


def make_schedule(wait: object = None) -> Schedule:
    return Schedule(PollPolicy(wait=wait or tenacity.wait_fixed(10)), grace=GRACE)


def forbidden(_: tenacity.RetryCallState) -> float:
    raise AssertionError("the strategy must not be asked")


def test_a_task_without_a_deadline_is_followed_for_ever() -> None:
    """With the deadline None nothing ever strikes."""
    schedule = make_schedule()
    follow(schedule, deadline=None)

    assert schedule.next_deadline() == math.inf
    assert schedule.strike(1e12) is None
    assert ask(schedule, reading(), 1e12) is None


def test_the_last_poll_goes_ahead_of_all_others() -> None:
    """At its deadline a task is asked for once more, before any that is overdue for longer."""
    schedule = make_schedule()
    for number in range(3):
        follow(schedule, f"overdue_{number}")
    last = follow(schedule, "last", deadline=60.0)
    assert schedule.next_deadline() == 60.0

    assert schedule.strike(60.0) is None

    assert schedule.next_poll() == -math.inf
    assert schedule.take(60.0) is last


def test_nothing_strikes_before_its_time() -> None:
    """A deadline has no effect the smallest moment before it has passed."""
    schedule = make_schedule()
    follow(schedule, deadline=60.0)

    assert schedule.strike(math.nextafter(60.0, 0.0)) is None

    assert schedule.next_poll() == 5.0
    assert schedule.next_deadline() == 60.0


def test_a_deadline_before_the_first_delay_makes_one_poll() -> None:
    """A task whose time is over before its first poll is due is asked for once, then."""
    schedule = make_schedule()
    follow(schedule, deadline=2.0)
    schedule.strike(2.0)

    error = ask(schedule, reading(), 2.0)

    assert isinstance(error, WaitTimeoutError)
    assert schedule.take(1000.0) is None


def test_a_pause_beyond_the_deadline_is_cut_short() -> None:
    """However long the strategy wants to wait, the last poll is made at the deadline."""
    schedule = make_schedule(tenacity.wait_fixed(10_000))
    task = follow(schedule, deadline=60.0)
    ask(schedule, reading(), 5.0)
    assert schedule.next_poll() == 10_005.0

    schedule.strike(60.0)

    assert schedule.take(60.0) is task


@pytest.mark.parametrize(
    "answer",
    [reading("processing"), refused(ServerError), refused(RateLimitError)],
    ids=["not yet", "failed", "429"],
)
def test_a_last_poll_without_an_end_is_a_timeout(answer: OctoremixError) -> None:
    """Whatever the last poll brings but the task's end, the wait is over, with the snapshot."""
    schedule = make_schedule()
    follow(schedule, deadline=60.0)
    ask(schedule, reading("queued", progress=3), 5.0)
    schedule.strike(60.0)
    assert schedule.take(60.0) is not None
    task = schedule.get("task_1")
    assert task is not None

    error = schedule.observe(task, answer, 63.0)

    assert isinstance(error, WaitTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.id == "task_1"
    assert error.video is not None
    assert error.video.status in {TaskStatus.QUEUED, TaskStatus.PROCESSING}
    assert "track(id)" in str(error)
    assert_survives(error)
    assert len(schedule) == 0
    assert schedule.next_deadline() == schedule.next_poll() == math.inf


def test_a_last_poll_that_brings_the_end_is_taken() -> None:
    """A task that is found completed by its last poll is a video, not a timeout."""
    schedule = make_schedule()
    follow(schedule, deadline=60.0)
    schedule.strike(60.0)

    assert isinstance(ask(schedule, reading("completed"), 65.0), Video)


def test_no_strategy_is_asked_after_the_deadline() -> None:
    """What comes after the deadline is not scheduled by the strategy, which may be broken."""
    schedule = make_schedule(forbidden)
    task = follow(schedule, deadline=3.0)
    schedule.strike(3.0)
    assert schedule.take(3.0) is task

    assert isinstance(schedule.observe(task, reading(), 4.0), WaitTimeoutError)


def test_a_task_that_was_never_seen_says_so() -> None:
    """Without any good answer the timeout has no video and tells that nothing was seen."""
    schedule = make_schedule()
    follow(schedule, deadline=60.0)
    schedule.strike(60.0)

    error = ask(schedule, refused(ServerError), 60.0)

    assert isinstance(error, WaitTimeoutError)
    assert error.video is None
    assert "not seen yet" in str(error)


# A poll that is in flight at the deadline


def in_flight_at_the_deadline() -> tuple[Schedule, object]:
    schedule = make_schedule()
    task = follow(schedule, deadline=60.0)
    assert schedule.take(59.0) is task
    assert schedule.strike(60.0) is None
    return schedule, task


def test_a_poll_in_flight_at_the_deadline_may_end() -> None:
    """Its answer is taken when it comes within the grace, and no second poll is sent meanwhile."""
    schedule, task = in_flight_at_the_deadline()
    assert schedule.take(69.0) is None

    verdict = schedule.observe(task, reading("completed"), 69.0)

    assert isinstance(verdict, Video)


def test_a_poll_in_flight_is_followed_by_the_last_one() -> None:
    """An answer that is not the end, from before the deadline, leaves the last poll to be made."""
    schedule, task = in_flight_at_the_deadline()
    follow(schedule, "overdue", now=-100.0)

    assert schedule.observe(task, reading(), 64.0) is None
    assert schedule.take(64.0) is task
    assert isinstance(schedule.observe(task, reading(), 65.0), WaitTimeoutError)


def test_an_answer_at_the_deadline_that_was_not_struck_yet() -> None:
    """Whether the answer or the strike is handled first, one last poll is made, and only one."""
    schedule = make_schedule()
    task = follow(schedule, deadline=60.0)
    assert schedule.take(59.0) is task
    assert schedule.observe(task, reading(), 60.0) is None

    assert schedule.strike(60.0) is None

    assert schedule.take(60.0) is task
    assert schedule.take(60.0) is None
    assert isinstance(schedule.observe(task, reading(), 61.0), WaitTimeoutError)
    assert schedule.next_deadline() == math.inf


def test_the_last_poll_may_even_be_out_before_the_strike() -> None:
    """A last poll that was taken at once is not made a second time by the strike."""
    schedule = make_schedule()
    task = follow(schedule, deadline=60.0)
    schedule.take(59.0)
    schedule.observe(task, reading(), 60.0)
    assert schedule.take(60.0) is task

    assert schedule.strike(60.0) is None

    assert schedule.take(60.0) is None
    assert isinstance(schedule.observe(task, reading(), 61.0), WaitTimeoutError)
    assert len(schedule) == 0


def test_an_answer_after_the_grace_still_counts() -> None:
    """An answer is never thrown away: the end is taken, any other is the last snapshot."""
    schedule, task = in_flight_at_the_deadline()
    assert schedule.strike(70.0) is None  # it is for the answer to end it
    assert isinstance(schedule.observe(task, reading("completed"), 70.0), Video)

    schedule, task = in_flight_at_the_deadline()
    error = schedule.observe(task, reading(progress=77), 70.0)
    assert isinstance(error, WaitTimeoutError)
    assert error.video is not None
    assert error.video.progress == 77


def test_a_last_poll_that_is_broken_off_is_made_again() -> None:
    """A last poll that somebody else cancels is put back like any other."""
    schedule = make_schedule()
    task = follow(schedule, deadline=60.0)
    schedule.strike(60.0)
    schedule.take(60.0)
    schedule.release(task, 61.0)

    assert schedule.take(61.0) is task
    assert isinstance(schedule.observe(task, reading(), 62.0), WaitTimeoutError)


# A last poll that can't be sent


def test_a_task_whose_last_poll_can_not_be_sent_is_given_up() -> None:
    """If the grace passes before the last poll could leave, the task ends without it."""
    schedule = make_schedule()
    task = follow(schedule, deadline=60.0)
    ask(schedule, reading(progress=5), 5.0)
    schedule.strike(60.0)
    assert schedule.next_deadline() == 70.0
    assert schedule.strike(math.nextafter(70.0, 0.0)) is None

    given_up = schedule.strike(70.0)

    assert given_up is not None
    assert given_up[0] is task
    assert isinstance(given_up[1], WaitTimeoutError)
    assert given_up[1].id == "task_1"
    assert given_up[1].video is not None
    assert_survives(given_up[1])
    assert len(schedule) == 0
    assert schedule.next_poll() == math.inf


def test_one_deadline_strikes_at_a_time() -> None:
    """Each call acts on one task, the earliest deadline first, until none has passed."""
    schedule = make_schedule()
    for number, deadline in ((1, 30.0), (2, 10.0), (3, 20.0), (4, 500.0)):
        follow(schedule, f"task_{number}", deadline=deadline)
    for _ in range(3):
        assert schedule.strike(100.0) is None
    assert schedule.next_deadline() == 110.0

    given_up = []
    while schedule.next_deadline() <= 110.0:
        struck = schedule.strike(110.0)
        assert struck is not None
        given_up.append(struck[0].id)

    assert given_up == ["task_2", "task_3", "task_1"]
    assert list(schedule.ids) == ["task_4"]


def test_a_settled_task_has_no_deadline() -> None:
    """The deadline of a task that ended before it neither strikes nor wakes anybody."""
    schedule = make_schedule()
    follow(schedule, "task_1", deadline=60.0)
    follow(schedule, "task_2", deadline=90.0)
    assert isinstance(ask(schedule, reading("completed"), 5.0), Video)

    assert schedule.next_deadline() == 90.0
    assert schedule.strike(60.0) is None


def test_pauses_that_were_cut_short_take_no_room() -> None:
    """The polls that deadlines took the place of, due in days, are not kept that long."""
    schedule = make_schedule(tenacity.wait_fixed(1e6))
    for number in range(500):
        follow(schedule, f"task_{number}", deadline=60.0)
        ask(schedule, reading(), 5.0)
    follow(schedule, "stays")
    for _ in range(500):
        schedule.strike(60.0)
    for _ in range(500):
        assert isinstance(ask(schedule, reading(), 60.0), WaitTimeoutError)

    assert list(schedule.ids) == ["stays"]
    assert len(schedule._polls) < 20
    assert len(schedule._deadlines) < 20


# How long a poll may take


@pytest.mark.parametrize(
    ("deadline", "sent_at", "seconds"),
    [
        (None, 5.0, math.inf),
        (60.0, 5.0, 65.0),
        (60.0, 59.0, 11.0),
        (60.0, 60.0, 10.0),
    ],
)
def test_a_poll_may_take_until_the_grace_is_over(
    deadline: float | None, sent_at: float, seconds: float
) -> None:
    """The patience with a poll ends so many seconds after its task's deadline."""
    schedule = make_schedule()
    task = follow(schedule, deadline=deadline)

    assert schedule.patience(task, sent_at) == seconds


def test_a_last_poll_that_is_sent_late_has_what_is_left_of_the_grace() -> None:
    """The grace begins at the deadline, however late the last poll could be sent."""
    schedule = make_schedule()
    task = follow(schedule, deadline=60.0)
    schedule.strike(60.0)

    assert schedule.patience(task, 68.0) == 2.0
    assert schedule.patience(task, 70.0) == 0.0
    assert schedule.patience(task, 99.0) == 0.0


@pytest.mark.parametrize("struck_first", [True, False])
def test_a_last_poll_is_not_lost_when_the_program_slept(struck_first: bool) -> None:
    """Where the deadline is noticed too late, the last poll has its whole grace from then on."""
    schedule = make_schedule()
    task = follow(schedule, deadline=60.0)
    assert schedule.take(59.0) is task
    woken_at = 500.0
    if struck_first:
        schedule.strike(woken_at)
    assert schedule.observe(task, reading(), woken_at) is None

    assert schedule.take(woken_at) is task
    assert schedule.patience(task, woken_at) == GRACE
