"""The plan of faults chooses its calls by their numbers, and the books tell what came of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import frozen

from octoremix.testing import FAULTS, POLL_FAULTS, Emulator, Fault, Faults, Key

from .emulator_client import BODY, Client


@frozen
class About:
    """What a call is about."""

    id: str
    index: int


def struck(faults: Faults, calls: list[tuple[str, int]], on: str = "query") -> list[list[str]]:
    """The names of the faults that hit each of some polls."""
    return [[f.name for f in faults.choose(on, About(name, index))] for name, index in calls]


A, B = ("a", 0), ("b", 1)


@pytest.mark.parametrize(
    ("settings", "hit"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"next": 2}, [1, 2]),
        ({"call": 3}, [3]),
        ({"task": "b"}, [2, 4, 6]),
        ({"task": 1}, [2, 4, 6]),
        ({"task": "c"}, []),
        ({"first": 2}, [1, 2, 3, 4]),
        ({"first": 1, "task": "b"}, [2]),
        ({"next": 2, "task": 1}, [2, 4]),
        ({"rate": 1.0}, [1, 2, 3, 4, 5, 6]),
        ({"rate": 0.0}, []),
        ({"on": "legacy"}, []),
    ],
)
def test_a_fault_hits_the_calls_that_fulfil_its_conditions(
    settings: dict[str, Any], hit: list[int]
) -> None:
    """Each condition narrows it, and ``next`` counts what fulfils the others."""
    faults = Faults()
    faults.add("cut", **settings)
    names = struck(faults, [A, B] * 3)
    assert [number for number, found in enumerate(names, 1) if found] == hit
    assert faults.hits.total() == len(hit)


def test_a_rate_depends_on_the_seed_and_on_nothing_else() -> None:
    """The same polls of the same jobs are hit in any order; another seed hits others."""
    calls = [(str(number), number) for number in range(200) for _ in range(5)]
    by_order: list[dict[tuple[int, int], bool]] = []
    for order in (calls, calls[::-1]):
        faults = Faults()
        faults.add("cut", rate=0.3, seed=4)
        seen: dict[tuple[int, int], bool] = {}
        counts: dict[int, int] = {}
        for (_, index), found in zip(order, struck(faults, order), strict=True):
            counts[index] = counts.get(index, 0) + 1
            seen[index, counts[index]] = bool(found)
        by_order.append(seen)
    assert by_order[0] == by_order[1]
    assert sum(by_order[0].values()) == pytest.approx(300, abs=60)
    other = Faults()
    other.add("cut", rate=0.3, seed=5)
    assert [bool(found) for found in struck(other, calls)] != list(by_order[0].values())


def test_a_mix_hits_with_one_of_its_faults() -> None:
    """The rate is that of all together, and each of them comes up."""
    faults = Faults()
    faults.mix(rate=0.3, seed=1)
    names = struck(faults, [(str(number), number) for number in range(3000)])
    assert all(len(found) <= 1 for found in names)
    assert sum(map(len, names)) == pytest.approx(900, abs=120)
    assert {found[0] for found in names if found} == set(POLL_FAULTS)
    with pytest.raises(ValueError, match="no faults"):
        faults.mix([], rate=1.0)


def test_videos_from_before_are_known_by_their_ids() -> None:
    """They have no number, and their calls are counted apart all the same."""
    faults = Faults()
    faults.add("cut", first=1)
    assert struck(faults, [("x", -1), ("y", -1), ("x", -1)]) == [["cut"], ["cut"], []]


def test_the_plan_can_be_changed() -> None:
    """What was added can be taken out, alone or all at once."""
    faults = Faults()
    first = faults.add(Fault("cut"))
    second = faults.add("empty:next=5")
    assert struck(faults, [A]) == [["cut", "empty"]]
    faults.remove(first)
    assert struck(faults, [A]) == [["empty"]]
    with pytest.raises(ValueError, match="cut"):
        faults.remove(first)
    faults.clear()
    assert struck(faults, [A]) == [[]]
    assert second.next == 5


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (" cut ", Fault("cut")),
        ("lost answer", None),
        ("lost_answer:on=remix, next=2", Fault("lost_answer", on="remix", next=2)),
        ("html_502:task=3,rate=0.5,seed=7", Fault("html_502", task=3, rate=0.5, seed=7)),
        ("slow:task=video_1,seconds=1.5,first=2", Fault("slow", task="video_1", seconds=1.5, first=2)),
        ("html_524:on=submit,accepted=true,call=4", Fault("html_524", on="submit", accepted=True, call=4)),
        ("odd_end:word=succeeded", Fault("odd_end", word="succeeded")),
        ("url_expired:times=2,status=404", Fault("url_expired", times=2, status=404)),
    ],
)  # fmt: skip
def test_a_fault_can_be_written_as_a_text(text: str, fault: Fault | None) -> None:
    """A name, and its settings after a colon."""
    if fault is None:
        with pytest.raises(ValueError, match="no fault"):
            Faults().add(text)
    else:
        assert Fault.parse(text) == Faults().add(text) == fault


@pytest.mark.parametrize(
    ("add", "error", "word"),
    [
        (lambda faults: faults.add("fire"), ValueError, "lost_answer"),
        (lambda faults: faults.add("fire:next=1"), ValueError, "fire"),
        (lambda faults: Fault(5), ValueError, "no fault"),
        (lambda faults: faults.add("cut", on="moon"), ValueError, "moon"),
        (lambda faults: faults.add("stuck", on="query"), ValueError, "stuck"),
        (lambda faults: faults.add("unknown", on="submit"), ValueError, "unknown"),
        (lambda faults: faults.add("cut", next=0), ValueError, "next"),
        (lambda faults: faults.add("cut", rate=1.1), ValueError, "rate"),
        (lambda faults: faults.add("cut", colour="red"), TypeError, "colour"),
        (lambda faults: faults.add("cut:next=1", next=2), TypeError, "settings"),
        (lambda faults: faults.add("cut:colour=red"), ValueError, "colour"),
        (lambda faults: faults.add("cut:next"), ValueError, "next"),
        (lambda faults: faults.add("cut:next=x"), ValueError, "next .* a whole number, not 'x'"),
        (lambda faults: faults.add("cut:next=1.5"), ValueError, "next .* a whole number"),
        (
            lambda faults: faults.add("slow:seconds=abc"),
            ValueError,
            "seconds .* a number, not 'abc'",
        ),
        (lambda faults: faults.add("cut:rate=often"), ValueError, "rate .* a number, not 'often'"),
        (
            lambda faults: faults.add("cut:on=remix,accepted=x"),
            ValueError,
            "accepted .* true or false",
        ),
        (lambda faults: faults.add("slow:seconds=nan"), ValueError, "seconds must be .* not nan"),
        (lambda faults: faults.add("slow", seconds=-1), ValueError, "seconds"),
        (lambda faults: faults.add("html_502:status=7"), ValueError, "status .* 200 to 599, not 7"),
        (lambda faults: faults.add("mix:rate=0.3"), ValueError, r"use mix\(\)"),
        (lambda _: Faults.of(["mix"]), ValueError, "needs a rate, as in mix:rate=0.3"),
        (lambda _: Faults.of(["mix:rate=lots"]), ValueError, "rate .* a number, not 'lots'"),
        (lambda _: Faults.of(["mix:rate=2"]), ValueError, "rate must be from 0 to 1"),
        (lambda _: Faults.of(["mix:rate=1,names=cut+fire"]), ValueError, "'fire'"),
        (lambda _: Faults.of(["mix:rate=1,colour=red"]), ValueError, "use names, on, next"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused(add: Any, error: type[Exception], word: str) -> None:
    """At once, with an error that helps."""
    with pytest.raises(error, match=word):
        add(Faults())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mix:rate=1", set(POLL_FAULTS)),
        (" mix : rate=1, seed=3", set(POLL_FAULTS)),
        ("mix:rate=1,names=cut+html_502", {"cut", "html_502"}),
        ("mix:rate=1,names=cut,on=legacy", set()),
    ],
)
def test_a_mix_can_be_written_as_a_text(text: str, names: set[str]) -> None:
    """In a list of faults it stands for many at once, with the settings of a mix."""
    found = struck(Faults.of([text]), [(str(number), number) for number in range(1000)])
    assert {name for names in found for name in names} == names


@pytest.mark.parametrize(("word", "truth"), [("true", True), ("No", False), ("1", True)])
def test_whether_a_submit_is_accepted_can_be_said_in_words(word: str, truth: bool) -> None:
    """The usual words of a command line are known."""
    assert Fault.parse(f"cut:on=remix,accepted={word}").accepted is truth


def test_every_fault_says_what_happens() -> None:
    """The names with a few words for each are there for those who choose."""
    assert all(FAULTS.values())
    assert set(POLL_FAULTS) < set(FAULTS)


async def test_submits_are_counted_and_chosen_by_their_source() -> None:
    """The number that a job will have, or the id of its source, selects a submit."""
    faults = ["id_echo:task=1", "insert_lost:task=video_9", "no_url:on=create"]
    async with Emulator(faults=faults, duration=0) as gateway, Client(gateway) as client:
        sources = [f"video_{number}" for number in range(3)] + ["video_9"]
        answers = [await client.remix(source) for source in sources]
        _, made = await client.json("POST", "/v1/videos", json=BODY)
        assert "video_url" not in await client.query(made["id"])
    echoed = [answer["id"] == source for answer, source in zip(answers, sources, strict=True)]
    assert echoed == [False, True, False, False]
    assert [job.outcome == "lost" for job in gateway.books.jobs] == [False] * 3 + [True, False]


async def test_refused_calls_are_not_in_the_plan() -> None:
    """A call without a valid key meets no fault and uses none up."""
    async with Emulator(faults=["empty:next=1"]) as gateway, Client(gateway) as client:
        status, _ = await client.json("GET", "/v1/videos/v", headers={})
        assert status == 401
        _, _, body = await client.call("GET", "/v1/videos/v")
        assert body == b""


async def test_the_books_fail_a_test_that_bought_twice() -> None:
    """One line says so, and the message tells what was bought, when and as what."""
    async with Emulator() as gateway, Client(gateway) as client:
        with pytest.raises(AssertionError, match="0 jobs were charged, not at least 1"):
            gateway.books.assert_charged_once()
        first = await client.remix(prompt="rain")
        await client.remix("other", prompt="rain")
        await client.remix(prompt="rain", size="720P")
        gateway.books.assert_charged_once()
        gateway.books.assert_charged_once(3)
        assert gateway.books.duplicates == {}
        with pytest.raises(AssertionError, match="3 jobs were charged, not 2"):
            gateway.books.assert_charged_once(2)
        await client.remix(prompt="rain")
    with pytest.raises(AssertionError) as caught:
        gateway.books.assert_charged_once(4)
    assert "bought 2 times" in str(caught.value)
    assert "rain" in str(caught.value)
    assert first["id"] in str(caught.value)
    (same,) = gateway.books.duplicates.values()
    assert [job.request.index for job in same] == [0, 3]


async def test_the_books_count_polls_by_the_minute() -> None:
    """Each minute since the first poll has its number."""
    async with Emulator() as gateway, Client(gateway) as client:
        for pause in (10, 40, 100, 1):
            await client.query("v")
            await asyncio.sleep(pause)
    assert gateway.books.polls_per_minute("v") == [3, 0, 1]
    assert gateway.books.polls_per_minute("other") == []


async def test_without_records_the_books_say_so() -> None:
    """What needs each job or poll is an error then, not a wrong answer."""
    async with (
        Emulator(record=False, faults=["restart:call=1"]) as gateway,
        Client(gateway) as client,
    ):
        await client.remix()
        await client.call("GET", "/v1/videos/v")
    for ask in (
        lambda: gateway.books.duplicates,
        gateway.books.assert_charged_once,
        lambda: gateway.books.polls_per_minute("v"),
    ):
        with pytest.raises(RuntimeError, match="record=True"):
            ask()


async def test_the_second_origin_is_there_only_if_wanted() -> None:
    """Its address is known while it is served, and survives an outage."""
    gateway = Emulator(cdn=True)
    with pytest.raises(RuntimeError, match="cdn=True"):
        _ = gateway.cdn_url
    async with gateway:
        url = gateway.cdn_url
        assert url != gateway.url
    async with gateway:
        assert gateway.cdn_url == url
    assert gateway.books.refunded == 0


def test_books_without_a_gateway_are_empty() -> None:
    """A gateway that never ran has given nothing back."""
    assert Emulator(keys={"sk-other": Key()}).books.refunded == 0
