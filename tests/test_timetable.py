"""The timetable alone: what is due first, and that what was withdrawn takes no room."""

from __future__ import annotations

import math
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octoremix import TaskStatus
from octoremix._timetable import FollowedTask, Timetable

from .readings import reading

ENTRIES_FOR_EACH_LIVE_ONE = 3
SLACK = 8


class Book:
    """A timetable, and beside it the entries that should be in it."""

    def __init__(self) -> None:
        self.live: dict[int, tuple[float, int, str]] = {}
        self.timetable = Timetable(lambda number, _: number in self.live)

    def add(self, when: float, task_id: str = "task") -> int:
        number = self.timetable.add(when, task_id)
        self.live[number] = when, number, task_id
        return number

    def withdraw(self, number: int) -> None:
        del self.live[number]
        self.timetable.withdrawn()

    def pop(self, now: float) -> str | None:
        """Pop, and hold it against the book."""
        first = min(self.live.values(), default=None)
        popped = self.timetable.pop(now)
        if first is None or first[0] > now:
            assert popped is None
        else:
            assert popped == first[2]
            del self.live[first[1]]
        return popped

    def check(self) -> None:
        first = min(self.live.values(), default=(math.inf,))
        assert self.timetable.next() == first[0]
        assert self.timetable._stale == len(self.timetable) - len(self.live)
        assert len(self.timetable) <= ENTRIES_FOR_EACH_LIVE_ONE * len(self.live) + SLACK


def test_an_empty_timetable_has_nothing_due() -> None:
    """Without entries the next time is infinity and nothing is popped."""
    book = Book()

    assert book.timetable.next() == math.inf
    assert book.timetable.pop(math.inf) is None
    assert len(book.timetable) == 0


def test_ids_come_out_in_order_of_time() -> None:
    """The earliest id is popped first, whatever the order in which they were entered."""
    book = Book()
    for when in (30.0, 10.0, 20.0, -math.inf, 0.0):
        book.add(when, f"at {when}")

    assert [book.pop(1000) for _ in range(6)] == [
        "at -inf",
        "at 0.0",
        "at 10.0",
        "at 20.0",
        "at 30.0",
        None,
    ]


def test_equal_times_come_out_in_the_order_in_which_they_came() -> None:
    """Ids of the same time are popped first in, first out, and not by their names."""
    book = Book()
    for name in ("c", "a", "b"):
        book.add(5.0, name)

    assert [book.pop(5.0) for _ in range(3)] == ["c", "a", "b"]


def test_nothing_is_popped_before_its_time() -> None:
    """An id is popped at its time and not the smallest moment earlier."""
    book = Book()
    book.add(5.0)

    assert book.pop(math.nextafter(5.0, 0.0)) is None
    assert book.pop(5.0) == "task"


def test_a_withdrawn_entry_never_comes_out() -> None:
    """A withdrawn entry is neither popped nor counted as the next, also where it was the first."""
    book = Book()
    first, _ = book.add(1.0, "withdrawn"), book.add(2.0, "kept")
    book.withdraw(first)

    assert book.timetable.next() == 2.0
    assert book.pop(10.0) == "kept"
    assert book.pop(10.0) is None


def test_the_same_id_may_be_entered_again() -> None:
    """An id whose old entry was withdrawn comes out at its new time alone."""
    book = Book()
    book.withdraw(book.add(1.0, "task_1"))
    book.add(7.0, "task_1")

    assert book.pop(6.0) is None
    assert book.pop(7.0) == "task_1"
    assert book.pop(math.inf) is None


def test_deadlines_that_outlive_their_tasks_take_no_room() -> None:
    """Entries that are withdrawn long before their time, one after another, don't pile up."""
    book = Book()
    numbers = [book.add(3600.0 + count) for count in range(100)]
    most = 0
    for count in range(20_000):
        book.withdraw(numbers[count])
        numbers.append(book.add(7200.0 + count))
        most = max(most, len(book.timetable))

    assert most <= ENTRIES_FOR_EACH_LIVE_ONE * 100 + SLACK


def test_a_timetable_that_empties_by_its_live_entries_keeps_no_stale_ones() -> None:
    """Stale entries of a far time go although nothing is withdrawn any more, only popped."""
    book = Book()
    far = [book.add(1e6) for _ in range(450)]
    for count in range(550):
        book.add(float(count))
    for number in far:
        book.withdraw(number)
    book.add(2e6, "last")
    for _ in range(550):
        book.pop(1000.0)
        book.check()

    assert len(book.timetable) <= ENTRIES_FOR_EACH_LIVE_ONE + SLACK


def test_compaction_loses_nothing_and_doubles_nothing() -> None:
    """Of thousands of entries, most withdrawn in any order, the others come out once, in order."""
    chance = random.Random(1)
    book = Book()
    numbers = [book.add(chance.uniform(0, 1000), f"task_{count}") for count in range(5000)]
    chance.shuffle(numbers)
    for number in numbers[:4000]:
        book.withdraw(number)
        if chance.random() < 0.2:
            book.add(chance.uniform(0, 1000), f"later_{number}")
        book.check()
    expected = [task_id for _, _, task_id in sorted(book.live.values())]

    popped = [book.timetable.pop(math.inf) for _ in range(len(expected))]

    assert popped == expected
    assert book.timetable.pop(math.inf) is None
    assert len(book.timetable) <= SLACK


class TimetableMachine(RuleBasedStateMachine):
    """Any sequence of calls, a few or hundreds of entries at once."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.chance = random.Random(0)

    @rule(
        when=st.one_of(st.just(-math.inf), st.floats(0, 100)),
        spread=st.floats(0, 10),
        count=st.integers(1, 60),
    )
    def add(self, when: float, spread: float, count: int) -> None:
        for step in range(count):
            number = self.book.add(when + spread * step, f"task_{step}")
            assert self.book.live[number][0] >= when

    @precondition(lambda self: self.book.live)
    @rule(share=st.floats(0, 1), seed=st.integers(0, 9))
    def withdraw(self, share: float, seed: int) -> None:
        live = list(self.book.live)
        for number in random.Random(seed).sample(live, int(share * len(live))):
            self.book.withdraw(number)
            self.book.check()

    @rule(now=st.floats(-1, 200), count=st.integers(1, 60))
    def pop(self, now: float, count: int) -> None:
        for _ in range(count):
            self.book.pop(now)
            self.book.check()

    @invariant()
    def the_next_is_the_true_minimum(self) -> None:
        self.book.check()

    def teardown(self) -> None:
        while self.book.live:
            self.book.pop(math.inf)
        assert self.book.timetable.pop(math.inf) is None


TestTimetable = TimetableMachine.TestCase
TestTimetable.settings = settings(stateful_step_count=30)
TestTimetable.__doc__ = (
    "Whatever is entered, withdrawn and popped: the next is the true minimum, each live entry "
    "comes out once, and the stale ones stay few."
)


def test_a_followed_task_tells_its_last_snapshot() -> None:
    """The video of a followed task is that of its last answer, and nothing before the first."""
    task = FollowedTask("task_1")
    assert task.video is None

    task.reading = reading("queued")

    assert task.video is not None
    assert task.video.status is TaskStatus.QUEUED
    assert repr(task) == "FollowedTask(id='task_1', polls=0, failures=0)"
