"""How the journal's writer shares the event loop: what it gathers in a turn, and what it gives."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

import octoremix
from octoremix._journal import SQLiteJournal
from octoremix._journal import writer as writer_module
from octoremix._journal.ledger import Ledger

from .journals import session, store_of
from .scripted import ScriptedGateway


def ledger_in(folder: Path) -> Ledger:
    return SQLiteJournal(folder / "journal.db").open("https://gateway.example")


async def test_a_large_commit_is_told_in_small_parts(tmp_path: Path) -> None:
    """What a hundred callers wait for wakes them over several turns of the loop, in their order."""
    ledger = ledger_in(tmp_path)
    await ledger.open()
    turn, woken = 0, []

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(next_turn)

    async def wait(number: int) -> None:
        await ledger.submits_of("video_1")
        woken.append((turn, number))

    waiting = [asyncio.create_task(wait(number)) for number in range(100)]
    await asyncio.sleep(0)
    next_turn()
    await asyncio.gather(*waiting)
    await ledger.aclose()
    assert [number for _, number in woken] == list(range(100))
    assert max(Counter(at for at, _ in woken).values()) <= 16


async def test_closing_waits_for_what_was_asked_for_in_the_same_turn(tmp_path: Path) -> None:
    """A record that has not even begun to be written when the journal is closed is written."""
    ledger = ledger_in(tmp_path)
    await ledger.open()
    written = ledger.withdrawn("key")
    await ledger.aclose()
    assert written.done()
    assert written.exception() is None


async def test_closing_waits_for_those_who_are_still_being_told(tmp_path: Path) -> None:
    """Where all is on disk and a part of it is not told yet, the store is closed after that."""
    writer = ledger_in(tmp_path)._writer
    records = [writer.run(lambda _: None) for _ in range(400)]
    await records[0]
    assert not records[-1].done()
    closing = asyncio.ensure_future(writer.aclose())
    while not writer._closed:
        await asyncio.sleep(0)
    assert [record.done() for record in records] == [True] * 400
    await closing


async def test_commits_are_told_in_their_order(tmp_path: Path) -> None:
    """A commit that ends while an earlier one is still being told is told after it."""
    writer = ledger_in(tmp_path)._writer
    told: list[int] = []

    def items(numbers: range) -> list[writer_module._Item]:
        made = []
        for number in numbers:
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _, number=number: told.append(number))
            made.append(writer_module._Item(lambda _: None, future))
        return made

    writer._tell(items(range(20)), [None] * 20)
    writer._tell(items(range(20, 40)), [None] * 20)
    await writer.flush()
    await asyncio.sleep(0)
    assert told == list(range(40))
    await writer.aclose()


async def test_a_flush_waits_for_what_has_not_begun(tmp_path: Path) -> None:
    """What was asked for in the same turn of the loop is on the disk, and told, after a flush."""
    ledger = ledger_in(tmp_path)
    asked = [ledger.submits_of("video_1") for _ in range(40)]
    await ledger.flush()
    assert all(future.done() for future in asked)
    await ledger.aclose()


async def test_a_journal_without_a_thread_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started each caller is told so, and none waits for ever."""
    ledger = ledger_in(tmp_path)

    class Exhausted(writer_module.ThreadPoolExecutor):
        def submit(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(ledger._writer, "_thread", Exhausted(1))
        for _ in range(2):
            with pytest.raises(octoremix.JournalError, match="can't start new thread"):
                await ledger.open()
        await ledger.flush()
    await ledger.open()
    await ledger.aclose()


async def test_no_step_of_a_job_reads_all_jobs(tmp_path: Path) -> None:
    """However many jobs a journal holds, each step of one finds its rows by an index of their own."""
    async with ScriptedGateway() as gateway, session(gateway, tmp_path / "j") as octo:
        await octo.history()
        connection = store_of(octo)._connection
        ran: list[str] = []
        connection.set_trace_callback(ran.append)
        future = await octo.submit("video_1", prompt="make it snow", key="a")
        await octo.resume()
        await octo.in_doubt()
        await future
        assert octo._ledger is not None
        octo._ledger.downloaded(await future, tmp_path / "a.mp4")
        await octo._ledger.flush()
        connection.set_trace_callback(None)
        asked = [line for line in ran if line.startswith(("SELECT", "UPDATE")) and "job" in line]
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {line}").fetchall() for line in asked]
    details = [row["detail"] for plan in plans for row in plan]
    assert {line.split()[0] for line in asked} == {"SELECT", "UPDATE"}
    # The jobs of one gateway may be all there are; those that are open are few.
    assert [each for each in details if "sqlite_autoindex_job_1 (gateway=?)" in each] == []
    assert {each for each in details if "SCAN" in each} <= {"SCAN job USING INDEX job_open"}
