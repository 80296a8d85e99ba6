"""The schedule under any sequence of calls, held against a model that is too simple to be wrong."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable
from functools import partial

import tenacity
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from octoremix import (
    DetachedError,
    PermissionDeniedError,
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
def quarters(count: int) -> float:
    return count / 4


PAUSES = [0.0, 1.0, 5.0, 10.0, 45.0]
NONSENSE = [-1.0, math.inf, None, "10"]

ENDINGS = {"completed": Video, "failed": RemixFailedError}
FAILURES = {
    "503": partial(refused, ServerError),
    "429": partial(refused, RateLimitError),
    "403": partial(refused, PermissionDeniedError),
    "task_not_exist": partial(refused, TaskNotFoundError),
}
# Those that go on come more often, or no task would live long.
KINDS = ["processing", "queued", "odd"] * 2 + ["503", "503", "503", "429"] * 2
KINDS += ["403", "task_not_exist", *ENDINGS]


@define(eq=False)
class Expected:
    """What the model knows of one task; times with a number that tells which came first."""

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


class Model:
    """A schedule, and beside it the plainest account of what it should hold and say."""

    def __init__(self) -> None:
        self.pause: object = 10.0
        policy = PollPolicy(
            wait=lambda _: self.pause,
            first_delay=FIRST_DELAY,
            max_failures=MAX_FAILURES,
            failure_window=WINDOW,
        )
        self.schedule = Schedule(policy, grace=GRACE)
        self.tasks: dict[str, Expected] = {}
        self.now = 0.0
        self._count = itertools.count()

    def _at(self, when: float) -> tuple[float, int]:
        return when, next(self._count)

    def follow(self, name: str, deadline: float | None, *, ours: bool) -> None:
        accepted = reading("queued", name) if ours else None
        task = follow(self.schedule, name, self.now, deadline=deadline, accepted=accepted)
        self.tasks[name] = Expected(
            task,
            ours,
            followed_at=self.now,
            last_good_at=self.now,
            deadline=math.inf if deadline is None else self.now + deadline,
            due=self._at(self.now + FIRST_DELAY),
            strike=None if deadline is None else self._at(self.now + deadline),
            seen=ours,
        )

    def detach(self, name: str) -> None:
        self.schedule.remove(self.tasks.pop(name).task)

    def take(self) -> bool:
        """Take a task: the longest overdue, of equals the first to come, and none too early."""
        due = {
            each.due: name
            for name, each in self.tasks.items()
            if each.due is not None and each.due[0] <= self.now
        }
        task = self.schedule.take(self.now)
        if not due:
            assert task is None
            return False
        each = self.tasks[due[min(due)]]
        assert task is each.task
        each.due, each.in_flight, each.polls = None, True, each.polls + 1
        assert task.polls == each.polls
        return True

    def release(self, name: str) -> None:
        each = self.tasks[name]
        each.in_flight, each.due = False, self._at(self.now)
        self.schedule.release(each.task, self.now)

    def answer(self, name: str, kind: str, pause: object) -> None:
        """Answer a poll in flight and hold the verdict against what should come of it."""
        each = self.tasks[name]
        answer = FAILURES[kind](name) if kind in FAILURES else reading(kind, name)
        each.in_flight, self.pause = False, pause
        if kind not in FAILURES:
            each.failures, each.last_good_at, each.seen = 0, self.now, True
        expected = self._ending(each, kind)
        verdict = self.schedule.observe(each.task, answer, self.now)
        if expected is not None:
            assert type(verdict) is expected
            assert verdict.id == name
            del self.tasks[name]
            return
        assert verdict is None
        if self.now >= each.deadline:
            each.last_poll, each.due = True, self._at(-math.inf)
        else:
            each.due = self._at(self.now if kind == "429" else self.now + pause)

    def _ending(self, each: Expected, kind: str) -> type | None:
        if kind in ENDINGS:
            return ENDINGS[kind]
        if kind == "403":
            return PollingFailedError
        fresh = each.ours and self.now - each.followed_at < 60
        if kind == "task_not_exist" and not fresh:
            return TaskLostError if each.seen else TaskNotFoundError
        if kind in {"503", "task_not_exist"}:
            each.failures += 1
            if each.failures >= MAX_FAILURES and self.now - each.last_good_at >= WINDOW:
                return PollingFailedError
        if self.now >= each.deadline:
            return WaitTimeoutError if each.last_poll or self.now >= each.give_up_at else None
        return None if kind == "429" or self.pause in PAUSES else PollingFailedError

    def strike(self) -> None:
        """Let all deadlines that have passed take effect."""
        while self.schedule.next_deadline() <= self.now:
            name = min(self._strikes())[1]
            each = self.tasks[name]
            given_up = self.schedule.strike(self.now)
            if each.give_up_at < math.inf and not each.in_flight:
                assert given_up is not None
                assert given_up[0] is each.task
                assert type(given_up[1]) is WaitTimeoutError
                del self.tasks[name]
                continue
            assert given_up is None
            if each.give_up_at < math.inf:
                each.strike = None  # the answer that is on its way will end it
                continue
            each.give_up_at = self.now + GRACE
            each.strike = self._at(each.give_up_at)
            if not each.in_flight:
                each.last_poll, each.due = True, self._at(-math.inf)

    def _strikes(self) -> list[tuple[tuple[float, int], str]]:
        return [(each.strike, name) for name, each in self.tasks.items() if each.strike]

    def check(self) -> None:
        """Assert what always holds."""
        due = [each.due[0] for each in self.tasks.values() if each.due]
        assert self.schedule.next_poll() == min(due, default=math.inf)
        strikes = [strike[0] for strike, _ in self._strikes()]
        assert self.schedule.next_deadline() == min(strikes, default=math.inf)
        assert dict.fromkeys(self.schedule.ids) == dict.fromkeys(self.tasks)
        for name, each in self.tasks.items():
            assert self.schedule.get(name) is each.task
            assert each.task.failures == each.failures
            patience = self.schedule.patience(each.task, self.now)
            assert 0 <= patience <= max(0, each.deadline - self.now) + GRACE
        for timetable in (self.schedule._polls, self.schedule._deadlines):
            assert len(timetable) <= 3 * len(self.tasks) + 8


class ScheduleMachine(RuleBasedStateMachine):
    """Tasks come, are asked for, answered, released, detached and end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.names = itertools.count()

    @rule(
        deadline=st.one_of(st.none(), st.integers(1, 300).map(quarters)),
        ours=st.booleans(),
        count=st.integers(1, 12),
    )
    def follow(self, deadline: float | None, ours: bool, count: int) -> None:
        for _ in range(count):
            name = f"task_{next(self.names) % 40}"
            if name not in self.model.tasks:
                self.model.follow(name, deadline, ours=ours)

    @rule(
        seconds=st.integers(0, 80).map(quarters),
        strike=st.booleans(),
        room=st.integers(0, 16),
        kinds=st.lists(st.sampled_from(KINDS), max_size=16),
        pause=st.one_of(st.sampled_from(PAUSES), st.sampled_from(NONSENSE)),
        released=st.integers(0, 2),
    )
    def turn(
        self,
        seconds: float,
        strike: bool,
        room: int,
        kinds: list[str],
        pause: object,
        released: int,
    ) -> None:
        self.model.now += seconds
        if strike:
            self.model.strike()
        flying = [name for name, each in self.model.tasks.items() if each.in_flight]
        while len(flying) < room and self.model.take():
            flying = [name for name, each in self.model.tasks.items() if each.in_flight]
        for name, kind in zip(flying, kinds, strict=False):
            self.model.answer(name, kind, pause)
        for name in flying[len(kinds) :][:released]:
            self.model.release(name)

    @rule(share=st.floats(0, 1), seed=st.integers(0, 99))
    def detach(self, share: float, seed: int) -> None:
        names = list(self.model.tasks)
        for name in random.Random(seed).sample(names, int(share * len(names))):
            self.model.detach(name)

    @invariant()
    def the_model_agrees(self) -> None:
        self.model.check()


TestSchedule = ScheduleMachine.TestCase
TestSchedule.__doc__ = (
    "Never early, never in flight twice, never a task that is gone, the longest overdue first, and "
    "each ending for its own reason."
)


def test_a_long_life_of_the_schedule() -> None:
    """Thousands of tasks later the schedule still agrees with the model, and holds no more."""
    chance = random.Random(7)
    model = Model()
    names = itertools.count()
    for _ in range(3000):
        model.now += chance.choice((0.0, 0.25, 1.0, 5.0))
        while len(model.tasks) < 30:
            deadline = chance.choice((None, 20.0, 60.0, 3600.0))
            model.follow(f"task_{next(names)}", deadline, ours=chance.random() < 0.5)
        if chance.random() < 0.9:
            model.strike()
        while chance.random() < 0.9 and model.take():
            pass
        for name in [name for name, each in model.tasks.items() if each.in_flight]:
            if chance.random() < 0.6:
                model.answer(name, chance.choice(KINDS), chance.choice(PAUSES))
            elif chance.random() < 0.1:
                model.release(name)
        for name in list(model.tasks):
            if chance.random() < 0.01:
                model.detach(name)
        model.check()

    assert next(names) > 3000


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

    async def fetch(task_id: str, *_: object) -> Reading:
        nonlocal most
        loop = asyncio.get_running_loop()
        needed, seconds, __ = tasks[int(task_id)]
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
