"""What a `RemixFuture` promises to those who hold and await it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
from typing import Any

import pytest

import octoremix
from octoremix._wire import Reading
from octoremix.futures import RemixFuture

COMPLETED = octoremix.TaskStatus.COMPLETED


class Follower:
    """Remembers what was detached."""

    def __init__(self) -> None:
        self.detached: list[str] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    def detach(self, task_id: str) -> None:
        self.detached.append(task_id)


def reading(status: str, **fields: Any) -> Reading:
    document = {"id": "task_1", "status": status, **fields}
    return Reading(json.dumps(document).encode(), document, "task_1")


def complete(future: RemixFuture) -> None:
    done = reading("completed")
    future._observe(done)
    future._settle(done.video)


@pytest.fixture
def follower() -> Follower:
    return Follower()


@pytest.fixture
def future(follower: Follower) -> RemixFuture:
    return RemixFuture("task_1", follower)


async def test_it_can_be_awaited_by_many_and_again(future: RemixFuture) -> None:
    """Any number of callers get the video, any number of times, also after it is done."""
    waiters = [asyncio.ensure_future(future) for _ in range(5)]
    await asyncio.sleep(0)
    complete(future)
    videos = await asyncio.gather(*waiters)
    assert {id(video) for video in videos} == {id(await future)}
    assert (await future).status is COMPLETED
    assert future.result() is await future.wait()


async def test_cancelling_one_waiter_touches_no_other(future: RemixFuture) -> None:
    """A waiter that is cancelled, or times out, leaves the future and the others as they were."""
    first, second = asyncio.ensure_future(future), asyncio.ensure_future(future)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(octoremix.WaitTimeoutError):
        await future.wait(1)
    assert first.cancelled()
    assert not future.done()
    assert not future.cancelled()
    complete(future)
    assert (await second).status is COMPLETED


async def test_a_waiter_that_left_is_forgotten(future: RemixFuture) -> None:
    """A million waits with a time-out leave nothing behind in the future."""
    for _ in range(100):
        with pytest.raises(octoremix.WaitTimeoutError):
            await future.wait(0)
    await asyncio.sleep(0)
    assert not future._waiters


async def test_the_time_out_of_a_wait_tells_the_id_and_what_was_seen(future: RemixFuture) -> None:
    """`wait` raises an error that is a TimeoutError, carries the id and the last snapshot."""
    future._observe(reading("processing", progress=40))
    with pytest.raises(TimeoutError, match=r"'task_1'.*2 s.*processing") as caught:
        await future.wait(2)
    assert isinstance(caught.value, octoremix.WaitTimeoutError)
    assert caught.value.id == "task_1"
    assert caught.value.video is future.video
    assert caught.value.__context__ is None


async def test_another_time_out_around_a_wait_stays_the_callers(future: RemixFuture) -> None:
    """`asyncio.timeout` around an await ends in the caller's own TimeoutError."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(1):
            await future.wait(5)
    assert not isinstance(caught.value, octoremix.OctoremixError)


async def test_the_deadlines_own_error_passes_through_a_wait(future: RemixFuture) -> None:
    """A task that reached its deadline raises that error, not the wait's."""
    error = octoremix.WaitTimeoutError("deadline", id="task_1")
    future._settle(error)
    with pytest.raises(octoremix.WaitTimeoutError) as caught:
        await future.wait(5)
    assert caught.value is error


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_an_end_without_a_video_is_raised(future: RemixFuture, status: str) -> None:
    """Awaiting a task that failed raises its error, which holds the final snapshot."""
    ended = reading(status)
    error = octoremix.RemixFailedError("no", id="task_1", video=ended.video)
    future._observe(ended)
    future._settle(error)
    for _ in range(2):
        with pytest.raises(octoremix.RemixError) as caught:
            await future
        assert caught.value is error
    assert future.exception() is error
    assert future.status == status
    with pytest.raises(octoremix.RemixError):
        future.result()


async def test_results_are_asked_for_too_early(future: RemixFuture) -> None:
    """`result` and `exception` of an open future raise as those of asyncio do."""
    for ask in (future.result, future.exception):
        with pytest.raises(asyncio.InvalidStateError, match="still followed"):
            ask()


async def test_an_outcome_that_nobody_awaits_warns_nobody(
    follower: Follower, loop_errors: list[dict[str, Any]]
) -> None:
    """A failed future can be dropped without a word in the log."""
    lonely = RemixFuture("task_1", follower)
    lonely._settle(octoremix.TaskLostError("gone", id="task_1"))
    del lonely
    gc.collect()
    assert loop_errors == []


async def test_asyncio_functions_take_it(future: RemixFuture, follower: Follower) -> None:
    """`asyncio.wait`, `gather`, `wait_for`, `as_completed`, `shield` and `TaskGroup` work."""
    other = RemixFuture("task_2", follower)
    done, pending = await asyncio.wait([future, other], timeout=1)  # type: ignore[type-var]
    assert not done
    assert pending == {future, other}
    asyncio.get_running_loop().call_later(1, complete, future)
    done, pending = await asyncio.wait(  # type: ignore[type-var]
        [future, other], return_when=asyncio.FIRST_COMPLETED
    )
    assert done == {future}
    complete(other)
    assert len(await asyncio.gather(future, other)) == 2
    assert (await asyncio.wait_for(future, 1)).status is COMPLETED
    assert (await asyncio.shield(future)).status is COMPLETED
    for each in asyncio.as_completed([future, other]):
        assert (await each).status is COMPLETED
    async with asyncio.TaskGroup() as group:
        task = group.create_task(future.wait())
    assert task.result().status is COMPLETED


async def test_callbacks_are_called_once_with_the_future_and_its_context(
    future: RemixFuture,
) -> None:
    """Done callbacks run soon after the end, each in its context, also when added later."""
    variable = contextvars.ContextVar("variable", default="none")
    seen: list[tuple[RemixFuture, str]] = []

    def note(done: RemixFuture) -> None:
        seen.append((done, variable.get()))

    def unwanted(_: RemixFuture) -> None:
        seen.append((future, "unwanted"))

    variable.set("one")
    future.add_done_callback(note)
    future.add_done_callback(unwanted)
    future.add_done_callback(unwanted)
    assert future.remove_done_callback(unwanted) == 2
    assert future.remove_done_callback(unwanted) == 0
    context = contextvars.copy_context()
    context.run(variable.set, "two")
    future.add_done_callback(note, context=context)
    complete(future)
    assert seen == []
    await asyncio.sleep(0)
    assert seen == [(future, "one"), (future, "two")]
    future.add_done_callback(note)
    await asyncio.sleep(0)
    assert len(seen) == 3


async def test_a_callback_that_raises_goes_to_the_loops_handler(
    future: RemixFuture, loop_errors: list[dict[str, Any]]
) -> None:
    """An exception in a callback harms neither the poller nor the other callbacks."""
    called: list[RemixFuture] = []

    def broken(_: RemixFuture) -> None:
        raise KeyError("broken")

    future.add_done_callback(broken)
    future.add_done_callback(called.append)
    complete(future)
    await asyncio.sleep(0)
    assert called == [future]
    assert isinstance(loop_errors[0]["exception"], KeyError)
    loop_errors.clear()


async def test_updates_yield_each_changed_snapshot(future: RemixFuture) -> None:
    """`updates` skips what repeats, gives the newest to a slow reader and the terminal one last."""
    loop = asyncio.get_running_loop()
    for when, status, progress in [
        (1, "queued", 0),
        (2, "queued", 0),
        (3, "processing", 10),
        (4, "processing", 20),
        (4.5, "processing", 30),
    ]:
        loop.call_at(loop.time() + when, future._observe, reading(status, progress=progress))
    loop.call_at(loop.time() + 9, complete, future)
    seen = []
    async for video in future.updates():
        seen.append((video.status.value, video.progress))
        if video.progress == 10:
            await asyncio.sleep(2)
    assert seen == [("queued", 0), ("processing", 10), ("processing", 30), ("completed", None)]
    assert [video.status.value async for video in future.updates()] == ["completed"]


async def test_updates_of_a_failed_task_end_with_its_last_snapshot(future: RemixFuture) -> None:
    """A task that failed ends the iteration without an exception."""
    ended = reading("failed")
    future._observe(ended)
    future._settle(octoremix.RemixFailedError("no", id="task_1", video=ended.video))
    assert [video.status.value async for video in future.updates()] == ["failed"]


async def test_updates_of_a_wait_that_stopped_raise(future: RemixFuture) -> None:
    """Where we stopped waiting, the iteration raises what the future raises."""
    reader = asyncio.ensure_future(anext(future.updates()))
    await asyncio.sleep(0)
    future._settle(octoremix.DetachedError("detached", id="task_1"))
    with pytest.raises(octoremix.DetachedError):
        await reader


async def test_two_readers_of_updates_do_not_take_from_each_other(future: RemixFuture) -> None:
    """Every reader sees every change."""

    async def read() -> list[str]:
        return [video.status.value async for video in future.updates()]

    readers = [asyncio.ensure_future(read()) for _ in range(2)]
    await asyncio.sleep(1)
    future._observe(reading("processing"))
    await asyncio.sleep(1)
    complete(future)
    assert await asyncio.gather(*readers) == [["processing", "completed"]] * 2


async def test_detach_asks_the_follower_while_it_is_followed(
    future: RemixFuture, follower: Follower
) -> None:
    """`detach` of an open future tells the poller; of a settled one it does nothing."""
    future.detach()
    assert follower.detached == ["task_1"]
    complete(future)
    future.detach()
    assert follower.detached == ["task_1"]


async def test_what_it_shows_of_itself(follower: Follower) -> None:
    """The attributes and the repr tell the last that was seen, with foreign text escaped."""
    request = octoremix.RemixRequest(video_id="video_1", prompt="snow")
    future = RemixFuture("task\n\x1b[31m", follower, request=request)
    assert (future.id, future.request, future.video) == ("task\n\x1b[31m", request, None)
    assert future.status is octoremix.TaskStatus.UNKNOWN
    assert future.progress is None
    assert repr(future) == r"<RemixFuture 'task\n\x1b[31m': following, unknown>"
    future._observe(reading("processing", progress="37%"))
    assert future.progress == 37
    assert "following, processing" in repr(future)
    complete(future)
    assert repr(future).endswith(": completed>")
    failed = RemixFuture("task_2", follower)
    failed._settle(octoremix.TaskLostError("gone", id="task_2"))
    assert repr(failed) == "<RemixFuture 'task_2': TaskLostError>"
