"""The schedule alone: what is due when, and what a good answer means for its task."""

from __future__ import annotations

import math

import pytest
import tenacity

from octoremix import (
    OctoremixError,
    PollPolicy,
    RateLimitError,
    RemixCancelledError,
    RemixExpiredError,
    RemixFailedError,
    Video,
)
from octoremix._schedule import Schedule

from .readings import ask, assert_survives, follow, reading, refused

STEADY = tenacity.wait_fixed(10)


def make_schedule(**settings: object) -> Schedule:
    return Schedule(PollPolicy(wait=STEADY, **settings), grace=10.0)


# When a task is due


def test_a_task_is_first_due_after_the_first_delay() -> None:
    """A new task is handed out once its first delay is over, and not earlier."""
    schedule = make_schedule(first_delay=5.0)
    task = follow(schedule, now=100.0)

    assert schedule.next_poll() == 105.0
    assert schedule.take(math.nextafter(105.0, 0.0)) is None
    assert schedule.take(105.0) is task


def test_a_first_delay_of_nothing_is_due_at_once() -> None:
    """With a first delay of 0 a task may be asked for at the moment it is followed."""
    schedule = make_schedule(first_delay=0)
    task = follow(schedule, now=100.0)

    assert schedule.take(100.0) is task


def test_the_pause_counts_from_the_answer() -> None:
    """The pause before the next poll begins when the last one was answered, not when it was sent."""
    schedule = make_schedule()
    task = follow(schedule)
    assert schedule.take(5.0) is task

    assert schedule.observe(task, reading(), 8.0) is None

    assert schedule.next_poll() == 18.0


def test_a_task_in_flight_is_not_handed_out_again() -> None:
    """While a poll waits for its answer its task is due no more, however long that takes."""
    schedule = make_schedule()
    task = follow(schedule)
    assert schedule.take(5.0) is task
    assert task.in_flight

    assert schedule.next_poll() == math.inf
    assert schedule.take(10_000.0) is None


def test_the_longest_overdue_goes_first() -> None:
    """Among overdue tasks the order is that of their due times, so that none starves."""
    schedule = make_schedule(first_delay=0)
    for task_id, now in (("late", 30.0), ("early", 10.0), ("middle", 20.0)):
        follow(schedule, task_id, now)

    taken = [schedule.take(100.0) for _ in range(3)]

    assert [task and task.id for task in taken] == ["early", "middle", "late"]


def test_a_task_that_was_refused_does_not_jump_the_queue() -> None:
    """A poll that got a 429 is due at once, but after those that have been overdue for longer."""
    schedule = make_schedule(first_delay=0)
    for task_id in ("refused", "waiting"):
        follow(schedule, task_id)
    assert ask(schedule, refused(RateLimitError), 50.0) is None

    assert [schedule.take(50.0).id, schedule.take(50.0).id] == ["waiting", "refused"]


def test_an_empty_schedule_waits_for_nothing() -> None:
    """Without tasks there is no next poll, no next deadline and nothing to take or to strike."""
    schedule = make_schedule()

    assert schedule.next_poll() == schedule.next_deadline() == math.inf
    assert schedule.take(math.inf) is None
    assert schedule.strike(1e9) is None


def test_a_removed_task_is_never_handed_out() -> None:
    """What was removed is gone from the ids, the polls and the deadlines."""
    schedule = make_schedule()
    task = follow(schedule, deadline=100.0)
    schedule.remove(task)

    assert len(schedule) == 0
    assert schedule.get("task_1") is None
    assert list(schedule.ids) == list(schedule.tasks) == []
    assert schedule.next_poll() == schedule.next_deadline() == math.inf
    assert schedule.take(1000.0) is None
    assert schedule.strike(1000.0) is None


def test_an_id_that_is_followed_again_starts_anew() -> None:
    """An old entry of the same id makes its new task neither due nor overdue early."""
    schedule = make_schedule()
    schedule.remove(follow(schedule, now=0.0, deadline=50.0))
    again = follow(schedule, now=40.0, deadline=50.0)

    assert schedule.take(44.0) is None
    assert schedule.next_deadline() == 90.0
    assert schedule.take(45.0) is again


def test_a_poll_that_somebody_broke_off_is_due_at_once() -> None:
    """A released task is neither lost nor failed: it is asked for again."""
    schedule = make_schedule(max_failures=1, failure_window=0)
    task = follow(schedule)
    assert schedule.take(5.0) is task
    schedule.release(task, 6.0)

    assert not task.in_flight
    assert schedule.next_poll() == 6.0
    assert task.failures == 0
    assert schedule.take(6.0) is task


def test_a_released_task_that_was_removed_stays_removed() -> None:
    """Breaking off the poll of a task that nobody follows any more brings it not back."""
    schedule = make_schedule()
    task = follow(schedule)
    schedule.take(5.0)
    schedule.remove(task)
    schedule.release(task, 6.0)

    assert schedule.next_poll() == math.inf


def test_a_schedule_counts_its_tasks() -> None:
    """Length, ids and repr tell how many tasks are followed, those in flight included."""
    schedule = make_schedule()
    tasks = [follow(schedule, name) for name in ("a", "b")]
    schedule.take(5.0)

    assert len(schedule) == 2
    assert list(schedule.ids) == ["a", "b"]
    assert list(schedule.tasks) == tasks
    assert schedule.get("b") is tasks[1]
    assert repr(schedule) == "<Schedule of 2 tasks>"


# Good answers


@pytest.mark.parametrize("status", ["queued", "processing", "a-new-word", "", None, "terminated"])
def test_a_word_that_is_not_known_to_be_final_keeps_a_task_polling(status: str | None) -> None:
    """Any status but the terminal ones goes on, and its snapshot is kept."""
    schedule = make_schedule()
    task = follow(schedule)
    answer = reading(status, progress=100, completed_at=1712698600)

    assert ask(schedule, answer, 5.0) is None
    assert task.reading is answer
    assert schedule.next_poll() == 15.0


def test_a_completed_task_is_its_video_and_is_forgotten() -> None:
    """The terminal answer is returned as the video, and nothing of the task stays behind."""
    schedule = make_schedule()
    follow(schedule, deadline=100.0)

    verdict = ask(schedule, reading("completed", video_url="https://cdn.test/v.mp4"), 5.0)

    assert isinstance(verdict, Video)
    assert (verdict.id, verdict.url) == ("task_1", "https://cdn.test/v.mp4")
    assert len(schedule) == 0
    assert schedule.next_poll() == schedule.next_deadline() == math.inf


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("failed", RemixFailedError),
        ("cancelled", RemixCancelledError),
        ("expired", RemixExpiredError),
    ],
)
def test_a_task_that_ends_without_a_video_is_its_error(
    status: str, kind: type[OctoremixError]
) -> None:
    """Each ending has its error, with the id and the last snapshot, fit to be copied and sent."""
    schedule = make_schedule()
    follow(schedule)

    error = ask(schedule, reading(status, error={"message": "no", "code": "nsfw"}), 5.0)

    assert type(error) is kind
    assert error.id == "task_1"
    assert error.video.status == status
    assert "[nsfw] no" in str(error)
    assert_survives(error)
    assert len(schedule) == 0
