"""A large batch in bad weather that is killed, and killed again, and run to its end."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from octoremix import Session

from .batches import BATCH, results, until
from .conftest import KEY, end

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from octoremix.testing import Emulator

Launch = "Callable[..., subprocess.Popen[str]]"


async def settle(gateway: Emulator, journal: Path) -> int:
    """Settle all doubts as a person does who looks at the gateway's console."""
    bought = {job.request.prompt: job.id for job in gateway.books.jobs}
    async with Session(KEY, base_url=gateway.url, journal=journal) as session:
        doubts = await session.in_doubt()
        for doubt in doubts:
            task_id = bought.get(doubt.request.prompt)
            if task_id is None:
                await session.resubmit(doubt)
            else:
                await session.adopt(doubt, task_id)
    return len(doubts)


def check_proof(gateway: Emulator, folder: Path, count: int) -> Counter[str]:
    """Hold a batch to its promises: for each line one outcome, one charge, one whole file."""
    gateway.books.assert_charged_once(count)
    jobs = {job.request.prompt: job for job in gateway.books.jobs}
    last = {job["key"]: job for job in results(folder)}
    assert sorted(job["line"] for job in last.values()) == list(range(1, count + 1))
    for job in last.values():
        booked = jobs[job["prompt"]]
        assert job["id"] == booked.id
        assert job["event"] == {"completed": "downloaded"}.get(booked.outcome, booked.outcome)
    files = {job["file"] for job in last.values()} - {None}
    assert {file.name for file in folder.iterdir()} == files | {
        *("results.jsonl", "journal.db", "journal.db-owners")
    }
    assert {(folder / name).read_bytes()[4:8] for name in files} == {b"ftyp"}
    assert len({(folder / name).stat().st_size for name in files}) == 1
    return Counter(job["event"] for job in last.values())


@pytest.mark.timeout(900)  # for as many jobs as one likes
def test_a_batch_that_is_killed_twice(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any, tmp_path: Path
) -> None:
    """SIGKILL twice, in bad weather: each line ends with one outcome, one charge, one whole file.

    ``OCTOREMIX_BATCH_JOBS`` is how many lines: 300 here, 3,000 in ``nox -s crash``.
    """
    count = int(os.environ.get("OCTOREMIX_BATCH_JOBS", "300"))
    gateway = start_gateway(
        duration=0.5,
        outcome=lambda job: "failed" if job.index % 50 == 7 else "completed",
        faults=[
            "rate_limited:on=remix,rate=0.02,seed=1",
            "html_502:on=query,rate=0.1,seed=2",
            "cut:on=query,rate=0.05,seed=3",
        ],
    )
    jobs(count)
    words = (*BATCH, "--yes", "--concurrency", "300")
    for share in (0.3, 0.7):
        process = launch(*words, at=gateway)
        until(process, lambda share=share: gateway.books.accepted >= share * count)
        process.kill()
        process.wait()
        asyncio.run(settle(gateway, tmp_path / "list" / "journal.db"))
    ended = end(launch(*words, at=gateway))
    outcomes = check_proof(gateway, tmp_path / "list", count)
    assert ended.code == (1 if outcomes["failed"] else 0)
    before = results(tmp_path / "list")
    assert end(launch(*words, at=gateway)).code == ended.code
    assert results(tmp_path / "list") == before
