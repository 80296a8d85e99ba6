"""The schedule under any sequence of calls, held against a model that is too simple to be wrong."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable

import tenacity
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from octoremix import (
    DetachedError,
    OctoremixError,
    PollingFailedError,
    PollPolicy,
    RateLimitError,
    RemixFailedError,
    ServerError,
    TaskLostError,
    TaskNotFoundError,
    Video,
    WaitTimeoutError,
)
from octoremix._pace import Pace
from octoremix._poller import Poller
from octoremix._schedule import Schedule
from octoremix._timetable import FollowedTask
from octoremix._wire import Reading

from .readings import follow, reading, refused
from .virtual_time import VirtualTimeLoop

FIRST_DELAY, GRACE, MAX_FAILURES, WINDOW = 5.0, 10.0, 3, 30.0

# Quarters, which floats add without rounding.
TIMES = st.integers(0, 160).map(lambda quarters: quarters / 4)

PICKS = st.integers(0, 1000)

ENDINGS = {"completed": Video, "failed": RemixFailedError}


@define(eq=False)
class Expected:
    """What the model knows of one task."""

    task: FollowedTask
    ours: bool
    followed_at: float
    last_good_at: float
    deadline: float
    due: tuple[float, int] | None
    strike: tuple[float, int] | None
    seen: bool
    failures: int = 0
    give_up_at: float = math.inf
    last_poll: bool = False
    in_flight: bool = False
    polls: int = 0


class ScheduleMachine(RuleBasedStateMachine):
    """Tasks come, are asked for, answered, released, detached and end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pause: object = 10.0
        policy = PollPolicy(
            wait=lambda _: self.pause,
            first_delay=FIRST_DELAY,
            max_failures=MAX_FAILURES,
            failure_window=WINDOW,
        )
        self.schedule = Schedule(policy, grace=GRACE)
        self.expected: dict[str, Expected] = {}
        self.now = 0.0
        self.count = itertools.count()
        self.gone: list[FollowedTask] = []

    def flying(self, pick: int) -> str | None:
        """Return one of the tasks in flight."""
        names = [name for name, each in self.expected.items() if each.in_flight]
        return names[pick % len(names)] if names else None

    def due_at(self, each: Expected, when: float) -> None:
        each.due = when, next(self.count)

    def forget(self, name: str) -> None:
        self.gone.append(self.expected.pop(name).task)

    # What happens

    @rule(
        deadline=st.one_of(st.none(), st.integers(1, 800).map(lambda quarters: quarters / 4)),
        ours=st.booleans(),
        name=st.integers(0, 30),
    )
    def follow(self, deadline: float | None, ours: bool, name: int) -> None:
        task_id = f"task_{name}"
        if task_id in self.expected:
            return
        accepted = reading("queued", task_id) if ours else None
        task = follow(self.schedule, task_id, self.now, deadline=deadline, accepted=accepted)
        self.expected[task_id] = Expected(
            task,
            ours,
            followed_at=self.now,
            last_good_at=self.now,
            deadline=math.inf if deadline is None else self.now + deadline,
            due=(self.now + FIRST_DELAY, next(self.count)),
            strike=None if deadline is None else (self.now + deadline, next(self.count)),
            seen=ours,
        )

    @rule(seconds=TIMES)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(room=st.integers(1, 8))
    def take(self, room: int) -> None:
        for _ in range(room):
            due = {
                each.due: name
                for name, each in self.expected.items()
                if each.due is not None and each.due[0] <= self.now
            }
            task = self.schedule.take(self.now)
            if not due:
                assert task is None
                return
            assert task is not None
            assert task.id == due[min(due)]  # the longest overdue; of equals the first to come
            each = self.expected[task.id]
            assert task is each.task
            each.due, each.in_flight, each.polls = None, True, each.polls + 1
            assert task.polls == each.polls

    @rule(
        pick=PICKS,
        status=st.sampled_from(["processing", "queued", "odd", "completed", "failed"]),
        pause=TIMES,
    )
    def answer(self, pick: int, status: str, pause: float) -> None:
        name = self.flying(pick)
        if name is None:
            return
        each = self.expected[name]
        self.pause, each.in_flight = pause, False
        answer = reading(status, name)
        each.failures, each.last_good_at, each.seen = 0, self.now, True
        verdict = self.schedule.observe(each.task, answer, self.now)
        assert each.task.reading is answer
        if status in ENDINGS:
            assert isinstance(verdict, ENDINGS[status])
            self.forget(name)
        elif not self.ended_by_deadline(name, verdict):
            assert verdict is None
            if self.now < each.deadline:
                self.due_at(each, self.now + pause)

    @rule(pick=PICKS, kind=st.sampled_from([ServerError, TaskNotFoundError]), pause=TIMES)
    def failure(self, pick: int, kind: type[OctoremixError], pause: float) -> None:
        name = self.flying(pick)
        if name is None:
            return
        each = self.expected[name]
        self.pause, each.in_flight = pause, False
        verdict = self.schedule.observe(each.task, refused(kind, name), self.now)
        if kind is TaskNotFoundError and not (each.ours and self.now - each.followed_at < 60):
            assert isinstance(verdict, TaskLostError if each.seen else TaskNotFoundError)
            self.forget(name)
            return
        each.failures += 1
        if each.failures >= MAX_FAILURES and self.now - each.last_good_at >= WINDOW:
            assert isinstance(verdict, PollingFailedError)
            self.forget(name)
        elif not self.ended_by_deadline(name, verdict):
            assert verdict is None
            if self.now < each.deadline:
                self.due_at(each, self.now + pause)

    @rule(pick=PICKS)
    def too_many_requests(self, pick: int) -> None:
        name = self.flying(pick)
        if name is None:
            return
        each = self.expected[name]
        each.in_flight = False
        verdict = self.schedule.observe(each.task, refused(RateLimitError, name), self.now)
        if not self.ended_by_deadline(name, verdict):
            assert verdict is None
            if self.now < each.deadline:
                self.due_at(each, self.now)

    @rule(pick=PICKS, pause=st.sampled_from([math.nan, -1.0, None, "10"]))
    def nonsense_from_the_strategy(self, pick: int, pause: object) -> None:
        name = self.flying(pick)
        if name is None:
            return
        each = self.expected[name]
        self.pause, each.in_flight = pause, False
        each.failures, each.last_good_at, each.seen = 0, self.now, True
        verdict = self.schedule.observe(each.task, reading("queued", name), self.now)
        if not self.ended_by_deadline(name, verdict) and self.now < each.deadline:
            assert isinstance(verdict, PollingFailedError)
            assert verdict.id == name
            self.forget(name)

    def ended_by_deadline(self, name: str, verdict: object) -> bool:
        """Whether the deadline ends the task now; if it only calls for the last poll, note that."""
        each = self.expected[name]
        if self.now < each.deadline:
            return False
        if each.last_poll or self.now >= each.give_up_at:
            assert isinstance(verdict, WaitTimeoutError)
            assert verdict.id == name
            self.forget(name)
            return True
        each.last_poll = True
        self.due_at(each, -math.inf)
        return False

    @rule(pick=PICKS)
    def released(self, pick: int) -> None:
        name = self.flying(pick)
        if name is None:
            return
        each = self.expected[name]
        each.in_flight = False
        self.schedule.release(each.task, self.now)
        self.due_at(each, self.now)

    @rule(pick=PICKS, share=st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    def detached(self, pick: int, share: float) -> None:
        names = list(self.expected)
        random.Random(pick).shuffle(names)
        for name in names[: math.ceil(share * len(names)) or 1]:
            self.schedule.remove(self.expected[name].task)
            self.forget(name)

    @rule()
    def strike(self) -> None:
        while self.schedule.next_deadline() <= self.now:
            _, name = min(self.strikes())
            each = self.expected[name]
            given_up = self.schedule.strike(self.now)
            if each.give_up_at == math.inf:
                assert given_up is None
                each.give_up_at = self.now + GRACE
                each.strike = each.give_up_at, next(self.count)
                if not each.in_flight:
                    each.last_poll = True
                    self.due_at(each, -math.inf)
            elif each.in_flight:
                assert given_up is None
                each.strike = None  # its answer will end it
            else:
                assert given_up is not None
                assert given_up[0] is each.task
                assert isinstance(given_up[1], WaitTimeoutError)
                self.forget(name)

    def strikes(self) -> list[tuple[tuple[float, int], str]]:
        return [(each.strike, name) for name, each in self.expected.items() if each.strike]

    # What always holds

    @invariant()
    def the_next_times_are_the_true_minima(self) -> None:
        due = [each.due[0] for each in self.expected.values() if each.due is not None]
        assert self.schedule.next_poll() == min(due, default=math.inf)
        strikes = [strike[0] for strike, _ in self.strikes()]
        assert self.schedule.next_deadline() == min(strikes, default=math.inf)

    @invariant()
    def exactly_the_followed_tasks_are_held(self) -> None:
        assert set(self.schedule.ids) == set(self.expected)
        assert all(self.schedule.get(task.id) is not task for task in self.gone)
        for each in self.expected.values():
            assert each.task.failures == each.failures
            assert each.task.in_flight == each.in_flight
            assert self.schedule.patience(each.task, self.now) >= 0.0
            if self.now >= each.deadline:
                assert self.schedule.patience(each.task, self.now) <= GRACE

    @invariant()
    def what_is_withdrawn_takes_little_room(self) -> None:
        bound = 3 * len(self.expected) + 8
        assert len(self.schedule._polls) <= bound
        assert len(self.schedule._deadlines) <= bound


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(stateful_step_count=60)
TestSchedule.__doc__ = (
    "Never early, never in flight twice, never a task that is gone, the longest overdue first, and "
    "each ending for its own reason."
)


@given(
    concurrency=st.integers(1, 4),
    tasks=st.lists(
        st.tuples(
            st.integers(1, 6),  # polls until it is completed
            st.floats(0, 20).map(lambda seconds: round(seconds, 2)),  # each answer takes
            st.sampled_from(["goes on", "is detached"]),
        ),
        min_size=1,
        max_size=12,
    ),
    pause=st.floats(0.01, 30).map(lambda seconds: round(seconds, 2)),
)
def test_the_poller_keeps_to_its_room(
    concurrency: int, tasks: list[tuple[int, float, str]], pause: float
) -> None:
    """However tasks and answers come, no more polls are in flight than allowed, and all tasks end."""
    flying: list[str] = []
    most = 0
    polls: dict[str, list[tuple[float, float]]] = {}

    async def fetch(task_id: str, _: Reading | None) -> Reading:
        nonlocal most
        loop = asyncio.get_running_loop()
        needed, seconds, _ = tasks[int(task_id)]
        assert task_id not in flying
        flying.append(task_id)
        most = max(most, len(flying))
        sent_at = loop.time()
        try:
            await asyncio.sleep(seconds)
        finally:
            flying.remove(task_id)
        polls.setdefault(task_id, []).append((sent_at, loop.time()))
        return reading("completed" if len(polls[task_id]) == needed else "processing", task_id)

    async def main() -> float:
        poller = Poller(
            fetch,
            PollPolicy(wait=tenacity.wait_fixed(pause), concurrency=concurrency),
            Pace(),
            request_timeout=30.0,
            max_tasks=100,
            notify=None,
        )
        began = asyncio.get_running_loop().time()
        futures = [poller.follow(str(number), deadline=None) for number in range(len(tasks))]
        for (_, seconds, fate), future in zip(tasks, futures, strict=True):
            if fate == "is detached":
                asyncio.get_running_loop().call_later(5 + seconds, future.detach)
        ends = await asyncio.gather(*(outcome(future.wait) for future in futures))
        await poller.aclose()
        for (_, _, fate), end in zip(tasks, ends, strict=True):
            assert isinstance(end, Video) or (fate == "is detached" and end is DetachedError)
        return began

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        began = runner.run(main())

    assert most <= concurrency
    assert not flying
    for answered in polls.values():
        assert answered[0][0] >= began + FIRST_DELAY - 1e-6
        for (_, done_at), (sent_at, _) in itertools.pairwise(answered):
            assert sent_at >= done_at + pause - 1e-6


async def outcome(wait: Callable[[], object]) -> object:
    try:
        return await wait()
    except DetachedError as error:
        return type(error)
