"""A journal under steady load, a session whose closing is cancelled, jobs settled by others."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

import octoremix
from octoremix._journal import writer

from .journals import Disk, disk, io_error, path, query, session, states
from .scripted import ScriptedGateway, after, task

__all__ = ["disk", "path"]


async def test_the_history_is_told_while_others_go_on_writing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`history` waits for what was recorded before it, not until nobody records any more."""
    monkeypatch.setattr(
        writer, "PAUSE", 0
    )  # in a loop that is never idle virtual time stands still
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        assert octo._ledger is not None
        asking = asyncio.ensure_future(octo.history())
        written = 0
        while not asking.done() and written < 50_000:
            octo._ledger.paid(["k"])
            written += 1
            await asyncio.sleep(0)
        assert written < 50_000
        assert await asking == []


async def test_a_closing_that_is_cancelled_frees_the_journal(path: Path) -> None:
    """However its closing ends, a session's jobs are taken up by the next one of the process."""
    writing = threading.Event()
    async with ScriptedGateway(polls=[task("processing")]) as gateway:
        octo = session(gateway, path)
        await octo.submit("video_1", prompt="snow", key="k")
        assert octo._ledger is not None
        octo._ledger._writer.run(lambda _: writing.wait(10))
        closing = asyncio.ensure_future(octo.aclose())
        for _ in range(30):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0)
        assert not closing.done()
        writing.set()
        with pytest.raises(asyncio.CancelledError):
            await closing
        async with session(gateway, path) as other:
            assert [future.id for future in await other.resume()] == ["task_1"]


async def test_a_grace_that_is_cancelled_still_writes_the_doubt(path: Path) -> None:
    """A closing cancelled while a POST is out leaves a doubt in the journal, not an intent."""
    async with ScriptedGateway(submits=[after(50, task("queued"))]) as gateway:
        octo = session(gateway, path)
        buying = asyncio.ensure_future(octo.submit("video_1", prompt="snow", key="k"))
        await asyncio.sleep(10)
        closing = asyncio.ensure_future(octo.aclose(grace=30))
        await asyncio.sleep(1)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(octoremix.SubmitOutcomeUnknownError):
            await buying
        assert states(path) == {"k": "in_doubt"}


@pytest.mark.parametrize("change", ["DELETE FROM job", "UPDATE job SET state = 'abandoned'"])
async def test_an_id_that_fits_no_more_is_told(path: Path, change: str) -> None:
    """Where a job was settled otherwise while its POST was out, its caller is handed the id."""
    async with ScriptedGateway(submits=[after(10, task("queued"))]) as gateway:
        async with session(gateway, path) as octo:
            buying = asyncio.ensure_future(octo.submit("video_1", prompt="snow", key="k"))
            await asyncio.sleep(5)
            query(path, change)
            with pytest.raises(octoremix.JournalError, match="settled otherwise") as caught:
                await buying
            assert caught.value.id == "task_1"
            assert "task_1" in octo.pending


async def test_a_record_that_fits_no_more_holds_nothing_up(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """An id that is written late, to a job that is gone by then, is told and left."""
    async with ScriptedGateway(submits=[after(10, task("queued")), task("queued", "task_2")]) as (
        gateway
    ):
        async with session(gateway, path) as octo:
            buying = asyncio.ensure_future(octo.submit("video_1", prompt="snow", key="k"))
            await asyncio.sleep(5)
            disk.broken = io_error()
            with pytest.raises(octoremix.JournalError):
                await buying
            disk.broken = None
            query(path, "DELETE FROM job")
            with caplog.at_level(logging.ERROR, logger="octoremix"):
                await octo.submit("video_1", prompt="rain", key="l")
            assert "fits the journal no more" in caplog.text
            assert states(path) == {"l": "submitted"}
