"""A process is killed while it buys and waits; the next one makes good what it left."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from attrs import define, field

from octoremix.testing import Emulator, JobRequest

from .nursery import Nursery, Worker
from .workers import TOLD

ROUNDS = int(os.environ.get("OCTOREMIX_CRASH_ROUNDS", "10"))
"""50 in the main run of CI, 500 in `nox -s crash`."""

TOGETHER = 6
"""Rounds at a time: while one waits for its jobs, others have something to do."""

JOBS, SLOTS = 60, 16

real_time = pytest.mark.asyncio(loop_factories=["real"])


@define(eq=False)
class Plan:
    """When a round's process dies, drawn from its seed.

    Attributes:
        keys: Whether the jobs have their callers' keys.
        deaths: For each process that is killed, what is awaited first, how often, and the seconds
            until it is killed then: not before the answer to it has been given, or after.
    """

    seed: int
    keys: bool = field(init=False)
    deaths: list[tuple[str, int, float]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        draw = random.Random(self.seed)
        self.keys = draw.random() < 0.7
        self.deaths = [self._death(draw) for _ in range(2 if draw.random() < 0.3 else 1)]

    @staticmethod
    def _death(draw: random.Random) -> tuple[str, int, float]:
        awaited = draw.choice(["accept", "accept", "poll", "start"])
        count = {"start": 0, "poll": draw.randint(1, 150), "accept": draw.randint(1, JOBS)}[awaited]
        seconds = 0.0 if draw.random() < 0.4 else draw.expovariate(1 / 0.05)
        return awaited, count, seconds


@define(eq=False)
class Reaper:
    """Kills one worker in the middle of its submits, or some time after one, or as it polls."""

    death: tuple[str, int, float]
    worker: Worker | None = None
    _accepts: int = 0

    async def attend(self, worker: Worker, gateway: Emulator) -> None:
        """Return when the worker has died, or has ended before its time had come."""
        self.worker = worker
        awaited, count, _ = self.death
        if awaited == "start":
            self._strike()
        elif awaited == "poll":
            polls = gateway.books.polls.total() + count
            while gateway.books.polls.total() < polls and not worker.ended.done():
                await asyncio.sleep(0.005)
            self._strike()
        await worker.ended

    def see_accept(self) -> None:
        """Take note of a job that has been charged, and not yet been answered."""
        self._accepts += 1
        if self.death[:2] == ("accept", self._accepts):
            self._strike()

    def _strike(self) -> None:
        assert self.worker is not None
        if self.death[2]:
            asyncio.get_running_loop().call_later(self.death[2], self.worker.kill)
        else:
            self.worker.kill()


async def play(nursery: Nursery, folder: Path, plan: Plan) -> dict[str, int]:
    """Play one round, hold its end against the emulator's books, and return some counts."""
    folder.mkdir()
    draw = random.Random(plan.seed)
    reaper: Reaper | None = None

    def duration(_: JobRequest) -> float:
        if reaper is not None:
            reaper.see_accept()
        return draw.uniform(0.05, 0.3)

    async with Emulator(duration=duration) as gateway:
        order = {"url": gateway.url, "jobs": JOBS, "slots": SLOTS, "keys": plan.keys}
        for number, death in enumerate(plan.deaths):
            reaper = Reaper(death)
            # The second one is killed while it resumes, and submits what the first had not.
            worker = await nursery.start("resume" if number else "run", folder, **order)
            await reaper.attend(worker, gateway)
        reaper = None
        found = await (await nursery.start("resume", folder, **order)).outcome()
        books = gateway.books
    told = folder / TOLD
    ids = set(told.read_text().split()) if told.exists() else set()
    assert ids <= set(found["ids"]), "an id that was told is lost"
    assert found["errors"] == []
    paid = Counter(job.request.prompt for job in books.jobs)
    assert max(paid.values(), default=0) <= 1, "something was paid twice"
    assert set(found["ids"]) <= {job.id for job in books.jobs}
    known, doubts = set(found["ids"]), set(found["doubts"])
    lost = [job for job in books.jobs if job.id not in known and job.request.prompt not in doubts]
    assert lost == [], "something that was charged is neither known nor in doubt"
    assert len(doubts) <= SLOTS * len(plan.deaths)
    assert set(found["states"].values()) <= {"completed", "in_doubt", "refused"}
    if plan.keys:
        assert len(known) + len(doubts) == JOBS
    return {"charged": books.charged, "doubts": len(doubts), "told": len(ids)}


@pytest.mark.timeout(120 + ROUNDS * 5)
@real_time
async def test_a_killed_process_loses_nothing_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    """Whenever a process is killed, what it bought is known or in doubt, and bought once."""
    slots = asyncio.Semaphore(TOGETHER)

    async def play_one(seed: int) -> dict[str, int]:
        async with slots:
            plan = Plan(seed)
            try:
                return await play(nursery, tmp_path / f"{seed}", plan)
            except AssertionError as error:
                error.add_note(f"round {seed}: {plan}")
                raise

    async with Nursery() as nursery:
        async with asyncio.TaskGroup() as group:
            rounds = [group.create_task(play_one(seed)) for seed in range(ROUNDS)]
    total: Counter[str] = Counter()
    for each in rounds:
        total.update(each.result())
    # The test would be worthless if nobody ever died between the charge and its record.
    assert ROUNDS < 10 or total["doubts"] > 0
    print(f"{ROUNDS} rounds: {dict(total)}")
