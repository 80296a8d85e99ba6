"""Polls that end late, fail at once or meet somebody's cancellation: nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

import octoremix
from octoremix._pace import Pace
from octoremix._poller import Poller
from octoremix._wire import Reading

from .readings import reading
from .scripted import ScriptedGateway, reply, task
from .virtual_time import VirtualTimeLoop

STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5)
UNAUTHORIZED = reply({"error": {"message": "bad key", "code": ""}}, status=401)

Fetch = Callable[..., Any]


def poller(fetch: Fetch, policy: octoremix.PollPolicy = STEADY, **settings: Any) -> Poller:
    given = {"request_timeout": 30, "max_tasks": 1000, "notify": None, **settings}
    return Poller(fetch, policy, Pace(), **given)


def session(
    gateway: ScriptedGateway, poll: octoremix.PollPolicy = STEADY, **settings: Any
) -> octoremix.Session:
    return octoremix.Session("key", base_url=gateway.url, poll=poll, **settings)


def now() -> float:
    return asyncio.get_running_loop().time()


class Opaque(asyncio.Handle):
    """A timer that does not tell when it rings, as those of some loops."""

    def __init__(self, timer: asyncio.TimerHandle, *given: Any) -> None:
        super().__init__(*given)
        self.timer = timer

    def cancel(self) -> None:
        self.timer.cancel()
        super().cancel()


class OpaqueTimersLoop(VirtualTimeLoop):
    """A loop whose timers are no more than handles."""

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        timer = super().call_at(when, callback, *args, context=context)
        return Opaque(timer, callback, args, self, context)


def test_a_loop_whose_timers_tell_nothing() -> None:
    """Tasks are followed in a loop whose handles have no ``when``, each at its own time."""
    asked: list[tuple[str, float]] = []

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        asked.append((task_id, now()))
        return reading("completed" if last else "queued", task_id)

    async def main() -> None:
        octo = poller(fetch)
        futures = [octo.follow("task_1", deadline=None)]
        await asyncio.sleep(3)
        futures.append(octo.follow("task_2", deadline=4))
        await asyncio.wait(futures)
        await octo.aclose()

    with asyncio.Runner(loop_factory=OpaqueTimersLoop) as runner:
        runner.run(main())
    assert asked == [("task_1", 5), ("task_2", 7), ("task_1", 15)]


@pytest.mark.parametrize("kind", ["accepted", "cool_down", "polled", "settled"])
async def test_an_event_handler_that_raises_a_cancellation(
    kind: str, loop_errors: list[dict[str, Any]]
) -> None:
    """A handler that asks a cancelled future for its result breaks nothing but itself."""
    cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    def handler(event: octoremix.Event) -> None:
        if event.kind == kind:
            cancelled.result()

    script = [reply(status=429), task("queued"), task("completed")]
    submits = [reply(status=429), task("queued")]
    async with ScriptedGateway(submits=submits, polls=script) as gateway:
        async with session(gateway, on_event=handler) as octo:
            video = await octo.remix("video_1", prompt="snow", timeout=1000)
            assert video.status is octoremix.TaskStatus.COMPLETED
        assert len(gateway.posts) == 2
    assert {type(context["exception"]) for context in loop_errors} == {asyncio.CancelledError}
    loop_errors.clear()


async def test_a_late_poll_that_takes_turns_to_unwind_is_a_failed_poll() -> None:
    """A poll that is broken off and cleans up first fails once, and is cancelled once."""
    cancellations = 0

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        nonlocal cancellations
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancellations += 1
            await asyncio.sleep(2)
            raise
        raise AssertionError("it was not broken off")

    policy = octoremix.PollPolicy(
        wait=tenacity.wait_fixed(10), first_delay=5, max_failures=3, failure_window=0
    )
    octo = poller(fetch, policy)
    with pytest.raises(octoremix.PollingFailedError, match="3 polls in a row") as caught:
        await octo.follow("task_1", deadline=None).wait(1000)
    assert isinstance(caught.value.__cause__, octoremix.APITimeoutError)
    assert (octo.sent, cancellations) == (3, 3)
    assert now() == 5 + 3 * 32 + 2 * 10
    await octo.aclose()


async def test_a_late_poll_that_brings_its_answer_all_the_same() -> None:
    """An answer that comes in spite of the breaking off is taken, and the next poll is untouched."""

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            if task_id == "next":
                raise
            await asyncio.sleep(10)  # and swallows it
        return reading("completed", task_id)

    policy = octoremix.PollPolicy(
        wait=tenacity.wait_fixed(10), first_delay=5, concurrency=1, max_failures=1, failure_window=0
    )
    octo = poller(fetch, policy)
    first, following = octo.follow("first", deadline=None), octo.follow("next", deadline=None)
    assert (await first.wait(1000)).status is octoremix.TaskStatus.COMPLETED
    assert now() == 5 + 30 + 10
    with pytest.raises(octoremix.PollingFailedError) as caught:
        await following.wait(1000)
    assert isinstance(caught.value.__cause__, octoremix.APITimeoutError)
    assert (now(), octo.sent) == (45 + 30, 2)
    await octo.aclose()


async def test_a_late_poll_that_somebody_else_cancels_too() -> None:
    """A poll that is cancelled from outside while it is late ends, and is asked again."""
    asked = 0

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        nonlocal asked
        asked += 1
        if asked > 1:
            return reading("completed")
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            task.cancel()
            raise
        raise AssertionError("it was not broken off")

    octo = poller(fetch)
    await octo.follow("task_1", deadline=None).wait(1000)
    assert (now(), asked) == (35, 2)
    await octo.aclose()


async def test_a_key_that_raises_a_cancellation_of_its_own() -> None:
    """A poll that ends in a `CancelledError` that nobody sent it is a failed poll."""
    token: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    token.cancel()
    asked = 0

    async def key() -> str:
        nonlocal asked
        asked += 1
        return await token if asked <= 2 else "key"

    async with ScriptedGateway() as gateway:
        async with octoremix.Session(key, base_url=gateway.url, poll=STEADY) as octo:
            await octo.track("task_1").wait(1000)
            assert now() == pytest.approx(25, abs=0.1)
            assert octo.stats.polls_sent == 3


async def end_by_death(octo: octoremix.Session) -> None:
    for each in asyncio.all_tasks():
        if each.get_name() == "octoremix poller":
            each.cancel()


async def end_by_close(octo: octoremix.Session) -> None:
    await octo.aclose()


async def end_by_key(octo: octoremix.Session) -> None:
    """Leave it to the answers, which refuse the key."""


@pytest.mark.parametrize("end", [end_by_death, end_by_close, end_by_key])
async def test_a_handler_that_detaches_others_while_all_end(
    end: Callable[[octoremix.Session], Any],
) -> None:
    """Every future ends once, also those that the news of another's end detaches."""
    futures: list[octoremix.RemixFuture] = []
    ended: list[str | None] = []

    def handler(event: octoremix.Event) -> None:
        if event.kind == "settled":
            ended.append(event.id)
            if event.id == "task_0":
                futures[1].detach()
                futures[3].detach()

    async with ScriptedGateway(polls=[UNAUTHORIZED]) as gateway:
        async with session(gateway, on_event=handler) as octo:
            futures += [octo.track(f"task_{number}") for number in range(5)]
            await asyncio.sleep(1)
            await end(octo)
            await asyncio.wait(futures, timeout=1000)
            detached = [isinstance(each.exception(), octoremix.DetachedError) for each in futures]
    assert detached == [False, True, False, True, False]
    assert sorted(map(str, ended)) == [f"task_{number}" for number in range(5)]


async def test_fetches_that_fail_at_once_leave_the_loop_its_turns() -> None:
    """Polls that fail without waiting for anything, and are due at once, let others run."""
    asked = 0

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        nonlocal asked
        asked += 1
        if asked > 1000:
            await asyncio.sleep(1000)
        raise octoremix.APIConnectionError("refused")

    restless = octoremix.PollPolicy(wait=tenacity.wait_none(), first_delay=0)
    octo = poller(fetch, restless)
    octo.follow("task_1", deadline=None)
    for _ in range(100):
        await asyncio.sleep(0)
    assert 10 <= asked <= 100
    await octo.aclose()


async def test_two_429_at_once_are_one_pause() -> None:
    """Polls that are refused together wait once, and are told of once."""
    events: list[octoremix.Event] = []

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        asked_at = now()
        await asyncio.sleep(2)
        if asked_at == 5:
            raise octoremix.RateLimitError("429", retry_after=20)
        return reading("completed", task_id)

    octo = poller(fetch, notify=events.append)
    await asyncio.wait([octo.follow(f"task_{number}", deadline=None) for number in range(2)])
    assert [event.delay for event in events if event.kind == "cool_down"] == [20]
    assert now() == 7 + 20 + 5 + 2  # after the pause two start over 10 s, one by one
    await octo.aclose()


async def test_every_wait_ends_at_once_although_slots_are_full() -> None:
    """A key that is refused for good ends all waits in that moment, not after a round of polls."""
    asked = 0

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.5)
        raise octoremix.AuthenticationError("401: bad key", from_gateway=True)

    policy = octoremix.PollPolicy(wait=tenacity.wait_fixed(1), first_delay=0, concurrency=4)
    octo = poller(fetch, policy)
    futures = [octo.follow(f"task_{number}", deadline=None) for number in range(900)]
    await asyncio.wait(futures, return_when="FIRST_COMPLETED")
    assert now() == 10.5  # the first refusal was at 0.5
    await asyncio.wait(futures)
    assert now() == 10.5
    assert asked <= 4 * 22
    await octo.aclose()


@pytest.fixture
def timers(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[asyncio.AbstractEventLoop], list[asyncio.TimerHandle]]:
    """Remembers each timer that a loop is given from now on."""

    def watch(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
        made: list[asyncio.TimerHandle] = []
        call_at = loop.call_at

        def remembered(*args: Any, **settings: Any) -> asyncio.TimerHandle:
            made.append(call_at(*args, **settings))
            return made[-1]

        monkeypatch.setattr(loop, "call_at", remembered)
        return made

    return watch


@pytest.mark.parametrize("how", ["close", "die"])
async def test_no_timer_outlives_the_poller(timers: Any, how: str) -> None:
    """A poller that has ended, however it did, leaves no timer in its loop."""

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        return reading("queued")

    made = timers(asyncio.get_running_loop())
    octo = poller(fetch)
    future = octo.follow("task_1", deadline=3600)
    await asyncio.sleep(7)
    if how == "close":
        await octo.aclose()
    else:
        for each in asyncio.all_tasks():
            if each.get_name() == "octoremix poller":
                each.cancel()
        await asyncio.wait([future])
    await asyncio.sleep(0)
    assert len(made) >= 2
    assert [timer for timer in made if timer.when() > now() and not timer.cancelled()] == []


async def test_a_poller_that_dies_while_it_has_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that fails in its first turn ends every wait as well."""

    def broken(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(Poller, "_stop_late", broken)

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        raise AssertionError("it is never asked")

    octo = poller(fetch)
    with pytest.raises(octoremix.SessionClosedError, match="a bug"):
        await octo.follow("task_1", deadline=None)
    await octo.aclose()


async def test_detaching_what_is_not_followed_is_nothing() -> None:
    """An id that the poller does not know can be detached, and it says how much it follows."""

    async def fetch(task_id: str, last: Reading | None, *_: object) -> Reading:
        raise AssertionError("it is never asked")

    octo = poller(fetch)
    octo.detach("task_1")
    assert repr(octo) == "<Poller of 0 tasks, 0 polls in flight>"
