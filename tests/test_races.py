"""Two things in one turn of the loop: what is bought, what is told of it, and to whom."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import tenacity
from multidict import CIMultiDict

import octoremix
from octoremix._pace import Pace
from octoremix._protocol import API, Response, parse_base_url
from octoremix._submit import Keeper, Order, Submitter
from octoremix._wire import Reading
from octoremix.futures import RemixFuture

from .scripted import ScriptedGateway, after, reply, task
from .virtual_time import VirtualTimeLoop

ACCEPTED: tuple[int, object] = 200, {"id": "task_1", "status": "queued"}
UNCLEAR: tuple[int, object] = 502, []
LIMITED: tuple[int, object] = 429, {}
REQUEST = octoremix.RemixRequest(video_id="video_1", prompt="snow", model="model", extra={})

LEFT = "whose caller had left"


def session(gateway: ScriptedGateway, **settings: Any) -> octoremix.Session:
    return octoremix.Session("key", base_url=gateway.url, **settings)


class Wire:
    """A ``send`` that the test holds in its hand.

    Attributes:
        sent: How many bodies began to leave.
        reached: Set when ``send`` is called.
        leave: Set to let the body leave.
        answer: Set to let the answer come.
    """

    def __init__(self, status: int, content: object) -> None:
        self.response = Response(
            status=status, headers=CIMultiDict(), body=json.dumps(content).encode()
        )
        self.sent = 0
        self.reached, self.leave, self.answer = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def send(self, request: object, *, timeout: object, on_sent: Callable[[], None]) -> Any:
        self.reached.set()

        async def write() -> None:  # in a task of its own, as aiohttp does before Python 3.12
            await self.leave.wait()
            with suppress(RuntimeError):
                on_sent()
                self.sent += 1

        writer = asyncio.ensure_future(write())
        await self.answer.wait()
        await writer
        return self.response


class Follower:
    """Whatever a future asks of the poller."""

    loop = None

    def detach(self, task_id: str) -> None:
        raise AssertionError(task_id)


def accept(reading: Reading) -> RemixFuture:
    return RemixFuture(reading.task_id, Follower(), reading=reading)


def not_known(job: object) -> RemixFuture:
    raise AssertionError(job)


ORDER = Order(request=REQUEST, accept=accept, take_up=not_known)


def submitter(send: Any, **policy: Any) -> Submitter:
    return Submitter(
        API(parse_base_url("http://127.0.0.1:9")),
        send,
        Pace(),
        octoremix.RetryPolicy(wait=tenacity.wait_fixed(1), **policy),
        Keeper(None, timeout=120),
        timeout=120,
        concurrency=4,
        notify=None,
        check=lambda: None,
    )


async def told_of(submit: asyncio.Future[Any]) -> BaseException | None:
    """Wait for the end of a submit and return what it raised."""
    await asyncio.wait([submit])
    if submit.cancelled():
        return asyncio.CancelledError()
    return submit.exception()


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_a_submit_given_up_in_any_turn_is_unsent_or_known(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In whichever turn of the loop a submit is given up, a POST that arrives is told of."""
    caplog.set_level(logging.INFO, "octoremix")
    for turns in range(60):
        caplog.clear()
        async with ScriptedGateway() as gateway, session(gateway) as octo:
            submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            for _ in range(turns):
                await asyncio.sleep(0)
            over = submit.done()
            if how == "cancel":
                submit.cancel()
            else:
                await octo.aclose(0)
            error = await told_of(submit)
            await asyncio.sleep(1)
            known = error is None or isinstance(error, octoremix.SubmitOutcomeUnknownError)
            assert known or "accepted: task task_1" in caplog.text or not gateway.posts
        if over:
            return
    raise AssertionError("no submit came to its end")


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_what_was_given_up_before_it_left_does_not_leave_a_turn_later(how: str) -> None:
    """A body that another task writes does not leave once its submit is given up."""
    wire = Wire(*ACCEPTED)
    buying = submitter(wire.send)
    submit = asyncio.ensure_future(buying.submit(ORDER))
    await wire.reached.wait()
    await asyncio.sleep(0)
    # The writer gets its turn after the submit was given up, and before that can stop it.
    if how == "cancel":
        submit.cancel()
        wire.leave.set()
    else:
        wire.leave.set()
        await buying.aclose(0)
    error = await told_of(submit)
    await asyncio.sleep(0)
    wanted = asyncio.CancelledError if how == "cancel" else octoremix.SessionClosedError
    assert isinstance(error, wanted)
    assert wire.sent == 0


@pytest.mark.parametrize("how", ["remix", "timeout"])
async def test_a_callers_time_out_as_long_as_the_submits(how: str) -> None:
    """When both time-outs strike at once before anything was sent, nothing is sent later."""
    connecting = True

    async def key() -> str:
        if connecting:
            await asyncio.sleep(1000)
        return "key"

    async with ScriptedGateway() as gateway:
        async with octoremix.Session(key, base_url=gateway.url, submit_timeout=8) as octo:
            with pytest.raises(TimeoutError):
                if how == "remix":
                    await octo.remix("video_1", prompt="snow", timeout=8)
                else:
                    async with asyncio.timeout(8):
                        await octo.submit("video_1", prompt="snow")
            connecting = False
            await asyncio.sleep(100)
            assert gateway.posts == []


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_nothing_is_sent_again_for_a_caller_who_left(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A 429 that comes after the caller left ends the submit, which the log tells."""
    script = [after(5, reply(status=429)), task("queued")]
    async with ScriptedGateway(submits=script) as gateway, session(gateway) as octo:
        timeout = 2 if how == "timeout" else None
        remix = asyncio.ensure_future(octo.remix("video_1", prompt="snow", timeout=timeout))
        await asyncio.sleep(2)
        if how == "cancel":
            remix.cancel()
        error = await told_of(remix)
        assert isinstance(error, (asyncio.CancelledError, octoremix.SubmitOutcomeUnknownError))
        await asyncio.sleep(100)
        assert len(gateway.posts) == 1
    assert f"{LEFT} failed: 429" in caplog.text


def test_the_end_of_asyncio_run_sends_nothing_again(loop_errors: list[dict[str, Any]]) -> None:
    """A 429 that comes while `asyncio.run` waits for the POST that is out ends the submit."""
    wires: list[Wire] = []

    async def main() -> None:
        wires.append(wire := Wire(*LIMITED))
        asyncio.ensure_future(submitter(wire.send).submit(ORDER))
        await wire.reached.wait()
        wire.leave.set()
        asyncio.get_running_loop().call_later(5, wire.answer.set)
        await asyncio.sleep(1)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert [wire.sent for wire in wires] == [1]
    assert {type(context["exception"]) for context in loop_errors} <= {octoremix.RateLimitError}
    loop_errors.clear()


@pytest.mark.parametrize("when", ["before", "at", "after"])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(ACCEPTED, f"{LEFT} was accepted: task task_1 is followed", id="accepted"),
        pytest.param(UNCLEAR, f"{LEFT} failed", id="unclear"),
    ],
)
async def test_an_outcome_in_the_turn_of_the_cancellation_is_logged_once(
    answer: tuple[int, object], told: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An outcome that its caller just misses is in the log, whichever of the two came first."""
    wire = Wire(*answer)
    submit = asyncio.ensure_future(submitter(wire.send).submit(ORDER))
    await wire.reached.wait()
    wire.leave.set()
    while not wire.sent:
        await asyncio.sleep(0)
    (purchase,) = (task for task in asyncio.all_tasks() if task.get_name() == "octoremix submit")
    if when == "after":
        purchase.add_done_callback(lambda _: submit.cancel())
    wire.answer.set()
    if when == "at":
        await asyncio.sleep(0)
    if when != "after":
        submit.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await submit
    await asyncio.sleep(0)
    assert told in caplog.text
    assert caplog.text.count(LEFT) == 1
    assert not hasattr(caught.value, "__notes__")  # nothing goes on


async def test_a_submit_that_was_free_leaves_no_trace_of_a_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A caller who is cancelled as the session closes is told nothing of a job that is out."""
    wire = Wire(*ACCEPTED)
    buying = submitter(wire.send)
    submit = asyncio.ensure_future(buying.submit(ORDER))
    await wire.reached.wait()
    (purchase,) = (task for task in asyncio.all_tasks() if task.get_name() == "octoremix submit")
    purchase.add_done_callback(lambda _: submit.cancel())
    await buying.aclose(0)
    with pytest.raises(asyncio.CancelledError) as caught:
        await submit
    assert not hasattr(caught.value, "__notes__")
    assert LEFT not in caplog.text


async def test_submits_that_queue_when_the_poller_dies_are_not_bought() -> None:
    """What nobody could follow any more is not sent, and says why."""
    slow = [after(10, task("queued"))]
    async with ScriptedGateway(submits=slow, polls=[task("queued")]) as gateway:
        async with session(gateway, submit_concurrency=1) as octo:
            octo.track("task_0")
            submits = [
                asyncio.ensure_future(octo.submit("video_1", prompt="snow")) for _ in range(4)
            ]
            await asyncio.sleep(5)
            for each in asyncio.all_tasks():
                if each.get_name() == "octoremix poller":
                    each.cancel()
            first, *others = [await told_of(submit) for submit in submits]
            assert first is None
            assert isinstance(submits[0].result().exception(), octoremix.SessionClosedError)
            assert {type(error) for error in others} == {octoremix.SessionClosedError}
        assert len(gateway.posts) == 1


async def test_what_is_accepted_for_nobody_is_not_called_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log does not say that a task is followed when the poller has stopped meanwhile."""
    slow = [after(10, task("queued"))]
    async with ScriptedGateway(submits=slow, polls=[task("queued")]) as gateway:
        async with session(gateway) as octo:
            octo.track("task_0")
            submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            await asyncio.sleep(5)
            submit.cancel()
            for each in asyncio.all_tasks():
                if each.get_name() == "octoremix poller":
                    each.cancel()
            await asyncio.sleep(10)
    assert f"{LEFT} was accepted: task task_1 is no longer followed" in caplog.text


async def test_a_key_that_raises_a_cancellation_of_its_own() -> None:
    """A `CancelledError` out of the key's callable is a failed attempt, not a closed session."""
    token: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    token.cancel()

    async def key() -> str:
        return await token

    retry = octoremix.RetryPolicy(wait=tenacity.wait_fixed(1), attempts=2)
    async with ScriptedGateway() as gateway:
        async with octoremix.Session(key, base_url=gateway.url, retry=retry) as octo:
            with pytest.raises(octoremix.APIConnectionError, match="CancelledError from inside"):
                await octo.submit("video_1", prompt="snow")
        assert gateway.posts == []


async def test_a_cancellation_from_inside_after_the_body_left_is_a_doubt() -> None:
    """Whatever breaks a call off after its body began to leave, the job may exist."""

    async def send(request: object, *, timeout: object, on_sent: Callable[[], None]) -> Any:
        on_sent()
        raise asyncio.CancelledError

    with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="from inside"):
        await submitter(send).submit(ORDER)


async def test_a_time_out_used_up_by_the_source_buys_nothing() -> None:
    """A `remix` whose time is over when its source is done ends before anything is bought."""
    async with ScriptedGateway(polls=[task("completed")]) as gateway, session(gateway) as octo:
        source = octo.track("task_0")
        await source
        with pytest.raises(octoremix.APITimeoutError, match="before anything was sent or bought"):
            await octo.remix(source, prompt="snow", timeout=1e-300)  # the clock does not show it
        later = octo.track("task_1")
        with pytest.raises(octoremix.WaitTimeoutError) as caught:
            await octo.remix(later, prompt="snow", timeout=1)
        assert caught.value.id == "task_1"
        assert gateway.posts == []


async def test_closing_sends_nothing_again() -> None:
    """A 429 that comes within the grace of a close ends the submit."""
    script = [after(5, reply(status=429)), task("queued")]
    async with ScriptedGateway(submits=script) as gateway:
        octo = session(gateway)
        submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await asyncio.sleep(1)
        await octo.aclose(grace=60)
        assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.1)
        assert isinstance(await told_of(submit), octoremix.RateLimitError)
        assert len(gateway.posts) == 1


async def test_two_reasons_to_break_a_post_off_are_one_doubt() -> None:
    """A session whose grace ends as a POST's own time-out strikes tells of one doubt."""
    wire = Wire(*ACCEPTED)
    buying = submitter(wire.send)
    submit = asyncio.ensure_future(buying.submit(ORDER))
    await wire.reached.wait()
    wire.leave.set()
    await asyncio.sleep(20)
    assert (repr(buying), buying.in_flight) == ("<Submitter of 1 jobs>", 1)
    await buying.aclose(grace=100 - 1e-10)  # in the turn of the time-out, and ahead of it
    assert isinstance(await told_of(submit), octoremix.SubmitOutcomeUnknownError)
    assert asyncio.get_running_loop().time() == pytest.approx(120)


async def test_two_429_at_once_are_one_pause() -> None:
    """Submits that are refused together wait once, and are told of once."""
    script = [after(2, reply(status=429)), after(2, reply(status=429)), task("queued")]
    pauses: list[float | None] = []

    def handler(event: octoremix.Event) -> None:
        if event.kind == "cool_down":
            pauses.append(event.delay)

    retry = octoremix.RetryPolicy(wait=tenacity.wait_none())
    async with ScriptedGateway(submits=script) as gateway:
        async with session(gateway, retry=retry, on_event=handler) as octo:
            await asyncio.gather(*(octo.submit(f"video_{n}", prompt="snow") for n in range(2)))
            assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)
        assert len(gateway.posts) == 4
    assert pauses == [1]


async def test_a_remix_that_ended_by_its_deadline_does_not_go_on() -> None:
    """Only a task that stays followed is said to be."""
    async with ScriptedGateway(polls=[task("queued")]) as gateway, session(gateway) as octo:
        with pytest.raises(octoremix.WaitTimeoutError) as caught:
            await octo.remix("video_1", prompt="snow", deadline=7)
        assert not hasattr(caught.value, "__notes__")
        assert set(octo.pending) == set()


async def test_a_waiter_that_is_cancelled_in_the_turn_of_the_end() -> None:
    """A future that ends as one of its waiters leaves still wakes the other."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        future = octo.track("task_1")
        leaving, staying = (asyncio.ensure_future(future.wait()) for _ in range(2))
        await asyncio.sleep(1)
        leaving.cancel()
        future.detach()
        assert isinstance(await told_of(leaving), asyncio.CancelledError)
        assert isinstance(await told_of(staying), octoremix.DetachedError)
