"""Passes of the gateway that take their time: one task after the other in each channel."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_fixed

from octoremix import PollPolicy, RemixError, Session
from octoremix.testing import PROFILES, Emulator
from octoremix.testing._jobs import Job
from octoremix.testing._passes import Passes
from octoremix.testing._views import Rhythm, failed_at, look

from .emulator_client import Client

if TYPE_CHECKING:
    from octoremix.testing import Outcome


def job_of(index: int, accepted_at: float, duration: float, **fields: Any) -> Job:
    return Job("v", "", "m", "8", "", accepted_at, 0.0, duration, index=index, **fields)


def seen(job: Job, passes: Passes, until: int) -> list[float]:
    """When the gateway looked at a job, to the tenth of a second."""
    times: list[float] = []
    for tenth in range(until * 10):
        passes.catch_up(tenth / 10)
        if job.seen_at > (times[-1] if times else -math.inf):
            times.append(job.seen_at)
    return times


def test_each_task_of_a_channel_has_its_second() -> None:
    """§4.4: the first is looked at when the pass begins, each other one a second after another."""
    passes = Passes(15.0, 1.0, math.inf)
    jobs = [job_of(index, 1.0, 1000.0) for index in range(4)]
    for job in jobs:
        passes.add(job)
    assert seen(jobs[0], passes, 35) == [15, 30]
    again = Passes(15.0, 1.0, math.inf)
    others = [job_of(index, 1.0, 1000.0) for index in range(4)]
    for job in others:
        again.add(job)
    assert seen(others[3], again, 35) == [18, 33]


def test_a_long_pass_holds_up_the_next_one() -> None:
    """§4.4: sixty tasks on a channel are refreshed once a minute; another channel is not held up."""
    passes = Passes(15.0, 1.0, math.inf)
    jobs = [job_of(index, 0.0, 10_000.0) for index in range(60)]
    for job in jobs:
        passes.add(job)
    alone = Job("v", "", "other", "8", "", 0.0, 0.0, 10_000.0, index=60)
    passes.add(alone)
    assert seen(jobs[7], passes, 200) == [22, 82, 142]
    assert alone.seen_at == 195


def test_who_has_ended_leaves_its_turn_to_the_others() -> None:
    """A task that was seen to end, is lost or was given up takes no more of a pass."""
    passes = Passes(15.0, 1.0, 40.0)
    done, lost, old, last = (job_of(index, 1.0, 1000.0) for index in range(4))
    done.duration, lost.lost = 5.0, True
    old.accepted_at, last.accepted_at = -24.5, 10.0
    for job in (done, lost, old, last):
        passes.add(job)
    assert seen(last, passes, 49) == [16, 30, 45]
    assert (done.end_seen_at, lost.seen_at, old.seen_at) == (15, -math.inf, -math.inf)


@given(
    jobs=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 120)), min_size=1, max_size=12),
    outcome=st.sampled_from(["completed", "failed", "cancelled"]),
    refresh=st.sampled_from([1, 15]),
    spacing=st.sampled_from([1, 4]),
    sweep_after=st.one_of(st.just(math.inf), st.integers(1, 200)),
)
def test_a_failure_is_given_back_when_it_is_seen(
    jobs: list[tuple[int, int]],
    outcome: Outcome,
    refresh: int,
    spacing: float,
    sweep_after: float,
) -> None:
    """A refund has the moment in which a query first tells the failure, and stays."""
    rhythm = Rhythm(refresh, sweep_after, spacing)
    passes = Passes(refresh, spacing, sweep_after)
    made = [
        job_of(index, accepted_at, duration, outcome=outcome)
        for index, (accepted_at, duration) in enumerate(sorted(jobs))
    ]
    told: dict[int, list[int]] = {job.index: [] for job in made}
    waiting = list(made)
    for now in range(300):
        while waiting and waiting[0].accepted_at <= now:
            passes.add(waiting.pop(0))
        passes.catch_up(now)
        for job in made:
            if job.accepted_at <= now and look(job, now, rhythm).state.phase.state == "FAILURE":
                told[job.index].append(now)
    for job in made:
        found = failed_at(job, rhythm)
        first = next(iter(told[job.index]), None)
        assert first == (None if found is None or found >= 300 else found)
        assert not told[job.index] or len(told[job.index]) == 300 - told[job.index][0]


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_session_waits_for_its_turn(profile: str) -> None:
    """Through each dialect forty jobs end as the books say, at the gateway's pace, paid once."""

    def outcome(request: Any) -> Outcome:
        return "completed" if request.index % 2 else "failed"

    poll = PollPolicy(first_delay=3.0, wait=wait_fixed(5.0))
    async with (
        Emulator(
            profile=profile, refresh=15.0, refresh_spacing=1.0, duration=5, outcome=outcome
        ) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=poll) as session,
    ):
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def end_of(number: int) -> float:
            future = await session.submit("video_123", prompt=str(number))
            try:
                await future
            except RemixError:
                assert gateway.books.jobs[number].outcome == "failed"
            return loop.time() - started

        times = [await end for end in [asyncio.ensure_future(end_of(n)) for n in range(40)]]
        assert gateway.books.refunded == 20
    gateway.books.assert_charged_once(40)
    live = profile == "newapi-gemini"
    assert max(times) == pytest.approx(9 if live else 55, abs=6)


async def test_a_job_is_not_seen_before_its_turn() -> None:
    """§4.4: the query repeats the submit's data until then, and the refund comes with it."""
    async with (
        Emulator(
            refresh=15.0, refresh_spacing=5.0, duration=2, outcome="failed", sweep_after=math.inf
        ) as gateway,
        Client(gateway) as client,
    ):
        await asyncio.sleep(1)
        ids = [(await client.remix(prompt=str(number)))["id"] for number in range(3)]
        seen = []
        for _ in range(6):
            await asyncio.sleep(5)
            seen.append([(await client.query(video_id))["status"] for video_id in ids])
            seen[-1].append(str(gateway.books.refunded))
    # Asked at 6, 11, 16, 21, 26 and 31 s; the turns are at 15, 20 and 25 s.
    waiting, failed = "queued", "failed"
    assert seen == [
        [waiting, waiting, waiting, "0"],
        [waiting, waiting, waiting, "0"],
        [failed, waiting, waiting, "1"],
        [failed, failed, waiting, "2"],
        [failed, failed, failed, "3"],
        [failed, failed, failed, "3"],
    ]


async def test_turns_come_whether_anybody_asks_or_not() -> None:
    """§4.3: the books, the key's usage and an answer that was long under way know the last turns."""
    async with (
        Emulator(
            refresh=15.0, refresh_spacing=5.0, duration=2, outcome="failed", quota=3_000_000
        ) as gateway,
        Client(gateway) as client,
    ):
        await client.remix()
        await asyncio.sleep(20)
        assert gateway.books.refunded == 1
        await client.remix(prompt="rain")
        await asyncio.sleep(20)
        _, usage = await client.json("GET", "/api/usage/token/")
        assert usage["data"]["total_used"] == 0

        video_id = (await client.remix(prompt="fog"))["id"]
        gateway.faults.add("slow", seconds=20)
        assert (await client.query(video_id))["status"] == "failed"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"refresh_spacing": -1, "refresh": 15}, "refresh_spacing must be"),
        ({"refresh_spacing": math.inf, "refresh": 15}, "refresh_spacing must be"),
        ({"refresh_spacing": 1}, "needs refresh"),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(options: dict[str, Any], word: str) -> None:
    """The error names the setting."""
    with pytest.raises(ValueError, match=word):
        Emulator(**options)
