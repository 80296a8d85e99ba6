"""A batch that is left before its end: nothing more is sold, and nothing that was is forgotten."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import octoremix

from .shop import Shop, errors, open_shop, outcomes, remixes


def endless() -> Iterator[octoremix.RemixRequest]:
    for number in itertools.count():
        yield octoremix.RemixRequest(video_id="video_1", prompt=f"p{number}")


async def endless_later() -> AsyncIterator[octoremix.RemixRequest]:
    for request in endless():
        await asyncio.sleep(0.1)
        yield request


def told_late(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The tasks whose submit was out when the batch was left, as the log names them."""
    return set(re.findall(r"caller had left was accepted: task (\w+) is followed", caplog.text))


SOURCES = pytest.mark.parametrize("source", [endless, endless_later])


async def assert_let_go(octo: octoremix.Session, shop: Shop) -> None:
    """Nothing more is sold, and what was is followed to its end."""
    sold = len(shop.posts)
    await asyncio.sleep(1000)
    assert len(shop.posts) == sold
    assert not octo.pending
    assert octo.stats.polls_sent >= sold


@SOURCES
async def test_leaving_the_context_stops_submitting(
    source: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """After `async with` nothing is submitted; `detached` names what was sold and not given."""
    async with open_shop() as (octo, shop):
        async with octo.map(source(), concurrency=5) as batch:
            first = await anext(batch)
            assert batch.detached == []
        assert first.id is not None
        await asyncio.sleep(1)
        assert len(batch.detached) >= 4
        assert {*batch.detached, first.id, *told_late(caplog)} == set(shop.sold)
        assert await outcomes(batch) == []
        await assert_let_go(octo, shop)


async def test_what_runs_when_a_batch_is_left_stays_followed() -> None:
    """The session follows the tasks of a batch that was left, and gives their futures."""
    async with open_shop() as (octo, shop):
        async with octo.map([5, *remixes(3)]) as batch:
            await anext(batch)
            await asyncio.sleep(5)
            assert batch.pending == [*octo.pending]
        assert batch.detached == [*octo.pending] == [*shop.sold]
        videos = [await octo.track(task_id) for task_id in batch.detached]
        assert [video.id for video in videos] == batch.detached


@SOURCES
async def test_closing_twice_and_together_is_safe(
    source: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """`aclose` may be called before the first item, twice and at the same time."""
    async with open_shop() as (octo, shop):
        unused = octo.map(source())
        await unused.aclose()
        assert await outcomes(unused) == []
        assert unused.detached == []
        batch = octo.map(source(), concurrency=5)
        first = await anext(batch)
        await asyncio.gather(batch.aclose(), batch.aclose())
        await batch.aclose()
        await asyncio.sleep(1)
        assert sorted([*batch.detached, str(first.id), *told_late(caplog)]) == sorted(shop.sold)
        await assert_let_go(octo, shop)


async def test_the_source_is_closed_with_the_batch() -> None:
    """An async generator gets its end when the batch is closed, also where it fails at it."""
    closed = []

    async def source() -> AsyncIterator[octoremix.RemixRequest]:
        try:
            async for request in endless_later():
                yield request
        finally:
            closed.append(True)
            raise RuntimeError("mine")

    async with open_shop() as (octo, _):
        async with octo.map(source(), concurrency=2) as batch:
            await anext(batch)
        assert closed == [True]


@SOURCES
async def test_a_loop_that_is_left_without_closing_stops_too(
    source: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that nobody has any more stops by itself, and the log names its tasks."""
    async with open_shop() as (octo, shop):
        async for outcome in octo.map(source(), concurrency=5):
            first = outcome.id
            break
        gc.collect()
        await asyncio.sleep(1)
        (record,) = [each for each in caplog.records if "left early" in each.getMessage()]
        assert record.levelno == logging.WARNING
        for task_id in set(shop.sold) - {first} - told_late(caplog):
            assert task_id in record.getMessage()
        await assert_let_go(octo, shop)


async def test_a_batch_that_is_forgotten_at_its_end_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is no warning where every outcome was given."""
    async with open_shop() as (octo, _):
        assert len(await outcomes(octo.map(remixes(3)))) == 3
        gc.collect()
        await asyncio.sleep(1)
        assert "left early" not in caplog.text


def test_a_batch_may_be_forgotten_after_its_loop() -> None:
    """The end of a batch whose loop is closed does nothing."""
    kept = []

    async def begin() -> None:
        async with open_shop() as (octo, _):
            kept.append(octo.map([5]))
            await anext(kept[0])

    asyncio.run(begin())
    kept.clear()
    gc.collect()


@SOURCES
async def test_a_consumer_that_is_cancelled_stops_submitting(source: Callable[[], Any]) -> None:
    """The cancellation of the loop over it ends the batch, in `async with` and without."""
    async with open_shop() as (octo, shop):
        batches = []

        async def with_context() -> None:
            async with octo.map(source(), concurrency=4) as batch:
                batches.append(batch)
                async for _ in batch:
                    pass

        async def without() -> None:
            async for _ in octo.map(source(), concurrency=4):
                pass

        consumers = [asyncio.ensure_future(with_context()), asyncio.ensure_future(without())]
        await asyncio.sleep(30)
        for consumer in consumers:
            consumer.cancel()
        assert all(
            isinstance(ended, asyncio.CancelledError)
            for ended in await asyncio.gather(*consumers, return_exceptions=True)
        )
        gc.collect()
        assert batches[0].detached
        await asyncio.sleep(1)
        await assert_let_go(octo, shop)


async def test_a_consumer_that_is_cancelled_may_ask_again() -> None:
    """A cancelled `anext` loses no outcome: the batch itself goes on."""
    async with open_shop() as (octo, _):
        batch = octo.map(remixes(3))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(batch), 1)
        assert len(await outcomes(batch)) == 3


async def test_a_consumer_is_not_cancelled_by_the_closing(tmp_path: Path) -> None:
    """Who waits for an outcome while another closes the batch just comes to the end."""
    async with open_shop() as (octo, _):
        for moment in (0, 0, 1):
            batch = octo.map(remixes(3), download_to=tmp_path)
            waiting = asyncio.ensure_future(outcomes(batch))
            for _ in range(2):
                await asyncio.sleep(moment)
            await batch.aclose()
            assert await waiting == []


async def test_what_was_out_when_the_batch_was_left_is_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A POST that was out brings its id home after all, and it is logged."""
    async with open_shop(Shop(late=10)) as (octo, shop):
        async with octo.map(remixes(3)) as batch:
            waiting = asyncio.ensure_future(outcomes(batch))
            await asyncio.sleep(5)
        assert await waiting == []
        assert batch.detached == []
        await asyncio.sleep(10)
        assert len(shop.posts) == 1
        assert "a submit whose caller had left was accepted: task task_0 is followed" in caplog.text


async def test_what_had_finished_is_named_too() -> None:
    """A video that was there and not yet given back is not lost without its id."""
    async with open_shop() as (octo, shop):
        shop.seconds = 0
        async with octo.map([5, *remixes(3)], ordered=True) as batch:
            await anext(batch)
            await asyncio.sleep(100)
            assert batch.pending == []
        assert sorted(batch.detached) == ["task_0", "task_1", "task_2"]
        assert not octo.pending


async def test_an_item_whose_task_is_cancelled_has_an_outcome() -> None:
    """Where somebody cancels every task of the loop, no item of an ordered batch goes missing."""
    async with open_shop() as (octo, shop):
        batch = octo.map(remixes(3), ordered=True)
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(10)
        assert batch._engine is not None
        next(iter(batch._engine._items)).cancel("mine")
        found = await waiting
        assert sorted(errors(found)) == ["", "", "OctoremixError"]
        (lost,) = [outcome for outcome in found if outcome.error is not None]
        assert lost.id in shop.sold
        assert "mine" in str(lost.error)


@pytest.mark.parametrize("source", [list, iter])
async def test_a_session_that_is_closed_ends_its_batch(source: Callable[[Any], Any]) -> None:
    """What ran tells its id, and the rest was not submitted."""
    async with open_shop() as (octo, shop):
        batch = octo.map(source(remixes(9)), concurrency=3)
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(10)
        await octo.aclose()
        found = await waiting
        assert errors(found) == ["SessionClosedError"] * 3 + ["NotSubmittedError"] * 6
        assert {outcome.id for outcome in found} - {None} == set(shop.sold)
        assert batch.stopped is not None
        assert "session is closed" in batch.stopped


async def test_a_session_that_is_closed_with_submits_queued() -> None:
    """What waited for a slot of the session was not bought, and its outcome says so."""
    async with open_shop(Shop(late=1), submit_concurrency=2) as (octo, shop):
        batch = octo.map(remixes(9))
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(0.5)
        shop.late = 30
        await asyncio.sleep(2)
        await octo.aclose()
        found = await waiting
        assert errors(found)[:3] == ["SessionClosedError"] + ["SubmitOutcomeUnknownError"] * 2
        assert set(errors(found)[3:]) == {"SessionClosedError", "NotSubmittedError"}
        assert len(shop.posts) == 3


async def test_a_session_that_is_closed_before_the_batch() -> None:
    """The first item says why, the rest that nothing was bought."""
    async with open_shop() as (octo, shop):
        batch = octo.map(remixes(3))
        await octo.aclose()
        found = await outcomes(batch)
        assert errors(found) == ["SessionClosedError"] + ["NotSubmittedError"] * 2
        assert shop.posts == []
