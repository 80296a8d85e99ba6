"""`max_jobs`, keys and the journal: what was paid for before, and what is there already."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import octoremix
from octoremix._batch import engine
from octoremix._batch.budget import Budget

from .journals import die
from .shop import (
    LIMITED,
    REFUSED,
    UNCLEAR,
    Shop,
    errors,
    keyed,
    open_shop,
    outcomes,
    remixes,
    session_at,
)

STOPPED = "NotSubmittedError"


async def later(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


SOURCES = pytest.mark.parametrize("source", [list, iter, later])


@SOURCES
@pytest.mark.parametrize("most", [0, 1, 4])
async def test_no_more_jobs_are_paid_for(source: Callable[[Any], Any], most: int) -> None:
    """`max_jobs` is the number of POSTs that are accepted; the rest says why it was not sent."""
    async with open_shop() as (octo, shop):
        batch = octo.map(source(remixes(9)), max_jobs=most)
        found = await outcomes(batch)
        assert sorted(errors(found)) == [""] * most + [STOPPED] * (9 - most)
        assert len(shop.posts) == most
        assert batch.stopped == f"max_jobs={most} jobs are paid for"


async def test_enough_for_all_stops_nothing() -> None:
    """A limit that is just reached is no reason to stop."""
    async with open_shop() as (octo, _):
        batch = octo.map(remixes(5), max_jobs=5)
        assert errors(await outcomes(batch)) == [""] * 5
        assert batch.stopped is None


@SOURCES
async def test_a_refusal_leaves_its_place_to_another(source: Callable[[Any], Any]) -> None:
    """What was refused, or put back after a 429, uses nothing up: all of the limit is bought."""
    shop = Shop(late=5)
    shop.answers.update(p1=[LIMITED] * 5, p2=[REFUSED], p3=[REFUSED], p4=[LIMITED])
    async with open_shop(shop) as (octo, _):
        found = await outcomes(octo.map(source(remixes(12)), max_jobs=5))
        assert errors(found).count("") == 5
        assert errors(found).count("BadRequestError") == 2
        assert errors(found).count(STOPPED) == 5
        assert len(shop.sold) == 5


async def test_a_malformed_item_uses_nothing_up() -> None:
    """What can't be read is not paid for."""
    async with open_shop() as (octo, _):
        found = await outcomes(octo.map([5, *remixes(3), 5], max_jobs=3))
        assert errors(found) == ["ConfigurationError", "", "", "", "ConfigurationError"]


@SOURCES
async def test_doubts_count_as_paid(source: Callable[[Any], Any]) -> None:
    """A job that may have been charged uses its place up."""
    shop = Shop(answers={"p0": [UNCLEAR], "p2": [UNCLEAR]})
    async with open_shop(shop) as (octo, _):
        found = await outcomes(octo.map(source(remixes(9)), max_jobs=5, concurrency=1))
        doubt = "SubmitOutcomeUnknownError"
        assert errors(found) == [doubt, "", doubt, "", "", *[STOPPED] * 4]
        assert len(shop.posts) == 5


@SOURCES
async def test_each_step_of_a_chain_counts(source: Callable[[Any], Any]) -> None:
    """A chain that meets the limit in its middle tells the last task that was bought."""
    chain = octoremix.RemixChain(video_id="video_1", prompts=["a", "b", "c"])
    async with open_shop() as (octo, shop):
        items = source([chain, octoremix.RemixRequest(video_id="v", prompt="d"), chain])
        found = await outcomes(octo.map(items, max_jobs=5, concurrency=1))
        assert errors(found) == ["", "", STOPPED]
        assert found[2].id == "task_4"
        assert "remix 2 of 3 of a chain" in found[2].error.__notes__[0]  # type: ignore[union-attr]
        assert len(shop.posts) == 5


@SOURCES
async def test_earlier_runs_count(source: Callable[[Any], Any], tmp_path: Path) -> None:
    """The same batch run again with the same limit buys nothing, and gives back what is there."""
    async with Shop().opened() as shop:
        for again in range(3):
            async with session_at(shop, journal=tmp_path / "journal") as octo:
                found = await outcomes(octo.map(source(keyed(9)), max_jobs=4))
                assert sorted(errors(found)) == [""] * 4 + [STOPPED] * 5, again
                assert len(shop.posts) == 4
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            found = await outcomes(octo.map(source(keyed(9)), max_jobs=6))
            assert errors(found).count("") == 6
            assert len(shop.posts) == 6


async def test_what_is_further_back_counts_beforehand(tmp_path: Path) -> None:
    """A collection's known jobs are counted before anything is bought, wherever they stand."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        await outcomes(octo.map(keyed(9)[6:]))
        found = await outcomes(octo.map(keyed(9), max_jobs=5))
        assert errors(found).count("") == 5
        assert errors(found)[6:] == [""] * 3
        assert len(shop.posts) == 5


async def test_what_is_there_comes_beyond_the_limit(tmp_path: Path) -> None:
    """Results that are stored are given back, however many jobs are paid for."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        shop.endings["p7"] = "failed"
        await outcomes(octo.map(keyed(9)))
        for source in (list, iter):
            batch = octo.map(source([*keyed(9), *remixes(1)]), max_jobs=2, concurrency=1)
            expected = [""] * 7 + ["RemixFailedError", "", STOPPED]
            assert errors(await outcomes(batch)) == expected
        assert len(shop.posts) == 9


async def test_earlier_doubts_count(tmp_path: Path) -> None:
    """A job in doubt, and one that was given up in doubt, may have been charged."""
    shop = Shop(answers={"p0": [UNCLEAR], "p1": [UNCLEAR]})
    async with open_shop(shop, journal=tmp_path / "journal") as (octo, _):
        await outcomes(octo.map(keyed(3)))
        await octo.abandon((await octo.in_doubt())[0])
        for source in (list, iter):
            found = await outcomes(octo.map(source(keyed(9)), max_jobs=3))
            assert errors(found)[2] == ""
            assert errors(found)[3:] == [STOPPED] * 6
        assert len(shop.posts) == 3


@pytest.mark.parametrize("source", [list, iter])
async def test_the_limit_holds_with_retry_failed(
    source: Callable[[Any], Any], tmp_path: Path
) -> None:
    """A job that failed counts, and counts once more when it is bought again."""
    shop = Shop(endings={"p2": "failed", "p3": "failed"})
    async with open_shop(shop, journal=tmp_path / "journal") as (octo, _):
        await outcomes(octo.map(keyed(4)))
        shop.endings.clear()
        for most, expected in (4, ["", "", STOPPED, STOPPED]), (5, ["", "", "", STOPPED]):
            items = source(keyed(4))
            batch = octo.map(items, max_jobs=most, retry_failed=True, concurrency=4)
            assert sorted(errors(await outcomes(batch))) == sorted(expected)
        assert len(shop.posts) == 5
        assert errors(await outcomes(octo.map(keyed(4), retry_failed=True))) == [""] * 4
        assert len(shop.posts) == 6


@pytest.mark.parametrize("source", [list, iter])
async def test_a_key_that_stands_twice_counts_once(
    source: Callable[[Any], Any], tmp_path: Path
) -> None:
    """Two equal items with one key are one job, in this run and the next."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        items = [*keyed(2), *keyed(2), *keyed(600)[2:]]
        for _ in range(2):
            found = await outcomes(octo.map(source(items), max_jobs=3))
            assert errors(found)[:4] == [""] * 4
            assert errors(found)[4:].count("") == 1
        assert len(shop.posts) == 3


async def test_an_item_that_can_not_be_read_is_passed_over_in_counting(tmp_path: Path) -> None:
    """Malformed items and those without a key are no trouble to the count."""

    class Hostile(dict[str, Any]):
        def keys(self) -> Any:
            raise RuntimeError("no")

        __iter__ = keys

    async with open_shop(journal=tmp_path / "journal") as (octo, _):
        items = [5, Hostile(a=1), *keyed(1), *remixes(1), *keyed(3)[2:]]
        found = await outcomes(octo.map(items, max_jobs=2))
        assert errors(found)[0] == "ConfigurationError"
        assert sorted(errors(found)[2:]) == ["", "", STOPPED]


@pytest.mark.parametrize("source", [list, later])
async def test_the_same_input_again_buys_what_is_missing(
    source: Callable[[Any], Any], tmp_path: Path
) -> None:
    """With keys and a journal a second run gives the same results and buys only the rest."""
    shop = Shop(answers={"p1": [REFUSED], "p2": [UNCLEAR]}, endings={"p3": "failed"})
    async with shop.opened():
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            first = await outcomes(octo.map(source(keyed(6)), ordered=True))
        failed, doubt = "RemixFailedError", "SubmitOutcomeUnknownError"
        assert errors(first) == ["", "BadRequestError", doubt, failed, "", ""]
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            told: list[octoremix.BatchEvent] = []
            batch = octo.map(source(keyed(8)), ordered=True, on_progress=told.append)
            second = await outcomes(batch)
        assert errors(second) == ["", "", doubt, failed, "", "", "", ""]
        assert {event.request.prompt for event in told if event.bought} == {"p1", "p6", "p7"}
        assert sorted(shop.prompts[6:]) == ["p1", "p6", "p7"]
        for index in (0, 3, 4, 5):
            assert second[index].id == first[index].id
            assert second[index].video == first[index].video
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            shop.endings.clear()
            third = await outcomes(octo.map(source(keyed(8)), ordered=True, retry_failed=True))
        assert errors(third) == ["", "", doubt, "", "", "", "", ""]
        assert shop.prompts[9:] == ["p3"]


async def test_what_ran_when_the_process_ended_is_taken_up(tmp_path: Path) -> None:
    """A run after a sudden end waits for what was bought, and buys it no second time."""
    async with Shop(late=1).opened() as shop:
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            batch = octo.map(keyed(5), concurrency=3)
            waiting = asyncio.ensure_future(outcomes(batch))
            await asyncio.sleep(5)
        await waiting
        assert len(shop.posts) == 3
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            told: list[octoremix.BatchEvent] = []
            found = await outcomes(octo.map(keyed(5), on_progress=told.append))
            assert errors(found) == [""] * 5
            assert sum(event.bought for event in told) == 2
        assert len(shop.posts) == 5


async def test_keys_without_a_journal_are_names() -> None:
    """They come back with the outcome, and two equal ones are two jobs."""
    async with open_shop() as (octo, shop):
        found = await outcomes(octo.map([*keyed(2), *keyed(2)], ordered=True))
        assert [outcome.request.key for outcome in found] == ["k0", "k1", "k0", "k1"]
        assert len(shop.posts) == 4
        found = await outcomes(octo.map(keyed(3), max_jobs=2))
        assert errors(found).count("") == 2


async def test_items_without_a_key_are_new_each_time(tmp_path: Path) -> None:
    """A journal knows a job again by its key alone."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        for _ in range(2):
            assert errors(await outcomes(octo.map(remixes(3)))) == [""] * 3
        assert len(shop.posts) == 6
        assert len(await octo.history()) == 6


async def test_what_is_bought_again_counts_each_time(tmp_path: Path) -> None:
    """Runs that buy again what failed come to the same limit, however many they are."""
    shop = Shop(endings={f"p{number}": "failed" for number in range(4)})
    async with shop.opened():
        for bought in (4, 6, 6, 6):
            async with session_at(shop, journal=tmp_path / "journal") as octo:
                await outcomes(octo.map(keyed(4), max_jobs=6, retry_failed=True))
            assert len(shop.posts) == bought


async def test_an_attempt_that_buys_nothing_does_not_count(tmp_path: Path) -> None:
    """A doubt that is sent again and refused is one job that may be paid for, as before."""
    shop = Shop(answers={"p0": [UNCLEAR, REFUSED, REFUSED]})
    async with open_shop(shop, journal=tmp_path / "journal") as (octo, _):
        await outcomes(octo.map(keyed(1)))
        for _ in range(2):
            (doubt,) = await octo.in_doubt()
            with pytest.raises(octoremix.BadRequestError):
                await octo.resubmit(doubt)
        found = await outcomes(octo.map(keyed(4), max_jobs=3))
        assert errors(found) == ["SubmitOutcomeUnknownError", "", "", STOPPED]


async def test_a_long_list_is_counted_in_turns(tmp_path: Path) -> None:
    """While the keys of a list are gathered, the event loop goes on."""
    items = [{"video": "video_1", "prompt": "p", "key": f"k{number}"} for number in range(5000)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await engine._keys(items)
    counting.cancel()
    assert turns >= 5000 // engine.CHUNK


async def test_what_a_killed_process_left_is_made_good(tmp_path: Path) -> None:
    """A run after a kill gives what is there, follows what runs, and doubts what was out."""
    path = tmp_path / "journal"
    async with open_shop(Shop(late=1), journal=path) as (dead, shop):
        batch = dead.map(keyed(9), concurrency=3, ordered=True)
        first = [await anext(batch) for _ in range(2)]
        await asyncio.sleep(3)
        shop.late = 60
        third = await anext(batch)
        await asyncio.sleep(5)
        out = asyncio.ensure_future(anext(batch))
        await asyncio.sleep(1)
        assert len(shop.posts) == 6
        await die(dead)
        shop.late = 0
        async with session_at(shop, journal=path) as octo:
            found = await outcomes(octo.map(keyed(9), ordered=True))
            assert [outcome.id for outcome in found[:3]] == [
                outcome.id for outcome in [*first, third]
            ]
            doubts = {doubt.key for doubt in await octo.in_doubt()}
        names = errors(found)
        assert len(shop.posts) == 9
        assert len(doubts) == names.count("SubmitOutcomeUnknownError")
        assert names.count("") == 9 - len(doubts)
        assert {f"k{n}" for n, name in enumerate(names) if name} == doubts
        assert doubts
        out.cancel()
        await batch.aclose()


async def test_doubts_of_a_killed_process_stop_no_batch(tmp_path: Path) -> None:
    """Jobs in doubt since a process ended say nothing of the gateway; unclear answers do."""
    path = tmp_path / "journal"
    async with open_shop(Shop(late=1), journal=path) as (dead, shop):
        batch = dead.map(keyed(9), concurrency=9)
        await anext(batch)
        shop.late = 60
        out = asyncio.ensure_future(outcomes(dead.map(keyed(16)[9:], concurrency=9)))
        await asyncio.sleep(5)
        await die(dead)
        shop.late = 0
        async with session_at(shop, journal=path) as octo:
            left = await octo.in_doubt()
            assert left
            assert all(doubt.interrupted for doubt in left)
            found = await outcomes(octo.map(keyed(20), max_in_doubt=0))
            assert Counter(errors(found)) == {
                "": 20 - len(left),
                "SubmitOutcomeUnknownError": len(left),
            }
        await asyncio.wait([out])
        await batch.aclose()


async def test_a_place_goes_to_who_came_first() -> None:
    """Who comes just as a place is left waits behind those who waited for it."""
    budget = Budget(1, None)
    order = []

    async def use(name: str) -> None:
        assert await budget.take()
        order.append(name)
        budget.settle(spent=False)

    assert await budget.take()
    waiting = [asyncio.ensure_future(use("first")), asyncio.ensure_future(use("second"))]
    await asyncio.sleep(0)
    budget.settle(spent=False)
    await use("late")
    await asyncio.gather(*waiting)
    assert order == ["first", "second", "late"]


async def test_a_key_that_is_just_being_counted_is_waited_for() -> None:
    """Two items of one key go on only once what was paid for it is counted, and it is asked once."""
    asked = []

    async def paid(keys: Any) -> int:
        asked.append([*keys])
        await asyncio.sleep(1)
        return 1

    budget = Budget(1, paid)
    first = asyncio.ensure_future(budget.count(["k", None, "k"]))
    await asyncio.sleep(0.5)
    await budget.count(["k"])
    assert not await budget.take()
    await first
    assert asked == [["k"]]
