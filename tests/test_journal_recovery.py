"""What an earlier process left: followed again, listed as in doubt, settled, read and erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import octoremix

from .journals import die, entry, path, query, session, states
from .scripted import ScriptedGateway, after, cut, reply, task

__all__ = ["path"]

ACCEPTED = task("queued")
MISSING = reply({"code": "task_not_exist", "message": "no", "data": None}, status=400)
REFUSED = reply({"code": "invalid_request", "message": "no", "data": None}, status=400)
FILE = reply(b"\x00\x00\x00\x18ftypmp42" + bytes(100))


async def buy(octo: octoremix.Session, key: str | None = "a", **more: Any) -> octoremix.RemixFuture:
    return await octo.submit("video_1", **{"prompt": "snow", "key": key, **more})


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    submits = [task("queued", f"task_{number}") for number in range(1, 9)]
    async with ScriptedGateway(submits=submits) as found:
        yield found


async def doubtful(octo: octoremix.Session, key: str = "a") -> octoremix.InDoubt:
    """Return the doubt that a submit left whose answer was cut."""
    with pytest.raises(octoremix.SubmitOutcomeUnknownError):
        await buy(octo, key)
    return {each.key: each for each in await octo.in_doubt()}[key]


async def test_a_doubt_is_told_by_its_cause(path: Path) -> None:
    """What is stored is why nobody knows, once: it is told beside what else is known of the job."""
    async with ScriptedGateway(submits=[cut]) as gateway, session(gateway, path) as octo:
        with pytest.raises(octoremix.SubmitOutcomeUnknownError) as caught:
            await buy(octo, "a")
        why = caught.value.reason
        assert why.endswith("closed the connection without an answer")
        (doubt,) = await octo.in_doubt()
        assert doubt.reason == why
        with pytest.raises(octoremix.SubmitOutcomeUnknownError) as again:
            await buy(octo, "a")
        assert again.value.reason == why
        assert str(again.value).count("may exist and may be billed") == 1


async def test_resume_follows_what_a_dead_process_left(
    path: Path, gateway: ScriptedGateway
) -> None:
    """The tasks of a process that is gone are followed to their ends, with their requests."""
    async with session(gateway, path) as dead:
        for key in "ab":
            await buy(dead, key, extra={"size": "720P"})
        await die(dead)
        async with session(gateway, path) as octo:
            first, second = await octo.resume()
            assert (first.id, second.id) == ("task_1", "task_2")
            assert first.request == octoremix.RemixRequest(
                video_id="video_1", prompt="snow", extra={"size": "720P"}
            )
            assert await octo.resume() == [first, second]
            await asyncio.gather(first, second)
            assert await octo.resume() == []
    assert states(path) == {"a": "completed", "b": "completed"}


async def test_jobs_of_a_living_process_are_its_own(path: Path, gateway: ScriptedGateway) -> None:
    """`resume` follows neither tasks nor intents of an owner that lives, and takes over no doubt."""
    gateway.submits = [ACCEPTED, after(60, task("queued", "task_2"))]
    async with session(gateway, path) as living, session(gateway, path) as octo:
        await buy(living, "a")
        slow = asyncio.ensure_future(buy(living, "b"))
        await asyncio.sleep(1)
        assert await octo.resume() == []
        assert await octo.in_doubt() == []
        assert states(path) == {"a": "submitted", "b": "intent"}
        await slow


async def test_an_intent_of_a_dead_process_is_in_doubt(
    path: Path, gateway: ScriptedGateway
) -> None:
    """What a process had sent when it died is listed as in doubt, with its request and time."""
    gateway.submits = [after(60, ACCEPTED)]
    before = datetime.now(UTC)
    async with session(gateway, path) as dead:
        lost = asyncio.ensure_future(buy(dead))
        await asyncio.sleep(1)
        await die(dead)
        async with session(gateway, path) as octo:
            assert await octo.resume() == []
            (doubt,) = await octo.in_doubt()
            (kept,) = await octo.history()
            assert kept.interrupted
        with pytest.raises(octoremix.JournalError):
            await lost
    assert doubt.key == "a"
    assert doubt.attempt == 1
    assert doubt.request is not None
    assert doubt.request.prompt == "snow"
    assert before <= doubt.sent_at <= datetime.now(UTC)
    assert "process ended" in doubt.reason
    assert doubt.interrupted
    assert doubt.evidence is None
    assert "snow" not in repr(doubt)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
async def test_an_end_that_a_query_tells_is_kept(path: Path, status: str) -> None:
    """A process that only asks, and follows nothing, knows the end for all that share the journal."""
    link = {"url": "https://cdn.example/1.mp4"} if status == "completed" else {}
    polls = [task("processing"), task(status, **link)]
    async with ScriptedGateway(polls=polls) as gateway, session(gateway, path) as dead:
        await buy(dead, "a")
        await die(dead)
        async with session(gateway, path) as octo:
            await octo.retrieve("task_1")
            assert [each.status for each in await octo.history()] == ["submitted"]
            video = await octo.retrieve("task_1")
            (found,) = await octo.history()
            assert found.status == status
            assert found.video == video
            assert await octo.resume() == []
            calls = len(gateway.calls)
            if status == "completed":
                assert await (await buy(octo, "a")) == video
            else:
                with pytest.raises(octoremix.RemixError):
                    await buy(octo, "a")
            assert len(gateway.calls) == calls


async def test_an_end_without_a_result_is_left_to_the_poller(path: Path) -> None:
    """The older route may know that a finished task without a link has failed; a query asks once."""
    async with ScriptedGateway(polls=[task("completed")]) as gateway:
        async with session(gateway, path) as octo:
            future = await buy(octo, "a")
            future.detach()
            assert (await octo.retrieve("task_1")).url is None
            await octo.history()
    assert states(path) == {"a": "submitted"}


@pytest.mark.parametrize("linked", [True, False])
async def test_a_video_that_only_a_download_asked_for_is_kept(
    path: Path, tmp_path: Path, linked: bool
) -> None:
    """What is saved by its id alone is known to be, without anybody following its task."""
    async with ScriptedGateway() as gateway:
        link = {"url": f"{gateway.url}/files/1.mp4"} if linked else {}
        gateway.polls = [task("completed", **link)]
        gateway.contents = [FILE]
        async with session(gateway, path) as octo:
            (await buy(octo, "a")).detach()
            await octo.download("task_1", tmp_path / "a.mp4")
            await octo.history()
            assert (await buy(octo, "a")).status == "completed"
    assert (await entry(path, "a")).path == str(tmp_path / "a.mp4")
    assert states(path) == {"a": "downloaded"}


@pytest.mark.parametrize("raw", [{}, {"status": ["no"]}, {"status": "completed", 1: {2}}])
async def test_a_snapshot_of_ones_own_tells_no_end_but_what_it_holds(
    path: Path, tmp_path: Path, raw: dict[Any, Any]
) -> None:
    """A `Video` that a caller has made is saved, whatever its ``raw``."""
    async with ScriptedGateway() as gateway:
        gateway.contents = [FILE]
        async with session(gateway, path) as octo:
            (await buy(octo, "a")).detach()
            video = octoremix.Video(id="task_1", status=octoremix.TaskStatus.COMPLETED, raw=raw)
            await octo.download(video, tmp_path / "a.mp4")
            await octo.history()
    assert states(path) == {"a": "downloaded" if "completed" in raw.values() else "submitted"}


async def test_other_gateways_are_left_alone_and_named(
    path: Path, gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs of another base URL are never asked for: a warning names it and how many they are."""
    async with ScriptedGateway() as other:
        async with session(other, path) as octo:
            await buy(octo, "a")
        calls = len(other.calls)
        async with session(gateway, path) as octo:
            assert await octo.resume() == []
            assert await octo.history() == []
            assert octo._submitter is not None
        assert len(other.calls) == calls
    assert f"1 unfinished jobs of {other.url}, which are left alone" in caplog.text
    assert states(path) == {"a": "submitted"}


async def test_the_grace_of_a_task_counts_from_its_submit(
    path: Path, gateway: ScriptedGateway
) -> None:
    """A task that the gateway does not know is waited for if it is young, and lost if it is old."""
    gateway.polls = [MISSING]
    async with session(gateway, path) as octo:
        await buy(octo, "young")
        await buy(octo, "old")
    query(path, "UPDATE job SET submitted_at = submitted_at - 3600 WHERE key = 'old'")
    loop = asyncio.get_running_loop()
    async with session(gateway, path) as octo:
        started = loop.time()
        young, old = await octo.resume()
        with pytest.raises(octoremix.TaskLostError):
            await old
        assert loop.time() - started < 10
        with pytest.raises(octoremix.TaskLostError):
            await young
        assert 60 <= loop.time() - started < 90
    assert states(path) == {"young": "submitted", "old": "submitted"}


async def test_resume_after_the_poller_stopped_is_refused(
    path: Path, gateway: ScriptedGateway
) -> None:
    """A session that follows nothing any more takes nothing over."""
    async with session(gateway, path) as octo:
        octo._poller._stopped = "it broke"
        with pytest.raises(octoremix.SessionClosedError, match="it broke"):
            await octo.resume()
    with pytest.raises(octoremix.SessionClosedError):
        await octo.resume()


async def test_adopt_is_checked(path: Path, gateway: ScriptedGateway) -> None:
    """A doubt is adopted once, by a task of its own; and then followed to its end."""
    gateway.submits = [cut, cut, ACCEPTED]
    async with session(gateway, path) as octo:
        a, b = await doubtful(octo, "a"), await doubtful(octo, "b")
        (await buy(octo, "c")).detach()
        with pytest.raises(octoremix.ConfigurationError):
            await octo.adopt(a, "..")
        with pytest.raises(octoremix.JournalError, match="that of the job 'c'") as caught:
            await octo.adopt(a, "task_1")
        assert caught.value.id == "task_1"
        future = await octo.adopt(a, "task_9")
        assert future.request == a.request
        with pytest.raises(octoremix.JournalError, match="settled already: it is submitted"):
            await octo.adopt(a, "task_8")
        with pytest.raises(octoremix.JournalError, match="that of the job 'a'"):
            await octo.adopt(b, "task_9")
        await future
    assert states(path) == {"a": "completed", "b": "in_doubt", "c": "submitted"}
    adopted = await entry(path, "a")
    assert adopted.submitted_at == a.sent_at
    assert adopted.reason == ""


async def test_a_doubt_is_settled_once(path: Path, gateway: ScriptedGateway) -> None:
    """What was abandoned, or sent again, is no doubt any more, also for who still holds it."""
    gateway.submits = [cut, cut, ACCEPTED]
    async with session(gateway, path) as octo:
        a, b = await doubtful(octo, "a"), await doubtful(octo, "b")
        await octo.abandon(a)
        await octo.resubmit(b)
        for doubt in (a, b, evolve(a, key="never")):
            for settle in (octo.abandon, octo.resubmit):
                with pytest.raises(octoremix.JournalError, match="settled already: it is"):
                    await settle(doubt)
        assert len(gateway.posts) == 3
    assert states(path) == {"a": "abandoned", "b": "submitted 2"}
    assert (await entry(path, "a")).settled_at is not None


async def test_resubmit_goes_on_after_a_429(path: Path, gateway: ScriptedGateway) -> None:
    """A 429 to a job that is bought once more is repeated like any other."""
    gateway.submits = [cut, reply(status=429), ACCEPTED]
    async with session(gateway, path) as octo:
        future = await octo.resubmit(await doubtful(octo))
        assert future.id == "task_1"
    assert states(path) == {"a": "submitted 3"}


async def test_resubmit_that_buys_nothing_leaves_the_doubt(
    path: Path, gateway: ScriptedGateway
) -> None:
    """A refusal of the second POST says nothing of the first: the job is in doubt as before."""
    gateway.submits = [cut, REFUSED]
    async with session(gateway, path) as octo:
        doubt = await doubtful(octo)
        with pytest.raises(octoremix.BadRequestError):
            await octo.resubmit(doubt)
        (again,) = await octo.in_doubt()
        assert (again.attempt, again.sent_at) == (2, doubt.sent_at)
        with pytest.raises(octoremix.JournalError, match="it is in_doubt"):
            await octo.resubmit(doubt)
        with pytest.raises(octoremix.SubmitOutcomeUnknownError):
            await buy(octo)
        assert len(gateway.posts) == 2


async def test_a_resubmit_that_is_given_up_leaves_the_doubt(
    path: Path, gateway: ScriptedGateway
) -> None:
    """Cancelled before its POST left, a second attempt leaves the doubt about the first."""
    gateway.submits = [cut, ACCEPTED]
    async with session(gateway, path) as octo:
        doubt = await doubtful(octo)
        for turns in range(12):
            (doubt,) = await octo.in_doubt()
            leaver = asyncio.ensure_future(octo.resubmit(doubt))
            for _ in range(turns):
                await asyncio.sleep(0)
            leaver.cancel()
            await asyncio.wait([leaver])
            if len(gateway.posts) > 1:
                break
            await octo.history()
            assert states(path)["a"].startswith("in_doubt")


async def test_two_that_resubmit_one_doubt_send_one_post(
    path: Path, gateway: ScriptedGateway
) -> None:
    """A doubt that is sent again in two places at once is bought once more, not twice."""
    gateway.submits = [cut, after(5, ACCEPTED)]
    async with session(gateway, path) as one, session(gateway, path) as two:
        doubt = await doubtful(one)
        futures = await asyncio.gather(
            one.resubmit(doubt), one.resubmit(doubt), two.resubmit(doubt), return_exceptions=True
        )
        assert {getattr(future, "id", None) for future in futures} <= {"task_1", None}
        assert len(gateway.posts) == 2


async def test_another_process_that_retries_a_failure_is_joined(
    path: Path, gateway: ScriptedGateway
) -> None:
    """A failed job that is bought again in two sessions at once is bought once."""
    gateway.submits = [ACCEPTED, after(5, task("queued", "task_2"))]
    gateway.polls = [task("failed"), task("completed", "task_2")]
    async with session(gateway, path) as one, session(gateway, path) as two:
        with pytest.raises(octoremix.RemixFailedError):
            await (await buy(one))
        await one.history()  # the end of the first is in the journal: else the other follows it
        futures = await asyncio.gather(
            buy(one, retry_failed=True), buy(two, retry_failed=True), buy(one, retry_failed=True)
        )
        assert {future.id for future in futures} == {"task_2"}
        assert len(gateway.posts) == 2


async def test_a_claim_that_lost_its_turn_tells_what_was_bought_since(
    path: Path, gateway: ScriptedGateway
) -> None:
    """Refused by a 429, a retried failure that another process then bought is not bought again."""
    slow = octoremix.RetryPolicy(wait=lambda _: 100)
    failed = task("failed")
    gateway.submits = [ACCEPTED, reply(status=429), task("queued", "task_2")]
    gateway.polls = [failed]
    async with session(gateway, path, retry=slow) as one, session(gateway, path) as two:
        with pytest.raises(octoremix.RemixFailedError):
            await (await buy(one))
        waiting = asyncio.ensure_future(buy(one, retry_failed=True))
        await asyncio.sleep(10)
        assert states(path) == {"a": "refused 2"}
        with pytest.raises(octoremix.RemixFailedError):
            await (await buy(two))
        with pytest.raises(octoremix.RemixFailedError, match="task_2"):
            await waiting
        assert len(gateway.posts) == 3


async def test_history_is_filtered(path: Path, gateway: ScriptedGateway) -> None:
    """The history is the newest first, and told by state, by gateway and up to a number."""
    gateway.submits = [REFUSED, ACCEPTED, task("queued", "task_2")]
    journal = octoremix.SQLiteJournal(path)
    async with session(gateway, journal) as octo:
        with pytest.raises(octoremix.BadRequestError):
            await buy(octo, "a")
        (await buy(octo, "b")).detach()
        await (await buy(octo, "c"))
        assert [each.key for each in await octo.history()] == ["c", "b", "a"]
        assert [each.key for each in await octo.history(limit=1)] == ["c"]
        assert [each.key for each in await octo.history(states={"refused"})] == ["a"]
        assert [each.key for each in await octo.history(states="submitted")] == ["b"]
        assert await octo.history(states=[]) == []
        with pytest.raises(octoremix.ConfigurationError, match="choose from"):
            await octo.history(states=["done"])
        with pytest.raises(octoremix.ConfigurationError, match="limit"):
            await octo.history(limit=0)
    assert len(await journal.history(base_url=gateway.url, states=["refused", "completed"])) == 2
    assert await journal.history(base_url="https://elsewhere.example") == []
    a = await entry(path, "a")
    assert (a.id, a.status, a.attempt, a.video, a.url) == (None, "refused", 1, None, None)
    assert a.created_at == a.sent_at
    assert (a.submitted_at, a.downloaded_at) == (None, None)
    assert "snow" not in repr(a)


async def test_prune_erases_what_was_settled_long_ago(
    path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled jobs that are old enough go, in portions; open ones stay whatever their age."""
    monkeypatch.setattr("octoremix._journal.history._CHUNK", 2)
    gateway.submits = [cut, REFUSED, REFUSED, REFUSED, ACCEPTED, task("queued", "task_2")]
    journal = octoremix.SQLiteJournal(path)
    async with session(gateway, journal) as octo:
        await doubtful(octo, "doubt")
        for key in "abc":
            with pytest.raises(octoremix.BadRequestError):
                await buy(octo, key)
        (await buy(octo, "open")).detach()
        await (await buy(octo, "done"))
        await octo.history()
        assert await journal.prune(older_than=timedelta(hours=1)) == 0
        for wrong in (-1, float("nan"), "1"):
            with pytest.raises(octoremix.ConfigurationError, match="older_than"):
                await journal.prune(older_than=wrong)  # type: ignore[arg-type]  # what is refused
        query(path, "UPDATE job SET settled_at = settled_at - 7200 WHERE key != 'done'")
        assert await journal.prune(older_than=3600) == 3
        assert states(path) == {"doubt": "in_doubt", "open": "submitted", "done": "completed"}
        assert await journal.prune(older_than=0) == 1
        await buy(octo, "c")


async def test_a_record_of_an_earlier_attempt_changes_nothing(
    path: Path, gateway: ScriptedGateway
) -> None:
    """What is told late of an attempt that was followed by another leaves that one as it is."""
    gateway.submits = [REFUSED, after(60, ACCEPTED)]
    async with session(gateway, path) as octo:
        with pytest.raises(octoremix.BadRequestError):
            await buy(octo)
        assert octo._ledger is not None
        first = await octo._ledger.look(
            octoremix.RemixRequest(video_id="video_1", prompt="snow"), "a"
        )
        assert first is not None
        submit = asyncio.ensure_future(buy(octo))
        await asyncio.sleep(1)
        await octo._ledger.refused(first, "late", None)
        await octo._ledger.in_doubt(first, "late", 0.0, None)
        with pytest.raises(octoremix.JournalError, match="it is intent"):
            await octo._ledger.submitted(first, "task_0")
        assert states(path) == {"a": "intent 2"}
        await submit


async def test_what_cannot_be_read_any_more_is_no_obstacle(
    path: Path, gateway: ScriptedGateway
) -> None:
    """A request that today's checks would refuse is told as missing, not as an error."""
    async with session(gateway, path) as octo:
        await buy(octo)
        query(path, "UPDATE job SET model = ''")
        (found,) = await octo.history()
        assert found.request is None
        assert found.id == "task_1"


def test_what_a_session_holds_is_shown_in_short(path: Path) -> None:
    """The parts of a journal show where it is, and nothing of what is in it."""
    octo = octoremix.Session("sk-secret", base_url="http://127.0.0.1:9", journal=path)
    shown = [octo._recovery, octo._recovery and octo._recovery._evidence, octo._submitter._keeper]
    assert list(map(repr, shown)) == [
        f"<Recovery from {path}>",
        f"<Evidence for <Ledger in {path}>>",
        "<Keeper with 0 unwritten jobs>",
    ]
