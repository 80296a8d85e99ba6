"""Cancelled in every phase: nothing is paid twice, no task is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tenacity
from aiohttp import web

import octoremix

from .scripted import ScriptedGateway, after, reply, task
from .virtual_time import VirtualTimeLoop

STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5)


def session(gateway: ScriptedGateway, **settings: Any) -> octoremix.Session:
    return octoremix.Session("key", base_url=gateway.url, **{"poll": STEADY, **settings})


def ours() -> set[str]:
    """The names of the library's tasks that run now."""
    return {
        each.get_name() for each in asyncio.all_tasks() if each.get_name().startswith("octoremix")
    }


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """After each test no task but the test's own runs in its loop."""
    yield
    await asyncio.sleep(0)
    assert ours() == set()
    gc.collect()


async def test_before_the_request_leaves_the_caller_takes_it_along() -> None:
    """A submit that waits for its slot is not sent when its caller is cancelled."""
    async with ScriptedGateway(submits=[after(10, task("queued"))]) as gateway:
        async with session(gateway, submit_concurrency=1) as octo:
            first = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            second = asyncio.ensure_future(octo.submit("video_1", prompt="rain"))
            await asyncio.sleep(1)
            second.cancel()
            await first
            await asyncio.sleep(20)
        assert second.cancelled()
        assert len(gateway.posts) == 1


async def test_between_two_attempts_nothing_is_out() -> None:
    """A caller who is cancelled in the pause after a 429 ends the submit."""
    async with ScriptedGateway(submits=[reply(status=429), task("queued")]) as gateway:
        async with session(gateway) as octo:
            submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            await asyncio.sleep(0.5)
            submit.cancel()
            await asyncio.sleep(100)
        assert submit.cancelled()
        assert len(gateway.posts) == 1


async def test_after_the_request_left_the_submit_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that gives up loses nothing: the id is logged and the task followed to its end."""
    caplog.set_level(logging.INFO, "octoremix")
    async with ScriptedGateway(submits=[after(30, task("queued"))]) as gateway:
        async with session(gateway) as octo:
            submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            await asyncio.sleep(1)
            submit.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await submit
            assert "its id will be logged" in caught.value.__notes__[0]
            await asyncio.sleep(30)
            assert set(octo.pending) == {"task_1"}
            await octo.track("task_1")
        assert len(gateway.posts) == 1
    assert "accepted: task task_1 remixes video video_1" in caplog.text
    assert "whose caller had left was accepted: task task_1" in caplog.text


async def test_an_abandoned_submit_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody waits for the outcome any more, the log tells it."""
    async with ScriptedGateway(submits=[after(30, reply(status=502))]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(octo.submit("video_1", prompt="snow"), 1)
            await asyncio.sleep(60)
    assert "whose caller had left failed" in caplog.text
    assert "may be billed" in caplog.text


async def test_a_remix_cancelled_while_it_waits_says_the_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The id is in the exception's notes and in the log, and the task stays followed."""
    async with ScriptedGateway(polls=[task("queued"), task("completed")]) as gateway:
        async with session(gateway) as octo:
            remix = asyncio.ensure_future(octo.remix("video_1", prompt="snow"))
            await asyncio.sleep(1)
            remix.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await remix
            assert caught.value.__notes__ == [
                "task task_1 goes on and stays followed by its session"
            ]
            assert "task task_1 goes on" in caplog.text
            assert (await octo.track("task_1")).status is octoremix.TaskStatus.COMPLETED


async def test_a_remix_that_times_out_says_the_id() -> None:
    """`timeout` ends the wait with the id, and the task stays followed."""
    async with ScriptedGateway(polls=[task("queued"), task("completed")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(octoremix.WaitTimeoutError) as caught:
                await octo.remix("video_1", prompt="snow", timeout=8)
            assert caught.value.id == "task_1"
            assert "task task_1 goes on" in caught.value.__notes__[0]
            assert asyncio.get_running_loop().time() == pytest.approx(8, abs=0.1)
            await octo.track("task_1")


async def test_a_remix_that_times_out_before_its_answer() -> None:
    """A time-out with the POST out is an unknown outcome, and the submit goes on."""
    slow = [after(30, task("queued"))]
    async with ScriptedGateway(submits=slow, polls=[task("queued")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="goes on") as caught:
                await octo.remix("video_1", prompt="snow", timeout=8)
            assert caught.value.sent_at is not None
            await asyncio.sleep(30)
            assert set(octo.pending) == {"task_1"}


async def test_a_remix_that_times_out_before_it_was_sent() -> None:
    """A time-out while the submit waits for its slot bought nothing, and says so."""
    async with ScriptedGateway(submits=[after(30, task("queued"))]) as gateway:
        async with session(gateway, submit_concurrency=1) as octo:
            first = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            await asyncio.sleep(1)
            with pytest.raises(octoremix.APITimeoutError, match="nothing was bought"):
                await octo.remix("video_1", prompt="rain", timeout=8)
            await first
        assert len(gateway.posts) == 1


async def test_a_task_group_around_submits_loses_none() -> None:
    """When one member of a TaskGroup fails, the others' jobs are still followed."""
    submits = [task("queued", "task_1"), after(30, task("queued", "task_2"))]
    async with ScriptedGateway(submits=submits, polls=[task("queued")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(octo.submit("video_1", prompt="snow"))
                    group.create_task(octo.submit("video_2", prompt="snow"))
                    await asyncio.sleep(1)
                    raise ValueError("another member's bug")
            await asyncio.sleep(40)
            assert set(octo.pending) == {"task_1", "task_2"}
        assert len(gateway.posts) == 2


async def test_closing_ends_open_futures_with_their_ids() -> None:
    """`aclose` fails every open future at once, with an error that says how to go on."""
    async with ScriptedGateway(polls=[task("queued")]) as gateway:
        octo = session(gateway)
        futures = [octo.track(f"task_{number}") for number in range(600)]
        waiters = [asyncio.ensure_future(future.wait()) for future in futures]
        await asyncio.sleep(7)
        await octo.aclose()
        results = await asyncio.gather(*waiters, return_exceptions=True)
        assert {type(error) for error in results} == {octoremix.SessionClosedError}
        assert [error.id for error in results] == [future.id for future in futures]
        assert asyncio.get_running_loop().time() == pytest.approx(7, abs=0.1)


async def test_closing_gives_a_post_that_is_out_its_grace() -> None:
    """A submit whose answer comes within the grace gets its id, in the error of its future."""
    async with ScriptedGateway(submits=[after(8, task("queued"))]) as gateway:
        octo = session(gateway)
        submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await asyncio.sleep(1)
        await octo.aclose(grace=10)
        future = await submit
        assert future.id == "task_1"
        with pytest.raises(octoremix.SessionClosedError, match="task_1"):
            await future


async def test_closing_does_not_wait_longer_than_its_grace() -> None:
    """A POST that is not answered in time is an unknown outcome when the session ends."""
    async with ScriptedGateway(submits=[after(1000, task("queued"))]) as gateway:
        octo = session(gateway)
        submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await asyncio.sleep(1)
        await octo.aclose(grace=10)
        with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="session was closed"):
            await submit
        assert asyncio.get_running_loop().time() == pytest.approx(11, abs=0.1)


async def test_closing_refuses_what_was_not_sent() -> None:
    """A submit that waits for its slot when the session closes was free, and says so."""
    async with ScriptedGateway(submits=[after(5, task("queued"))]) as gateway:
        octo = session(gateway, submit_concurrency=1)
        first = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        second = asyncio.ensure_future(octo.submit("video_1", prompt="rain"))
        await asyncio.sleep(1)
        await octo.aclose()
        with pytest.raises(octoremix.SessionClosedError, match="free"):
            await second
        assert (await first).id == "task_1"
        assert len(gateway.posts) == 1


async def test_closing_twice_and_at_the_same_time() -> None:
    """Every `aclose` returns when the session is closed, however many there are."""
    async with ScriptedGateway(submits=[after(5, task("queued"))]) as gateway:
        octo = session(gateway)
        submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await asyncio.sleep(1)
        await asyncio.gather(octo.aclose(), octo.aclose(), octo.aclose(grace=1))
        await octo.aclose()
        assert submit.done()
        with pytest.raises(octoremix.SessionClosedError, match="closed"):
            octo.track("task_2")


async def test_closing_is_cancelled_itself() -> None:
    """A close that is cancelled while it waits still ends every future and every task."""
    async with ScriptedGateway(submits=[after(1000, task("queued"))]) as gateway:
        octo = session(gateway)
        future = octo.track("task_2", deadline=None)
        submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await asyncio.sleep(1)
        closing = asyncio.ensure_future(octo.aclose(grace=100))
        await asyncio.sleep(1)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(octoremix.SessionClosedError):
            await future
        with pytest.raises(octoremix.SubmitOutcomeUnknownError):
            await submit


async def test_leaving_the_block_does_not_mask_its_exception() -> None:
    """The error of the body of ``async with`` is what comes out."""
    async with ScriptedGateway() as gateway:
        with pytest.raises(KeyError, match="mine"):
            async with session(gateway) as octo:
                octo.track("task_1")
                raise KeyError("mine")


async def test_a_download_cancelled_in_the_middle_leaves_no_file(tmp_path: Any) -> None:
    """Neither the target nor a part of it stays."""

    async def dripping(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"\0\0\0\x18ftypmp42" * 100)
            await asyncio.sleep(1)
        return response

    async with ScriptedGateway(contents=[dripping]) as gateway, session(gateway) as octo:
        download = asyncio.ensure_future(octo.download("task_1", tmp_path / "snow.mp4"))
        await asyncio.sleep(10)
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
        assert list(tmp_path.iterdir()) == []


@contextmanager
def answering_later(release: threading.Event) -> Iterator[ScriptedGateway]:
    """A gateway in a thread, which no cancellation reaches; it answers POSTs after ``release``."""

    async def held(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.to_thread(release.wait)
        given = task("queued")(request)
        assert isinstance(given, web.StreamResponse)
        return given

    gateway = ScriptedGateway(submits=[held])
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with gateway:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    try:
        yield gateway
    finally:
        release.set()
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def until_sent(gateway: ScriptedGateway) -> None:
    while not gateway.posts:
        await asyncio.sleep(0.001)


def test_the_end_of_asyncio_run_waits_for_what_was_paid_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`asyncio.run` cancels all tasks at its end: a POST that is out still brings its id home."""
    caplog.set_level(logging.INFO, "octoremix")
    release = threading.Event()

    async def main(gateway: ScriptedGateway) -> None:
        async with session(gateway) as octo:
            asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            await until_sent(gateway)
            asyncio.get_running_loop().call_soon(release.set)

    with answering_later(release) as gateway:
        asyncio.run(main(gateway))
    assert len(gateway.posts) == 1
    assert "accepted: task task_1 remixes video video_1" in caplog.text


def test_a_session_that_nobody_closed_at_the_end_of_asyncio_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Even without `aclose`, the cancellation of all tasks loses no id and hangs no waiter."""
    caplog.set_level(logging.INFO, "octoremix")
    release = threading.Event()
    outcomes: list[BaseException] = []

    async def wait(octo: octoremix.Session) -> None:
        try:
            await octo.track("task_2")
        except BaseException as error:
            outcomes.append(error)
            release.set()  # only now, when everything has been cancelled
            raise

    async def main(gateway: ScriptedGateway) -> tuple[octoremix.Session, octoremix.RemixFuture]:
        octo = session(gateway)
        asyncio.ensure_future(wait(octo))
        asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await until_sent(gateway)
        return octo, octo.track("task_2")

    with answering_later(release) as gateway, asyncio.Runner() as runner:
        octo, followed = runner.run(main(gateway))
        # What `asyncio.run` does at its end, here, so that the connections can be closed after it.
        asyncio.runners._cancel_all_tasks(runner.get_loop())  # type: ignore[attr-defined]
        runner.run(octo._transport.aclose())
    assert [type(error) for error in outcomes] == [asyncio.CancelledError]
    assert isinstance(followed.exception(), octoremix.SessionClosedError)
    assert "accepted: task task_1 remixes video video_1" in caplog.text
    assert len(gateway.posts) == 1


def test_a_session_belongs_to_one_loop() -> None:
    """Using a session in a second `asyncio.run` is refused with a sentence that says what to do."""
    octo = octoremix.Session("key", base_url="http://127.0.0.1:9")

    async def use() -> None:
        octo.track("task_1").detach()

    async def leave() -> None:
        octo.track("task_1").detach()
        await octo.aclose()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as first:
        first.run(use())
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as second:
            with pytest.raises(octoremix.SessionClosedError, match=r"each asyncio\.run"):
                second.run(use())
        first.run(leave())
