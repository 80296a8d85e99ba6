"""Disks that are full, slow or broken: nothing is spent in vain, and nothing accepted is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

import octoremix
from octoremix._journal import access, owners
from octoremix._journal import writer as writing
from octoremix._journal.writer import Writer

from .journals import Disk, die, disk, failure, io_error, path, query, session, states, store_of
from .scripted import ScriptedGateway, after, reply, task

__all__ = ["disk", "path"]


def fail(_: int) -> None:
    raise io_error()


def work(_: int) -> None:
    pass


async def buy(octo: octoremix.Session, key: str | None = None) -> octoremix.RemixFuture:
    return await octo.submit("video_1", prompt="snow", key=key)


def numbered(count: int = 50) -> list[Any]:
    return [task("queued", f"task_{number}") for number in range(1, count)]


async def test_a_disk_that_fails_at_the_intent_sends_nothing(path: Path, disk: Disk) -> None:
    """What can't be announced is not sent, and is once the disk works again."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        disk.before = fail
        with pytest.raises(octoremix.JournalError, match="the disk failed") as caught:
            await buy(octo)
        assert caught.value.id is None
        assert not gateway.posts
        disk.before = work
        await buy(octo, "a")
        assert len(gateway.posts) == 1


@pytest.mark.parametrize("together", [1, 5])
async def test_a_commit_that_came_through_though_it_failed_is_taken_back(
    path: Path, disk: Disk, together: int
) -> None:
    """An intent of which nobody knows whether the disk has it is no doubt, and bars no key."""
    failures = iter([None] * 2)

    def fail_twice(_: int) -> None:
        if next(failures, 1) is None:
            raise io_error()

    keys = [str(number) for number in range(together)]
    async with ScriptedGateway(submits=numbered()) as gateway, session(gateway, path) as octo:
        await octo.history()
        claimed = threading.Event()

        def broken(_: int) -> None:
            if states(path):
                fail_twice(_)
                claimed.set()

        disk.after = broken
        outcomes = await asyncio.gather(*(buy(octo, key) for key in keys), return_exceptions=True)
        assert claimed.is_set() or len(gateway.posts) < together
        futures = await asyncio.gather(*(buy(octo, key) for key in keys))
        assert len({future.id for future in futures}) == together
        assert len(gateway.posts) == together
        assert await octo.in_doubt() == []
    assert {state.split()[0] for state in states(path).values()} == {"submitted"}
    assert all(isinstance(each, (octoremix.RemixFuture, octoremix.JournalError))
               for each in outcomes)  # fmt: skip


async def test_intents_whose_common_commit_failed_are_announced_anew(
    path: Path, disk: Disk
) -> None:
    """Each of the intents of one commit, which came through unseen, is written and sent once."""
    async with ScriptedGateway(submits=numbered()) as gateway, session(gateway, path) as octo:
        common = disk.commits + 1
        disk.after = lambda number: fail(number) if number == common else None
        futures = await asyncio.gather(*(buy(octo) for _ in range(4)))
        assert len({future.id for future in futures}) == len(gateway.posts) == 4
    assert sorted(states(path).values()) == ["submitted 2"] * 4


async def test_a_full_database_stops_what_comes_and_loses_nothing(path: Path, disk: Disk) -> None:
    """A disk that fills in mid-run: new jobs are refused, and each accepted id is kept or told."""
    async with ScriptedGateway(submits=numbered(400)) as gateway:
        async with session(gateway, path) as octo:
            await octo.history()
            connection: Any = store_of(octo)._connection
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 4}")
            known, failed = [], []
            for number in range(100):
                prompt = f"{number} " + "snow " * 40
                try:
                    known.append((await octo.submit("video_1", prompt=prompt)).id)
                except octoremix.JournalError as error:
                    failed.append(error)
            assert failed
            assert "make room on the disk" in str(failed[0])
            assert len(gateway.posts) < 100
            told = [error.id for error in failed if error.id is not None]
            assert len(known) + len(told) == len(gateway.posts)
            assert set(told) <= set(octo.pending)
            connection.execute(f"PRAGMA max_page_count = {pages + 400}")
            await buy(octo)
            kept = {each.id for each in await octo.history(states=["submitted"])}
            assert kept >= {*known, *told}


async def test_a_disk_without_room_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last room on a disk is left to the records of what is out already."""
    async with ScriptedGateway(submits=[after(10, task("queued"))]) as gateway:
        async with session(gateway, path) as octo:
            first = asyncio.ensure_future(buy(octo, "a"))
            await asyncio.sleep(1)
            monkeypatch.setattr(access, "free_bytes", lambda _: 1000)
            with pytest.raises(octoremix.JournalError, match=r"is full.*nothing was sent"):
                await buy(octo, "b")
            await first
            monkeypatch.setattr(access, "free_bytes", lambda _: None)
            await buy(octo, "b")
        assert len(gateway.posts) == 2


async def test_records_are_written_once_there_is_room(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids and ends that the disk did not take are written later, in the order of their coming."""
    polls = [task("completed", url="https://cdn.example/1.mp4")]
    async with ScriptedGateway(polls=polls) as gateway:
        async with session(gateway, path) as octo:
            disk.before = lambda number: fail(number) if gateway.posts else None
            with pytest.raises(octoremix.JournalError) as caught:
                await buy(octo, "a")
            assert caught.value.id is not None
            assert (await octo.track("task_1")).url == "https://cdn.example/1.mp4"
            await asyncio.sleep(1)
            assert "the end of task task_1 is not in the journal" in caplog.text
            assert states(path) == {"a": "intent"}
            disk.before = work
            assert await octo.resume() == []
            assert states(path) == {"a": "completed"}


async def test_an_id_that_is_not_on_the_disk_is_known_while_its_session_lives(
    path: Path, disk: Disk
) -> None:
    """The key of a job that could not be recorded gives its future, and buys nothing."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        disk.before = lambda number: fail(number) if states(path) and gateway.posts else None
        with pytest.raises(octoremix.JournalError, match="was accepted"):
            await buy(octo, "a")
        disk.before = lambda number: fail(number) if disk.commits == first else None
        first = disk.commits + 1
        future = await buy(octo, "a")
        assert future.id == "task_1"
        assert await buy(octo, "a") is future
        assert states(path) == {"a": "submitted"}
        assert "0 unwritten" in repr(octo._submitter._keeper)
        assert len(gateway.posts) == 1


async def test_a_journal_that_fails_to_the_end_is_told_at_the_end(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be written until the session closes is counted in the log."""
    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            disk.before = lambda number: fail(number) if gateway.posts else None
            with pytest.raises(octoremix.JournalError):
                await buy(octo, "a")
    assert "1 records could not be written" in caplog.text


async def test_a_failing_journal_fails_no_finished_future(path: Path, disk: Disk) -> None:
    """The end of a task is given to its waiters whether the disk takes it or not."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        future = await buy(octo, "a")
        disk.broken = io_error()
        assert (await future).status is octoremix.TaskStatus.COMPLETED
        disk.broken = None


async def test_a_slow_disk_does_not_stop_the_loop(path: Path, disk: Disk) -> None:
    """While a commit waits for the disk, tasks are polled and futures settled."""
    come, go_on = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        come.set()
        assert go_on.wait(60)

    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        tracked = octo.track("task_0")
        disk.before = wait
        submit = asyncio.ensure_future(buy(octo))
        while not come.is_set():
            await asyncio.sleep(0)
        await octo.retrieve("task_0")
        assert not submit.done()
        go_on.set()
        await asyncio.gather(submit, tracked)


async def test_what_comes_together_is_committed_together(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that come during a commit share the next one, up to a limit."""
    async with ScriptedGateway(submits=numbered()) as gateway:
        async with session(gateway, path, submit_concurrency=30) as octo:
            before = disk.commits
            await asyncio.gather(*(buy(octo) for _ in range(30)))
            assert disk.commits - before < 30
            monkeypatch.setattr(writing, "MOST_TOGETHER", 2)
            before = disk.commits
            assert octo._ledger is not None
            await asyncio.gather(*(octo._ledger.doubts() for _ in range(7)))
            assert disk.commits - before == 4


async def test_where_records_come_thick_a_commit_waits_for_more(path: Path, disk: Disk) -> None:
    """Many in one commit: the next comes a little later, with all that is asked for until then."""
    loop = asyncio.get_running_loop()
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        assert octo._ledger is not None
        run = octo._ledger._writer.run
        await octo.history()
        began = loop.time()
        await asyncio.gather(*(run(str) for _ in range(writing.THICK - 1)))
        await run(str)
        assert loop.time() == began
        await asyncio.gather(*(run(str) for _ in range(writing.THICK)))
        assert loop.time() == began
        before = disk.commits
        first = run(str)
        await asyncio.sleep(writing.PAUSE / 2)
        assert not first.done()
        await asyncio.gather(first, run(str))
        assert loop.time() == pytest.approx(began + writing.PAUSE)
        assert disk.commits - before == 1
        await run(str)
        assert loop.time() == pytest.approx(began + writing.PAUSE)


async def test_the_end_waits_for_no_more(path: Path) -> None:
    """Whoever closes a session has what was asked for written at once."""
    loop = asyncio.get_running_loop()
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        assert octo._ledger is not None
        run = octo._ledger._writer.run
        await asyncio.gather(*(run(str) for _ in range(writing.THICK)))
        last, began = run(lambda _: "last"), loop.time()
        await octo.aclose()
        assert last.result() == "last"
        assert loop.time() == began


async def test_one_bad_record_fails_alone(path: Path) -> None:
    """Of records that are committed together, the one that can't be written fails by itself."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        assert octo._ledger is not None
        writer = octo._ledger._writer
        ran: list[str] = []

        def bad(_: Any) -> None:
            raise failure("constraint failed", sqlite3.SQLITE_CONSTRAINT)

        def odd(_: Any) -> None:
            raise ZeroDivisionError("an odd one")

        first = writer.run(lambda _: ran.append("first"))  # the others wait for this commit
        outcomes = await asyncio.gather(
            writer.run(lambda _: "good"), writer.run(bad), writer.run(odd), return_exceptions=True
        )
        await first
        assert outcomes[0] == "good"
        assert "constraint failed" in str(outcomes[1])
        assert isinstance(outcomes[2], octoremix.JournalError)
        assert "ZeroDivisionError: an odd one" in str(outcomes[2])
        assert repr(writer) == "<Writer with 0 records to write>"


async def test_a_record_that_can_never_be_written_bars_nobody(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """A record that fails by a fault of ours is told, and the purchases after it go on."""
    fault: list[Exception] = [failure("disk I/O error", sqlite3.SQLITE_IOERR)]

    def odd(_: Any) -> None:
        raise fault[0]

    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        assert octo._ledger is not None
        with pytest.raises(octoremix.JournalError):
            await octo._ledger._writer.run(odd, record=True)
        with pytest.raises(octoremix.JournalError, match="1 earlier record"):
            await buy(octo)
        fault[0] = ZeroDivisionError("an odd one")
        await buy(octo)
        assert "and never will be" in caplog.text
        with pytest.raises(octoremix.JournalError, match="an odd one"):
            await octo._ledger._writer.run(odd, record=True)
        await buy(octo)


async def test_records_that_wait_are_not_overtaken(path: Path, disk: Disk) -> None:
    """While an id waits to be written, the end of its task waits behind it."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        failing = {"until": 0}

        def some(number: int) -> None:
            if gateway.posts and number <= failing["until"]:
                raise io_error()

        disk.before = some
        failing["until"] = disk.commits + 1000
        with pytest.raises(octoremix.JournalError):
            await buy(octo, "a")
        # The first of the two fails once more, the second would not.
        failing["until"] = disk.commits + 1
        await octo.track("task_1")
        await asyncio.sleep(1)
        await octo.history()
        assert states(path) == {"a": "completed"}


async def test_a_busy_journal_keeps_what_was_accepted(path: Path) -> None:
    """Another process that holds the file while an id comes back delays its record, no more."""
    journal = octoremix.SQLiteJournal(path, busy_timeout=0.01)
    async with ScriptedGateway(submits=[after(10, task("queued"))]) as gateway:
        async with session(gateway, journal) as octo:
            submit = asyncio.ensure_future(buy(octo, "a"))
            await asyncio.sleep(5)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(octoremix.JournalError, match="held by other") as caught:
                await submit
            assert caught.value.id == "task_1"
            other.execute("ROLLBACK")
            other.close()
            assert (await buy(octo, "a")).id == "task_1"
        assert len(gateway.posts) == 1
    assert states(path) == {"a": "submitted"}


async def test_a_transaction_whose_end_failed_bars_none(path: Path, disk: Disk) -> None:
    """A disk that fails so that not even a rollback is possible is used again once it works."""

    def strike(_: int) -> None:
        disk.broken = io_error()
        raise disk.broken

    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        disk.before = strike
        with pytest.raises(octoremix.JournalError, match="the disk failed"):
            await buy(octo)
        disk.before, disk.broken = work, None
        await buy(octo, "a")
        assert len(gateway.posts) == 1
    assert states(path)["a"] == "submitted"


async def test_a_session_that_cannot_open_its_journal_lets_go_of_it(path: Path, disk: Disk) -> None:
    """A failed `async with` holds neither the file nor a lock: the next one is not kept waiting."""
    disk.before = lambda number: fail(number) if number == 2 else None
    async with ScriptedGateway() as gateway:
        with pytest.raises(octoremix.JournalError, match="the disk failed"):
            async with session(gateway, path):
                raise AssertionError("it was opened")
        assert not owners._files
        async with session(gateway, path) as octo:
            await buy(octo, "a")


async def test_a_closed_journal_says_so(path: Path) -> None:
    """What comes after the end is refused, and ending twice does no harm."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        ledger = octo._ledger
        assert ledger is not None
        assert repr(ledger) == f"<Ledger in {path}>"
        assert repr(store_of(octo)) == f"<Store at {path}>"
    with pytest.raises(octoremix.JournalError, match="closed"):
        await ledger.open()
    await ledger.aclose()


async def test_a_commit_that_is_cancelled_with_its_loop_is_told(path: Path) -> None:
    """Whoever waits for a commit that the end of the event loop breaks off is not left waiting."""
    writer = Writer(lambda: pytest.fail("it was opened"))
    done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    item = writing._Item(lambda _: None, asyncio.get_running_loop().create_future())
    done.cancel()
    writer._committed([item], done)
    with pytest.raises(octoremix.JournalError, match="cancelled"):
        await item.future
    await writer.aclose()


async def test_dead_files_are_told(path: Path) -> None:
    """A file that SQLite has lost under us is an error of the journal's, for each that asks."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        await buy(octo, "a")
        await die(octo)
        with pytest.raises(octoremix.JournalError, match="closed database"):
            await buy(octo, "b")
        assert len(gateway.posts) == 1
    assert states(path) == {"a": "submitted"}
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


JOBS = 8


async def run(gateway: ScriptedGateway, path: Path) -> None:
    """Buy eight jobs, of which some are refused first, and wait for the videos."""
    async with session(gateway, path, submit_concurrency=4) as octo:

        async def one(key: str) -> None:
            future = await octo.submit("video_1", prompt=f"snow {key}", key=key)
            await future

        await asyncio.gather(*(one(str(key)) for key in range(JOBS)), return_exceptions=True)


class Shop:
    """Answers POSTs with ids of their own, now and then with a 429, and knows what it charged."""

    def __init__(self) -> None:
        self.asked = 0
        self.charged: dict[str, list[str]] = {}

    async def sell(self, request: Any) -> Any:
        self.asked += 1
        if self.asked % 4 == 3:
            return reply(status=429)(request)
        key = (await request.json())["prompt"].split()[1]
        ids = self.charged.setdefault(key, [])
        ids.append(f"task_{key}_{len(ids)}")
        await asyncio.sleep(2)
        return task("queued", ids[-1])(request)


@pytest.mark.parametrize("written", [False, True], ids=["lost", "written"])
async def test_dying_at_any_commit_pays_for_nothing_twice(
    tmp_path: Path, disk: Disk, written: bool
) -> None:
    """Whichever commit of a run is the last, the next run pays for no job again and loses none."""
    number = 0
    while True:
        number += 1
        path, shop = tmp_path / f"{number}.db", Shop()
        disk.commits, disk.broken = 0, None
        disk.before = disk.after = work

        def strike(commit: int, number: int = number) -> None:
            if commit == number:
                disk.broken = io_error()
                raise disk.broken

        if written:
            disk.after = strike
        else:
            disk.before = strike
        async with ScriptedGateway(submits=[shop.sell], polls=[echo]) as gateway:
            try:
                await run(gateway, path)
            except octoremix.JournalError:
                assert not gateway.posts
            died, disk.broken = disk.broken is not None, None
            disk.before = disk.after = work
            await recover(gateway, path, shop)
        if not died:
            break
    assert number > JOBS


def echo(request: Any) -> Any:
    return task("completed", request.path.rsplit("/")[-1])(request)


async def recover(gateway: ScriptedGateway, path: Path, shop: Shop) -> None:
    """Run again on the same file, and compare it with what was charged."""
    async with session(gateway, path) as octo:
        await octo.resume()
        doubts = {doubt.key for doubt in await octo.in_doubt()}
        for key in map(str, range(JOBS)):
            if key in doubts:
                with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                    await octo.submit("video_1", prompt=f"snow {key}", key=key)
            else:
                await (await octo.submit("video_1", prompt=f"snow {key}", key=key))
        history = {each.key: each for each in await octo.history()}
    assert len(doubts) <= 4, "more doubts than slots"
    assert all(len(ids) == 1 for ids in shop.charged.values())
    for key, (task_id,) in shop.charged.items():
        assert history[key].id == task_id or key in doubts
