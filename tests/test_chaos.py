"""Thousands of jobs through a gateway at its worst end as the books say, each paid once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tenacity import wait_fixed

from octoremix import OctoremixError, PollPolicy, Session
from octoremix.testing import POLL_FAULTS, PROFILES, Emulator
from octoremix.testing._canned import base_video

if TYPE_CHECKING:
    from pathlib import Path

    from octoremix.testing import JobRequest, Outcome

JOBS = 2000
OUTCOMES: list[Outcome] = ["completed", "completed", "completed", "failed", "cancelled"]


def outcome(request: JobRequest) -> Outcome:
    return OUTCOMES[request.index % len(OUTCOMES)]


def duration(request: JobRequest) -> float:
    return 400.0 + request.index % 1201


async def end_of(session: Session, number: int, folder: Path | None = None) -> tuple[str, str]:
    """Buy a job, wait for its end, fetch its video whole; return its id and how it ended."""
    future = await session.submit(f"video_{number}", prompt=f"make it snow {number}")
    try:
        video = await future
    except OctoremixError as error:
        return future.id, getattr(getattr(error, "video", None), "status", type(error).__name__)
    if folder is not None:
        await session.download(video, folder / f"{number}.mp4")
    else:
        async with session.open(video) as stream:
            assert b"".join([chunk async for chunk in stream]) == base_video()
    return future.id, video.status


def assert_fetched(folder: Path, completed: int) -> None:
    """Assert that the folder holds so many whole videos, and nothing else."""
    contents = Counter(file.read_bytes() for file in folder.iterdir())
    assert contents == {base_video(): completed}


async def test_two_thousand_jobs_survive_all_poll_faults_at_once() -> None:
    """With three polls in ten going wrong, every job ends as the books say, paid and fetched once."""
    poll = PollPolicy(first_delay=10.0, wait=wait_fixed(180.0), deadline=None, concurrency=64)
    async with Emulator(duration=duration, outcome=outcome, cdn=True) as gateway:
        gateway.faults.mix(rate=0.3, seed=2026)
        async with Session(gateway.api_key, base_url=gateway.url, poll=poll) as session:
            jobs = (end_of(session, number) for number in range(JOBS))
            ends = dict(await asyncio.gather(*jobs))

    told = {(job.outcome, ends[job.id]) for job in gateway.books.jobs}
    # A job that was cancelled is a failure in the gateway's own record, which is all that there is
    # to go by after a 501 (docs/wire.md, §1.5). It can't make a failure of a job that completed.
    assert told - {("cancelled", "failed")} == {(word, word) for word in set(OUTCOMES)}
    assert Counter(ends.values())["completed"] == 1200
    assert gateway.books.cdn_requests == 1200
    assert not gateway.books.cdn_keys
    assert gateway.books.polls.total() > 4 * JOBS
    gateway.books.assert_charged_once(JOBS)
    assert gateway.books.refunded == 800
    # Each of them took part, so that none was survived by being absent.
    assert set(gateway.faults.hits) == set(POLL_FAULTS)


@pytest.mark.parametrize("profile", PROFILES)
async def test_every_dialect_survives_the_same(profile: str, tmp_path: Path) -> None:
    """In each dialect, between passes of 15 seconds, waits end as the books say, paid once."""
    poll = PollPolicy(first_delay=5.0, wait=wait_fixed(10.0), deadline=None)
    async with Emulator(
        profile=profile, refresh=15.0, duration=lambda request: 5.0 * request.index, outcome=outcome
    ) as gateway:
        gateway.faults.mix(rate=0.3, seed=3)
        async with Session(gateway.api_key, base_url=gateway.url, poll=poll) as session:
            ends = dict(
                await asyncio.gather(*(end_of(session, number, tmp_path) for number in range(60)))
            )
    assert ends == {job.id: job.outcome for job in gateway.books.jobs}
    assert_fetched(tmp_path, 36)
    gateway.books.assert_charged_once(60)
    assert gateway.books.refunded == 24
