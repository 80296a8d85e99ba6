"""A key buys once: now, in another task, in another session, after a restart."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import octoremix
from octoremix.testing import Emulator

from .journals import die, entry, path, session, states
from .scripted import ScriptedGateway, after, cut, reply, task
from .test_cancellation import answering_later, until_sent

__all__ = ["path"]

ACCEPTED = task("queued")
ENDS = {
    "failed": octoremix.RemixFailedError,
    "cancelled": octoremix.RemixCancelledError,
    "expired": octoremix.RemixExpiredError,
}


async def buy(octo: octoremix.Session, key: str | None = "a", **more: Any) -> octoremix.RemixFuture:
    return await octo.submit("video_1", **{"prompt": "snow", "key": key, **more})


async def test_a_key_needs_a_journal() -> None:
    """`key=` in a session without a journal is a mistake that is told before anything is sent."""
    async with ScriptedGateway() as gateway:
        async with session(gateway, None) as octo:
            with pytest.raises(octoremix.ConfigurationError, match="no journal"):
                await buy(octo)
            for call in (octo.resume, octo.in_doubt, octo.history):
                with pytest.raises(octoremix.ConfigurationError, match="no journal"):
                    await call()
        assert not gateway.calls


@pytest.mark.parametrize("key", ["", "  ", "x" * 501, "\ud800", 7])
async def test_a_malformed_key_is_refused(path: Path, key: Any) -> None:
    """A key is a text of 1 to 500 characters; any other is refused before anything is sent."""
    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            with pytest.raises(octoremix.ConfigurationError, match="key"):
                await buy(octo, key)
        assert not gateway.calls


async def test_without_a_key_a_random_one_is_used(path: Path) -> None:
    """A job without a key of its own is in the history all the same, under a random one."""
    submits = [task("queued", "task_1"), task("queued", "task_2")]
    async with ScriptedGateway(submits=submits) as gateway, session(gateway, path) as octo:
        await buy(octo, None)
        await buy(octo, None)
        second, first = await octo.history()
    assert first.id == "task_1"
    assert second.id == "task_2"
    assert first.key != second.key
    assert len(first.key) == 31


async def test_equal_keys_at_once_are_one_post_and_one_future(path: Path) -> None:
    """Callers of one process who submit the same key together share its purchase."""
    async with ScriptedGateway(submits=[after(5, ACCEPTED)]) as gateway:
        async with session(gateway, path) as octo:
            futures = await asyncio.gather(*(buy(octo) for _ in range(20)))
            assert len({id(future) for future in futures}) == 1
            assert await buy(octo) is futures[0]
        assert len(gateway.posts) == 1


async def test_equal_keys_in_two_sessions_are_one_post(path: Path) -> None:
    """A session waits for the id of a key that another one is buying, and follows the same task."""
    async with ScriptedGateway(submits=[after(30, ACCEPTED)]) as gateway:
        async with session(gateway, path) as one, session(gateway, path) as two:
            first, second = await asyncio.gather(buy(one), buy(two))
            assert first is not second
            assert first.id == second.id == "task_1"
            await asyncio.gather(first, second)
        assert len(gateway.posts) == 1
    assert states(path) == {"a": "completed"}


async def test_what_another_session_was_refused_is_bought_here(path: Path) -> None:
    """A session that waited for another's purchase buys itself where that bought nothing."""
    no = reply({"code": "invalid_request", "message": "no", "data": None}, status=400)
    async with ScriptedGateway(submits=[after(30, no), ACCEPTED]) as gateway:
        async with session(gateway, path) as one, session(gateway, path) as two:
            first = asyncio.ensure_future(buy(one))
            await asyncio.sleep(1)
            second = await buy(two)
            with pytest.raises(octoremix.BadRequestError):
                await first
            assert second.id == "task_1"
        assert len(gateway.posts) == 2
    assert states(path) == {"a": "submitted 2"}


async def test_the_wait_for_another_session_has_an_end(path: Path) -> None:
    """Whoever has the key and tells nothing is waited for as long as a submit may take, no more."""
    loop = asyncio.get_running_loop()
    async with ScriptedGateway(submits=[after(1000, ACCEPTED)]) as gateway:
        async with session(gateway, path, submit_timeout=500) as one:
            first = asyncio.ensure_future(buy(one))
            await asyncio.sleep(1)
            async with session(gateway, path, submit_timeout=60) as two:
                started = loop.time()
                with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="has not told yet"):
                    await buy(two)
                assert 60 <= loop.time() - started < 70
            with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                await first
        assert len(gateway.posts) == 1


async def test_a_clock_that_was_set_back_does_not_prolong_the_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent from the future is waited for no longer than a fresh one."""
    loop = asyncio.get_running_loop()
    async with ScriptedGateway(submits=[after(1000, ACCEPTED)]) as gateway:
        async with session(gateway, path, submit_timeout=500) as one:
            first = asyncio.ensure_future(buy(one))
            await asyncio.sleep(1)
            monkeypatch.setattr("octoremix._submit.keeping.time.time", lambda: 1e9)
            async with session(gateway, path, submit_timeout=60) as two:
                started = loop.time()
                with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                    await buy(two)
                assert loop.time() - started < 70
            monkeypatch.undo()
            await asyncio.wait([first])
            assert first.exception() is not None


@pytest.mark.parametrize("how", ["time-out", "close"])
async def test_a_wait_for_another_session_that_is_given_up_is_not_called_free(
    path: Path, how: str
) -> None:
    """Who leaves while another process buys the job is told that it may be bought."""
    async with ScriptedGateway(submits=[after(60, ACCEPTED)]) as gateway:
        async with session(gateway, path) as one, session(gateway, path) as two:
            first = asyncio.ensure_future(buy(one))
            await asyncio.sleep(1)
            timeout = 10 if how == "time-out" else None
            second = asyncio.ensure_future(
                two.remix("video_1", prompt="snow", key="a", timeout=timeout)
            )
            await asyncio.sleep(20)
            if how == "close":
                await two.aclose()
            with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="has not told yet"):
                await second
            await first
        assert len(gateway.posts) == 1


async def test_two_sessions_that_claim_at_once_send_one_post(path: Path) -> None:
    """A purchase that waits for its slot while another process takes its key joins that one."""
    submits = [after(30, task("queued", "task_0")), task("queued", "task_1")]
    async with ScriptedGateway(submits=submits) as gateway:
        async with (
            session(gateway, path, submit_concurrency=1) as one,
            session(gateway, path) as two,
        ):
            first = asyncio.ensure_future(buy(one, "other", prompt="rain"))
            await asyncio.sleep(1)
            waiting = asyncio.ensure_future(buy(one))
            await asyncio.sleep(1)
            future = await buy(two)
            await first
            assert (await waiting).id == future.id == "task_1"
        assert len(gateway.posts) == 2


async def test_another_request_under_a_used_key_is_refused(path: Path) -> None:
    """A key stands for one request: also while it is being bought, and after a restart."""
    async with ScriptedGateway(submits=[after(10, ACCEPTED)]) as gateway:
        async with session(gateway, path) as octo:
            first = asyncio.ensure_future(buy(octo))
            await asyncio.sleep(1)
            with pytest.raises(octoremix.KeyReusedError, match="just being submitted"):
                await buy(octo, prompt="rain")
            await first
            with pytest.raises(octoremix.KeyReusedError, match="another remix"):
                await buy(octo, extra={"size": "720P"})
        async with session(gateway, path) as octo:
            with pytest.raises(octoremix.KeyReusedError, match="another remix"):
                await buy(octo, model="grok-video-3")
        assert len(gateway.posts) == 1


async def test_a_key_that_another_session_took_for_another_request_is_refused(path: Path) -> None:
    """A claim that comes second with another request finds out before anything is sent."""
    submits = [after(30, task("queued", "task_0")), task("queued", "task_1")]
    async with ScriptedGateway(submits=submits) as gateway:
        async with (
            session(gateway, path, submit_concurrency=1) as one,
            session(gateway, path) as two,
        ):
            first = asyncio.ensure_future(buy(one, "other", prompt="rain"))
            await asyncio.sleep(1)
            waiting = asyncio.ensure_future(buy(one, prompt="hail"))
            await asyncio.sleep(1)
            await buy(two)
            with pytest.raises(octoremix.KeyReusedError):
                await waiting
            await first
        assert len(gateway.posts) == 2


async def test_equal_requests_are_equal_however_they_are_written(path: Path) -> None:
    """The order of `extra` and names that JSON turns into texts make no other request."""
    extra: dict[Any, Any] = {"size": "720P", "tags": {1: [True, None]}}
    same = {"tags": {"1": [True, None]}, "size": "720P"}
    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            await buy(octo, extra=extra)
        async with session(gateway, path) as octo:
            assert (await buy(octo, extra=same)).id == "task_1"
        assert len(gateway.posts) == 1


async def test_keys_are_of_their_gateway(path: Path) -> None:
    """The same key at another base URL is another job, and another spelling is the same one."""
    async with ScriptedGateway() as one, ScriptedGateway() as two:
        async with session(one, path) as octo:
            await buy(octo)
        async with session(two, path) as octo:
            await buy(octo)
            assert len(await octo.history()) == 1
        async with octoremix.Session("key", base_url=f"{one.url}/v1/", journal=path) as octo:
            await buy(octo)
        assert len(one.posts) == len(two.posts) == 1
    history = await octoremix.SQLiteJournal(path).history()
    assert {each.base_url for each in history} == {one.url, two.url}


@pytest.mark.parametrize("status", ENDS)
async def test_a_stored_failure_is_raised(path: Path, status: str) -> None:
    """`submit` raises how a key's job ended: in this session, beside it and after a restart."""
    failed = task(status, error={"code": "moderated", "message": "not allowed"})
    async with ScriptedGateway(submits=[ACCEPTED], polls=[failed]) as gateway:
        async with session(gateway, path) as octo:
            with pytest.raises(ENDS[status]):
                await (await buy(octo))
            with pytest.raises(ENDS[status], match="not allowed"):
                await buy(octo)
            async with session(gateway, path) as beside:
                with pytest.raises(ENDS[status], match="not allowed"):
                    await buy(beside)
        polls = len(gateway.gets)
        async with session(gateway, path) as octo:
            with pytest.raises(ENDS[status], match="not allowed") as caught:
                await octo.remix("video_1", prompt="snow", key="a")
        assert caught.value.id == "task_1"
        assert caught.value.video is not None
        assert len(gateway.posts) == 1
        assert len(gateway.gets) == polls
    assert states(path) == {"a": status}


async def test_retry_failed_buys_a_failed_job_again(path: Path) -> None:
    """`retry_failed=True` buys what ended without a video, and keeps what came of it instead."""
    submits = [task("queued", "task_1"), task("queued", "task_2")]
    polls = [task("failed"), task("completed", "task_2", url="https://cdn.example/2.mp4")]
    async with ScriptedGateway(submits=submits, polls=polls) as gateway:
        async with session(gateway, path) as octo:
            with pytest.raises(octoremix.RemixFailedError):
                await (await buy(octo))
            again = await buy(octo, retry_failed=True)
            assert again.id == "task_2"
            await again
            assert (await buy(octo, retry_failed=True)).done()
        assert len(gateway.posts) == 2
    found = await entry(path, "a")
    assert (found.status, found.attempt, found.id) == ("completed", 2, "task_2")
    assert found.purchases == 2


async def test_a_stored_result_needs_no_request(path: Path, tmp_path: Path) -> None:
    """A completed or downloaded job of a key is given back whole, without any call."""
    video = task("completed", url="https://cdn.example/1.mp4", x_extra={"kept": [1, None]})
    async with ScriptedGateway(submits=[ACCEPTED], polls=[video]) as gateway:
        async with session(gateway, path) as octo:
            raw = (await (await buy(octo))).raw
        calls = len(gateway.calls)
        for state in ("completed", "downloaded"):
            async with session(gateway, path) as octo:
                future = await buy(octo)
                assert future.done()
                assert future.request is not None
                found = await future
                assert dict(found.raw) == dict(raw)
                assert found.url == "https://cdn.example/1.mp4"
                assert len(gateway.calls) == calls
                assert states(path) == {"a": state}
                assert octo._ledger is not None
                octo._ledger.downloaded(found, tmp_path / "snow\udcff.mp4")
    found_entry = await entry(path, "a")
    assert found_entry.path == str(tmp_path / "snow\\udcff.mp4")
    assert found_entry.downloaded_at is not None
    assert dict(found_entry.video.raw) == dict(raw) if found_entry.video else False


async def test_a_stored_result_is_a_future_like_any_other(path: Path) -> None:
    """What the journal gives back can be read, waited for and called back, and has no follower."""
    called: list[octoremix.RemixFuture] = []
    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            await octo.remix("video_1", prompt="snow", key="a")
        async with session(gateway, path) as octo:
            future = await buy(octo)
            future.detach()
            future.add_done_callback(called.append)
            assert await future.wait(1) == await future == future.result()
            assert [each.status async for each in future.updates()] == ["completed"]
            await asyncio.sleep(0)
            assert called == [future]
            assert not octo.pending
            assert await octo.remix("video_1", prompt="snow", key="a") == future.video
        assert len(gateway.posts) == 1


async def test_a_download_is_recorded(path: Path, tmp_path: Path) -> None:
    """After `download` the journal tells where the video is."""
    async with Emulator(duration=5) as gateway:
        async with octoremix.Session(gateway.api_key, base_url=gateway.url, journal=path) as octo:
            future = await buy(octo)
            await octo.download(future, tmp_path / "snow.mp4")
    found = await entry(path, "a")
    assert (found.status, found.path) == ("downloaded", str(tmp_path / "snow.mp4"))
    assert found.url == (found.video and found.video.url)


async def test_an_unfinished_key_is_followed_after_a_restart(path: Path) -> None:
    """The key of a task that goes on gives a future of it in the next session, and no POST."""
    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            await buy(octo)
        async with session(gateway, path) as octo:
            future = await buy(octo)
            assert (future.id, future.done()) == ("task_1", False)
            await future
        assert len(gateway.posts) == 1
    assert states(path) == {"a": "completed"}


async def test_a_caller_who_left_gets_the_id_by_the_same_key(path: Path) -> None:
    """A handler that is cancelled or times out after the request left finds its job again."""
    async with ScriptedGateway(submits=[after(30, ACCEPTED)]) as gateway:
        async with session(gateway, path) as octo:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(buy(octo), 5)
            with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                await octo.remix("video_1", prompt="snow", key="a", timeout=5)
            assert (await buy(octo)).id == "task_1"
        async with session(gateway, path) as octo:
            assert (await buy(octo)).id == "task_1"
        assert len(gateway.posts) == 1


@pytest.mark.parametrize("closed", [True, False])
def test_the_end_of_asyncio_run_keeps_what_was_out(path: Path, closed: bool) -> None:
    """`asyncio.run`, which cancels everything at its end, waits until the id is on the disk."""
    release = threading.Event()
    sessions: list[Any] = []

    async def main(gateway: ScriptedGateway) -> None:
        octo = await session(gateway, path).__aenter__()
        sessions.append(octo)
        asyncio.ensure_future(buy(octo))
        await until_sent(gateway)
        asyncio.get_running_loop().call_soon(release.set)
        if closed:
            await octo.aclose()

    with answering_later(release) as gateway, asyncio.Runner() as runner:
        runner.run(main(gateway))
        # What `asyncio.run` does at its end, here, so that the rest can be closed after it.
        asyncio.runners._cancel_all_tasks(runner.get_loop())  # type: ignore[attr-defined]
        assert states(path) == {"a": "submitted"}
        runner.run(sessions[0]._ledger.aclose())
        runner.run(sessions[0]._transport.aclose())
    assert len(gateway.posts) == 1


async def test_one_of_two_callers_may_leave(path: Path) -> None:
    """A purchase goes on while anybody waits for its key."""
    async with ScriptedGateway(submits=[after(10, ACCEPTED)]) as gateway:
        async with session(gateway, path, submit_concurrency=1) as octo:
            before = asyncio.ensure_future(buy(octo, "before", prompt="rain"))
            await asyncio.sleep(1)
            one, two = asyncio.ensure_future(buy(octo)), asyncio.ensure_future(buy(octo))
            await asyncio.sleep(1)
            one.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await one
            assert "others wait" in caught.value.__notes__[0]
            assert (await two).id == "task_1"
            await before
        assert len(gateway.posts) == 2


async def test_a_purchase_that_all_have_left_frees_its_key(path: Path) -> None:
    """Cancelled in the wait for a slot, a job was never announced, and its key buys."""
    async with ScriptedGateway(submits=[after(10, ACCEPTED)]) as gateway:
        async with session(gateway, path, submit_concurrency=1) as octo:
            before = asyncio.ensure_future(buy(octo, "before", prompt="rain"))
            await asyncio.sleep(1)
            leaver = asyncio.ensure_future(buy(octo))
            await asyncio.sleep(1)
            leaver.cancel()
            again = asyncio.ensure_future(buy(octo))  # in the same turn: it must not join that one
            await asyncio.sleep(0)
            assert states(path) == {"before": "intent"}
            await asyncio.gather(before, again)
        assert leaver.cancelled()
        assert len(gateway.posts) == 2


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_cancelled_in_any_turn_a_job_is_free_or_known(path: Path, turns: int) -> None:
    """Wherever a caller leaves, the key buys once: it was not sent, or its id is given."""
    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            leaver = asyncio.ensure_future(buy(octo))
            for _ in range(turns):
                await asyncio.sleep(0)
            leaver.cancel()
            again = asyncio.ensure_future(buy(octo))
            await asyncio.wait([leaver])
            assert (await again).id == "task_1"
            await octo.history()
        assert len(gateway.posts) == 1
    (state,) = states(path).values()
    assert state.startswith("submitted")


async def test_a_job_that_was_withdrawn_is_refused(path: Path) -> None:
    """A caller who leaves between the intent and the POST leaves `refused` behind."""
    async with ScriptedGateway() as gateway:
        async with octoremix.Session(slow_key, base_url=gateway.url, journal=path) as octo:
            leaver = asyncio.ensure_future(buy(octo))
            await asyncio.sleep(5)
            assert states(path) == {"a": "intent"}
            leaver.cancel()
            await asyncio.wait([leaver])
            assert [each.status for each in await octo.history()] == ["refused"]
        assert not gateway.posts
    assert "left before it was sent" in (await entry(path, "a")).reason


async def slow_key() -> str:
    await asyncio.sleep(10)
    return "key"


async def test_a_session_that_closes_keeps_what_is_answered_in_its_grace(path: Path) -> None:
    """`aclose` waits for POSTs that are out: in time their ids are kept, later they are doubts."""
    submits = [after(8, ACCEPTED), after(100, task("queued", "task_2"))]
    async with ScriptedGateway(submits=submits) as gateway:
        octo = session(gateway, path)
        submitted = [asyncio.ensure_future(buy(octo, key, prompt=key)) for key in "ab"]
        while len(gateway.posts) < 2:
            await asyncio.sleep(0.1)
        unsent = [asyncio.ensure_future(buy(octo, "c", prompt="c"))]
        await octo.aclose(grace=10)
        outcomes = await asyncio.gather(*submitted, *unsent, return_exceptions=True)
    kept = sorted(str(type(outcome).__name__) for outcome in outcomes)
    assert kept == ["RemixFuture", "SessionClosedError", "SubmitOutcomeUnknownError"]
    assert sorted(states(path).values()) == ["in_doubt", "submitted"]


async def test_a_dead_owner_leaves_a_doubt(path: Path) -> None:
    """A key whose process died while its request was out is in doubt from then on."""
    async with ScriptedGateway(submits=[after(30, ACCEPTED)]) as gateway:
        async with session(gateway, path) as dead, session(gateway, path) as octo:
            lost = asyncio.ensure_future(buy(dead))
            await asyncio.sleep(1)
            await die(dead)
            with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="process ended"):
                await buy(octo)
            with pytest.raises(octoremix.JournalError):
                await lost
        assert len(gateway.posts) == 1
    assert states(path) == {"a": "in_doubt"}


async def test_cut_then_settled_each_way(path: Path) -> None:
    """A doubt ends by `adopt`, `resubmit` or `abandon`, and its key then gives what was chosen."""
    submits = [cut, cut, cut, task("queued", "task_b")]
    async with ScriptedGateway(submits=submits, polls=[task("completed")]) as gateway:
        async with session(gateway, path) as octo:
            for key in "abc":
                with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                    await buy(octo, key)
            a, b, c = await octo.in_doubt()
            adopted = await octo.adopt(a, "task_a")
            assert await buy(octo, "a") is adopted
            bought = await octo.resubmit(b)
            assert bought.id == "task_b"
            assert bought.request == b.request
            assert await buy(octo, "b") is bought
            await octo.abandon(c)
            with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="retry_failed=True"):
                await buy(octo, "c")
            assert len(gateway.posts) == 4
            await buy(octo, "c", retry_failed=True)
            assert len(gateway.posts) == 5
            assert await octo.in_doubt() == []
    assert states(path) == {"a": "submitted", "b": "submitted 2", "c": "submitted 2"}
