"""Slot, permit, intent, POST, outcome, slot: in this order on the disk, anew for every attempt."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import tenacity

import octoremix

from .journals import Disk, disk, entry, io_error, path, session, states, watching
from .scripted import ScriptedGateway, after, cut, reply, task

__all__ = ["disk", "path"]

ACCEPTED = task("queued")
LIMITED = reply(status=429)


async def test_the_intent_is_on_the_disk_before_the_post_and_the_id_before_the_answer(
    path: Path,
) -> None:
    """While the request is out the disk has its intent, and the id when `submit` returns."""
    seen: list[dict[str, str]] = []
    async with ScriptedGateway(submits=[watching(path, seen, ACCEPTED)]) as gateway:
        async with session(gateway, path) as octo:
            future = await octo.submit("video_1", prompt="snow", key="a")
            assert states(path) == {"a": "submitted"}
            assert future.id == "task_1"
    assert seen == [{"a": "intent"}]
    assert (await entry(path, "a")).id == "task_1"


async def test_a_429_is_put_back_as_refused_and_announced_anew(path: Path) -> None:
    """The pause after a 429 is made with `refused` on the disk, and the next POST is attempt 2."""
    seen: list[dict[str, str]] = []
    submits = [watching(path, seen, LIMITED), watching(path, seen, ACCEPTED)]
    retry = octoremix.RetryPolicy(wait=tenacity.wait_fixed(60))
    async with ScriptedGateway(submits=submits) as gateway:
        async with session(gateway, path, retry=retry) as octo:
            submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow", key="a"))
            await asyncio.sleep(30)
            assert states(path) == {"a": "refused"}
            await submit
    assert seen == [{"a": "intent"}, {"a": "intent 2"}]
    assert states(path) == {"a": "submitted 2"}


async def test_what_waits_for_a_slot_has_no_intent(path: Path) -> None:
    """A job gets its intent after its slot, and the slot is free after the outcome is written."""
    seen: list[dict[str, str]] = []
    submits = [
        after(10, watching(path, seen, task("queued", "task_1"))),
        watching(path, seen, task("queued", "task_2")),
    ]
    async with ScriptedGateway(submits=submits) as gateway:
        async with session(gateway, path, submit_concurrency=1) as octo:
            await asyncio.gather(
                octo.submit("video_1", prompt="snow", key="a"),
                octo.submit("video_1", prompt="rain", key="b"),
            )
    assert seen == [{"a": "intent"}, {"a": "submitted", "b": "intent"}]


async def test_what_waits_for_a_permit_has_no_intent(path: Path) -> None:
    """While a 429 pauses all submits, none of those that wait is announced."""
    limited = reply(status=429, headers={"Retry-After": "100"})
    async with ScriptedGateway(submits=[limited, ACCEPTED]) as gateway:
        async with session(gateway, path) as octo:
            first = asyncio.ensure_future(octo.submit("video_1", prompt="snow", key="a"))
            await asyncio.sleep(20)
            second = asyncio.ensure_future(octo.submit("video_1", prompt="rain", key="b"))
            await asyncio.sleep(20)
            assert states(path) == {"a": "refused"}
            second.cancel()
            await first
    assert states(path) == {"a": "submitted 2"}


async def held(disk: Disk, number: int) -> tuple[threading.Event, threading.Event]:
    """Let the disk hold a commit: tells when it has come, and lets it go on."""
    come, go_on = threading.Event(), threading.Event()

    def wait(commit: int) -> None:
        if commit == number:
            come.set()
            assert go_on.wait(60)

    disk.before = wait
    return come, go_on


async def until(come: threading.Event) -> None:
    while not come.is_set():
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)


async def test_nothing_leaves_before_the_disk_has_the_intent(path: Path, disk: Disk) -> None:
    """A commit that takes its time holds the POST back, and not the event loop."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        come, go_on = await held(disk, disk.commits + 1)
        submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await until(come)
        assert not gateway.posts
        go_on.set()
        await submit
        assert len(gateway.posts) == 1


async def test_who_leaves_while_the_disk_takes_the_intent_withdraws_it(
    path: Path, disk: Disk
) -> None:
    """A caller who leaves during that commit leaves `refused` behind, and nothing is sent."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        come, go_on = await held(disk, disk.commits + 1)
        leaver = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
        await until(come)
        leaver.cancel()
        await asyncio.wait([leaver])
        go_on.set()
        assert [each.status for each in await octo.history()] == ["refused"]
        assert not gateway.posts


async def test_the_slot_is_busy_until_the_disk_has_the_id(path: Path, disk: Disk) -> None:
    """Neither does `submit` return nor is its slot free while the id is being written."""
    submits = [task("queued", "task_1"), task("queued", "task_2")]
    async with ScriptedGateway(submits=submits) as gateway:
        async with session(gateway, path, submit_concurrency=1) as octo:
            come, go_on = await held(disk, disk.commits + 2)
            first = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            second = asyncio.ensure_future(octo.submit("video_1", prompt="rain"))
            await until(come)
            assert not first.done()
            assert len(gateway.posts) == 1
            go_on.set()
            await asyncio.gather(first, second)


async def test_the_id_is_logged_before_it_is_written(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """An id whose commit fails is in the log at INFO and in the error, and its task is followed."""
    caplog.set_level(logging.INFO, "octoremix")
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:

        def fail(commit: int) -> None:
            if gateway.posts:
                raise io_error()

        disk.before = fail
        with pytest.raises(octoremix.JournalError, match=r"was accepted.*disk failed") as caught:
            await octo.submit("video_1", prompt="snow", key="a")
        assert caught.value.id == "task_1"
        assert "accepted: task task_1 remixes video video_1" in caplog.messages
        assert "task_1" in octo.pending
        disk.before = lambda _: None
        await octo.track("task_1")
    assert states(path) == {"a": "completed"}
    assert len(gateway.posts) == 1


UNCLEAR = [
    cut,
    reply("<html>bad gateway</html>", status=502),
    reply(b""),
    reply(b'{"id": "task_1", "sta'),
    after(500, ACCEPTED),
    reply({"error": {"message": "Panic", "type": "new_api_panic"}}, status=500),
    reply("<html>forbidden</html>", status=403),
]


@pytest.mark.parametrize("fault", UNCLEAR)
async def test_an_unclear_answer_is_a_doubt_that_bars_its_key(path: Path, fault: Any) -> None:
    """HTML, a cut, a time-out: in doubt on the disk, and the same key sends nothing any more."""
    async with ScriptedGateway(submits=[fault, ACCEPTED]) as gateway:
        async with session(gateway, path) as octo:
            for _ in range(2):
                with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="may be billed"):
                    await octo.submit("video_1", prompt="snow", key="a")
                assert states(path) == {"a": "in_doubt"}
        async with session(gateway, path) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError, match=r"in_doubt\(\)"):
                await octo.submit("video_1", prompt="snow", key="a", retry_failed=True)
        assert len(gateway.posts) == 1


def refusal(status: int) -> Any:
    return reply({"code": "invalid_request", "message": "no", "data": None}, status=status)


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_refusal_frees_its_key(path: Path, status: int) -> None:
    """After a clear no of the gateway's nothing was bought, and the key buys again."""
    async with ScriptedGateway(submits=[refusal(status), ACCEPTED]) as gateway:
        async with session(gateway, path) as octo:
            with pytest.raises(octoremix.APIError):
                await octo.submit("video_1", prompt="snow", key="a")
            assert states(path) == {"a": "refused"}
            assert "no" in (await entry(path, "a")).reason
            await octo.submit("video_1", prompt="snow", key="a")
    assert states(path) == {"a": "submitted 2"}


@pytest.mark.parametrize(
    "answer",
    [refusal(504), refusal(524), reply(status=302, headers={"Location": "/elsewhere"})],
    ids=["504", "524", "302"],
)
async def test_a_refusal_that_may_have_been_charged_is_a_doubt(path: Path, answer: Any) -> None:
    """A no after which it is not safe to submit again does not free the key."""
    async with ScriptedGateway(submits=[answer, ACCEPTED]) as gateway:
        async with session(gateway, path) as octo:
            with pytest.raises(octoremix.APIError) as caught:
                await octo.submit("video_1", prompt="snow", key="a")
            assert not caught.value.safe_to_resubmit
            with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                await octo.submit("video_1", prompt="snow", key="a")
            (doubt,) = await octo.in_doubt()
        assert len(gateway.posts) == 1
    assert doubt.key == "a"


async def test_what_was_never_sent_is_refused(path: Path) -> None:
    """A gateway that can't be reached leaves `refused`, after each of the attempts."""
    async with ScriptedGateway() as gateway:
        octo = session(gateway, path)
    async with octo:
        with pytest.raises(octoremix.APIConnectionError):
            await octo.submit("video_1", prompt="snow", key="a")
    assert states(path) == {"a": "refused 3"}


async def test_never_sends_once_and_always_tells_the_doubt(path: Path) -> None:
    """`submit="never"` makes one attempt; `"always"` announces each of its own in doubt anew."""
    never = octoremix.RetryPolicy(submit="never")
    always = octoremix.RetryPolicy(submit="always", wait=tenacity.wait_fixed(1), attempts=3)
    seen: list[dict[str, str]] = []
    async with ScriptedGateway(submits=[LIMITED, watching(path, seen, cut)]) as gateway:
        async with session(gateway, path, retry=never) as octo:
            with pytest.raises(octoremix.RateLimitError):
                await octo.submit("video_1", prompt="snow", key="a")
        assert states(path) == {"a": "refused"}
        async with session(gateway, path, retry=always) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                await octo.submit("video_1", prompt="rain", key="b")
    assert seen == [
        {"a": "refused", "b": "intent"},
        {"a": "refused", "b": "intent 2"},
        {"a": "refused", "b": "intent 3"},
    ]
    assert states(path) == {"a": "refused", "b": "in_doubt 3"}


async def test_always_ends_with_the_attempt_that_is_accepted(path: Path) -> None:
    """Where every unclear outcome is repeated, the id that comes at last is what is kept."""
    always = octoremix.RetryPolicy(submit="always", wait=tenacity.wait_fixed(1), attempts=3)
    async with ScriptedGateway(submits=[cut, ACCEPTED]) as gateway:
        async with session(gateway, path, retry=always) as octo:
            await octo.submit("video_1", prompt="snow")
    (state,) = states(path).values()
    assert state == "submitted 2"


@pytest.mark.parametrize("last", [refusal(400), LIMITED])
async def test_a_doubt_outlives_an_attempt_that_bought_nothing(path: Path, last: Any) -> None:
    """An attempt that is refused after one in doubt leaves the job in doubt, and its key barred."""
    always = octoremix.RetryPolicy(submit="always", wait=tenacity.wait_fixed(1), attempts=2)
    async with ScriptedGateway(submits=[cut, last, ACCEPTED]) as gateway:
        async with session(gateway, path, retry=always) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError) as caught:
                await octo.submit("video_1", prompt="snow", key="a")
            (doubt,) = await octo.in_doubt()
            assert doubt.sent_at == caught.value.sent_at
            assert "an earlier attempt" in doubt.reason
            with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                await octo.submit("video_1", prompt="snow", key="a")
    assert states(path) == {"a": "in_doubt 2"}


@pytest.mark.parametrize("how", ["adopt", "abandon"])
async def test_a_doubt_that_is_settled_between_two_attempts_is_not_sent_again(
    path: Path, how: str
) -> None:
    """Whoever settles a doubt in the pause before it is repeated has the last word."""
    always = octoremix.RetryPolicy(submit="always", wait=tenacity.wait_fixed(100), attempts=3)
    async with ScriptedGateway(submits=[cut, ACCEPTED]) as gateway:
        async with session(gateway, path, retry=always) as octo:
            submit = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            await asyncio.sleep(50)
            (doubt,) = await octo.in_doubt()
            if how == "adopt":
                await octo.adopt(doubt, "task_7")
                assert (await submit).id == "task_7"
            else:
                await octo.abandon(doubt)
                with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="given up"):
                    await submit
        assert len(gateway.posts) == 1


async def test_a_poller_that_died_buys_nothing(
    path: Path, loop_errors: list[dict[str, Any]]
) -> None:
    """What nobody could follow is not sent although it was announced, and its key is free."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        octo.track("task_0")
        await octo.history()
        check = octo._submitter._check

        def stopped() -> None:
            octo._poller._stopped = "it broke"
            check()

        octo._submitter._check = stopped
        with pytest.raises(octoremix.SessionClosedError, match="it broke"):
            await octo.submit("video_1", prompt="snow", key="a")
        assert not gateway.posts
    assert states(path) == {"a": "refused"}


async def test_an_outcome_that_cannot_be_written_is_told_all_the_same(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal that the disk does not take is raised as such, logged, and written later."""

    def fail(commit: int) -> None:
        if gateway.posts:
            raise io_error()

    async with ScriptedGateway(submits=[refusal(400), ACCEPTED]) as gateway:
        async with session(gateway, path) as octo:
            disk.before = fail
            with pytest.raises(octoremix.BadRequestError):
                await octo.submit("video_1", prompt="snow", key="a")
            assert "what became of the remix of key a is not in the journal" in caplog.text
            with pytest.raises(octoremix.JournalError, match="1 earlier record"):
                await octo.submit("video_1", prompt="rain")
            assert states(path) == {"a": "intent"}
            disk.before = lambda _: None
            await octo.submit("video_1", prompt="snow", key="a")
    assert states(path) == {"a": "submitted 2"}
    assert len(gateway.posts) == 2
