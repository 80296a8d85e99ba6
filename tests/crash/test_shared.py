"""Several processes on one journal, and some of them die."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from octoremix.testing import Emulator

from .nursery import Nursery, Worker

KEYS, SLOTS, PROCESSES = 200, 16, 4

real_time = pytest.mark.asyncio(loop_factories=["real"])


async def exists(path: Path, worker: Worker) -> None:
    """Wait until a worker has made a file."""
    while not path.exists():
        assert not worker.ended.done(), await worker.outcome()
        await asyncio.sleep(0.01)


def order_for(gateway: Emulator, **settings: Any) -> dict[str, Any]:
    return {"url": gateway.url, "jobs": KEYS, "slots": SLOTS, "keys": True, **settings}


@real_time
async def test_four_processes_with_equal_keys_send_one_post_for_each(tmp_path: Path) -> None:
    """Two hundred keys that four processes submit at once are bought once each, and known to all."""
    async with Emulator(duration=0.1) as gateway, Nursery() as nursery:
        order = order_for(gateway)
        workers = [
            await nursery.start("resume", tmp_path, outcome=f"{number}.json", **order)
            for number in range(PROCESSES)
        ]
        found = [await worker.outcome() for worker in workers]
        gateway.books.assert_charged_once(jobs=KEYS)
        posts = gateway.books.requests["POST /v1/videos/{id}/remix"]
    assert posts == KEYS
    assert [each["errors"] for each in found] == [[]] * PROCESSES
    assert [each["doubts"] for each in found] == [[]] * PROCESSES
    assert {len(each["ids"]) for each in found} == {KEYS}


@real_time
async def test_of_four_processes_one_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    """What a killed process was buying is in doubt for the others, and all else is theirs."""
    async with Emulator(duration=0.1) as gateway, Nursery() as nursery:
        order = order_for(gateway)
        victim = await nursery.start("run", tmp_path, **order)
        others = [
            await nursery.start("resume", tmp_path, outcome=f"{number}.json", **order)
            for number in range(1, PROCESSES)
        ]
        while gateway.books.accepted < KEYS // 4:
            await asyncio.sleep(0.001)
        victim.kill()
        found = [await worker.outcome() for worker in others]
        last = await (await nursery.start("resume", tmp_path, **order)).outcome()
        paid = Counter(job.request.prompt for job in gateway.books.jobs)
    assert max(paid.values()) == 1
    assert [each["errors"] for each in found] == [[]] * len(found)
    assert last["errors"] == []
    assert len(last["doubts"]) <= SLOTS
    assert KEYS - len(last["doubts"]) == len(last["ids"])
    assert paid.keys() <= {f"job {number}" for number in range(KEYS)}
    assert set(last["states"].values()) <= {"completed", "in_doubt"}


@pytest.mark.parametrize("killed", [False, True])
@real_time
async def test_a_new_process_takes_over_when_the_old_one_is_gone(
    tmp_path: Path, killed: bool
) -> None:
    """In a rolling restart a job is the old process's while that lives, and then the new one's."""
    async with Emulator(duration=0.0) as gateway, Nursery() as nursery:
        working = gateway.faults.add("html_502")
        order = order_for(gateway)
        before = await nursery.start("old", tmp_path, outcome="old.json", **order)
        await exists(tmp_path / "submitted", before)
        after = await nursery.start("new", tmp_path, **order)
        await exists(tmp_path / "looked", after)
        if killed:
            before.kill()
            await before.ended
        else:
            (tmp_path / "end-old").touch()
            assert await before.outcome() == {"done": False}
        (tmp_path / "look-again").touch()
        gateway.faults.remove(working)
        found = await after.outcome()
        gateway.books.assert_charged_once(jobs=1)
    task_id = (tmp_path / "submitted").read_text()
    assert found == {"before": [], "after": [task_id]}


@real_time
async def test_a_forked_child_neither_buys_nor_holds_its_parents_jobs(tmp_path: Path) -> None:
    """A forked child's sessions refuse, and a parent that dies leaves its jobs in spite of it."""
    async with Emulator(duration=0.0) as gateway, Nursery() as nursery:
        working = gateway.faults.add("html_502")
        order = order_for(gateway, fork=True)
        parent = await nursery.start("old", tmp_path, outcome="old.json", **order)
        await exists(tmp_path / "submitted", parent)
        await exists(tmp_path / "child", parent)
        parent.kill()
        await parent.ended
        gateway.faults.remove(working)
        (tmp_path / "look-again").touch()
        found = await (await nursery.start("new", tmp_path, **order)).outcome()
        gateway.books.assert_charged_once(jobs=1)
    assert json.loads((tmp_path / "child").read_text()) == ["SessionClosedError", "JournalError"]
    assert found["before"] + found["after"] == [(tmp_path / "submitted").read_text()] * 2
