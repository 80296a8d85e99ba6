"""`Session.map`: what goes in, what comes out, and in which order."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

import octoremix
from octoremix._batch import Engine, Limits
from octoremix._wire import Reading
from octoremix.futures import RemixFuture

from .shop import REFUSED, Shop, errors, open_shop, outcomes, remixes

SNOW = {"video": "video_1", "prompt": "snow"}


async def drip(items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(1)
        yield item


class Shelf:
    """Something that can be gone through, and is no collection."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


class AsyncShelf:
    """Something with no more than what an async iterator needs: it can't be closed."""

    def __init__(self, items: list[Any]) -> None:
        self._items = list(items)

    def __aiter__(self) -> AsyncShelf:
        return self

    async def __anext__(self) -> Any:
        if not self._items:
            raise StopAsyncIteration
        return self._items.pop(0)


@pytest.mark.parametrize(
    "source",
    [list, tuple, iter, drip, Shelf, AsyncShelf, lambda items: dict(enumerate(items)).values()],
    ids=["list", "tuple", "iterator", "generator", "iterable", "async iterator", "view"],
)
async def test_every_item_has_an_outcome(source: Callable[[Any], Any]) -> None:
    """Whatever it is that yields the items, each is bought once and comes back with its video."""
    async with open_shop() as (octo, shop):
        found = await outcomes(octo.map(source(remixes(5)), concurrency=2))
        assert sorted(shop.prompts) == [f"p{number}" for number in range(5)]
        assert sorted(outcome.index for outcome in found) == [0, 1, 2, 3, 4]
        for outcome in found:
            assert outcome.error is None
            assert outcome.path is None
            assert outcome.video is not None
            assert outcome.video.id == outcome.id
            assert outcome.request == remixes(5)[outcome.index]
            assert shop.sold[outcome.video.id] == outcome.request.prompt


@pytest.mark.parametrize("source", [list, drip])
async def test_an_empty_input_has_no_outcome(source: Callable[[Any], Any]) -> None:
    """Nothing in, nothing out, and it may be asked again."""
    async with open_shop() as (octo, shop):
        batch = octo.map(source([]))
        assert await outcomes(batch) == []
        assert await outcomes(batch) == []
        assert shop.posts == []


async def test_an_item_is_a_request_a_chain_or_a_dict() -> None:
    """A dict names its source as `video` (an id, a video, a finished future) or as `video_id`."""
    async with open_shop() as (octo, shop):
        future = await octo.submit("video_0", prompt="first")
        video = await future
        items = [
            octoremix.RemixRequest(video_id="video_a", prompt="p", extra={"size": "720P"}),
            octoremix.RemixChain(video_id="video_b", prompts=["p"]),
            {"video": "video_c", "prompt": "p", "model": "grok", "extra": None},
            {"video_id": "video_d", "prompt": "p", "metadata": object()},
            {"video": "video_e", "prompts": ["p"]},
            {"video": video, "prompt": "p"},
            {"video": future, "prompt": "p"},
        ]
        found = await outcomes(octo.map(items, ordered=True))
        assert errors(found) == [""] * 7
        expected = [f"video_{letter}" for letter in "abcde"] + ["task_0", "task_0"]
        assert sorted(shop.sources[1:]) == sorted(expected)
        assert isinstance(found[4].request, octoremix.RemixChain)
        assert found[2].request.model == "grok"


class Hostile(Mapping[str, Any]):
    """A mapping that can't be read."""

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (5, "takes RemixRequest, RemixChain or a dict, not int"),
        (None, "not NoneType"),
        ("video_1", "not str"),
        (b"video_1", "not bytes"),
        ({}, "its fields are video_id, prompt, model"),
        ({"video": "video_1"}, r"missing.*'prompt'.*its fields are"),
        ({"prompt": "snow"}, r"missing.*'video_id'"),
        ({**SNOW, "size": "720P"}, r"'size'.*further ones of the body belong into extra"),
        ({**SNOW, "video_id": "video_2"}, "'video'"),
        ({"video": "video_1", 7: 8}, "its fields are"),
        ({**SNOW, "prompt": ""}, "prompt is empty"),
        ({**SNOW, "prompt": 5}, "prompt must be a str"),
        ({**SNOW, "video": "clip.mp4"}, "looks like a local file"),
        ({**SNOW, "video": 5}, "video must be a str"),
        ({**SNOW, "extra": 5}, "extra must be a mapping"),
        ({**SNOW, "key": ""}, "key is empty"),
        ({"video": "video_1", "prompts": []}, "prompts is empty"),
        ({"video": "video_1", "prompts": "snow"}, "prompts must be a list of texts"),
        ({"video": "video_1", "prompts": 5}, "prompts must be a list of texts"),
        ({"video": "video_1", "prompts": ["snow", 5]}, "prompt must be a str"),
        ({"video": "video_1", "prompts": ["snow"], "prompt": "x"}, "its fields are"),
    ],
)
async def test_a_malformed_item_is_an_outcome(item: Any, told: str) -> None:
    """What can't be read ends as a `ConfigurationError` that names the fix; the rest goes on."""
    async with open_shop() as (octo, shop):
        found = await outcomes(octo.map([item, SNOW, item, SNOW], ordered=True))
        assert errors(found) == ["ConfigurationError", "", "ConfigurationError", ""]
        assert shop.prompts == ["snow", "snow"]
        error = found[0].error
        assert error is not None
        with pytest.raises(octoremix.ConfigurationError, match=told):
            raise error
        assert found[0].request is item
        assert (found[0].id, found[0].video) == (None, None)


async def test_an_item_that_fails_unexpectedly_is_an_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An item whose own code raises harms itself alone, and what was raised is the cause."""
    async with open_shop() as (octo, _):
        found = await outcomes(octo.map([Hostile(), SNOW], ordered=True))
        assert errors(found) == ["OctoremixError", ""]
        assert isinstance(found[0].error, octoremix.OctoremixError)
        assert isinstance(found[0].error.__cause__, RuntimeError)
        assert "failed unexpectedly" in caplog.text


async def test_a_source_that_is_still_in_work_is_refused() -> None:
    """A future that is not done has no video to remix yet."""
    async with open_shop() as (octo, shop):
        future = await octo.submit("video_0", prompt="first")
        (found,) = await outcomes(octo.map([{"video": future, "prompt": "p"}]))
        assert isinstance(found.error, octoremix.ConfigurationError)
        assert "'task_0' is still in work: await it first" in str(found.error)
        assert len(shop.posts) == 1


class SourceError(Exception):
    """What a source raises."""


def breaking(items: list[Any]) -> Iterator[Any]:
    yield from items
    raise SourceError


async def breaking_later(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
    raise SourceError


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("concurrency", [1, 2, 100])
@pytest.mark.parametrize("source", [breaking, breaking_later])
async def test_a_source_that_raises_is_told_at_the_end(
    source: Callable[[Any], Any], concurrency: int, ordered: bool
) -> None:
    """What was taken until then has its outcomes; then the source's exception is raised, once."""
    async with open_shop() as (octo, _):
        batch = octo.map(source(remixes(5)), concurrency=concurrency, ordered=ordered)
        found = []
        with pytest.raises(SourceError):
            async for outcome in batch:
                found.append(outcome)  # noqa: PERF401  # what was found before is looked at
        assert errors(found) == [""] * 5
        assert await outcomes(batch) == []


async def test_a_source_that_is_cancelled_does_not_end_quietly() -> None:
    """A source that awaits what was cancelled has not come to its end, and the batch tells."""

    async def source() -> AsyncIterator[Any]:
        yield SNOW
        lost = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    async with open_shop() as (octo, _):
        batch = octo.map(source())
        assert (await anext(batch)).error is None
        with pytest.raises(asyncio.CancelledError, match="the source was cancelled"):
            await anext(batch)
        assert await outcomes(batch) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"requests": 5}, "requests must be an iterable"),
        ({"requests": "video"}, "not str"),
        ({"requests": SNOW}, "not dict"),
        ({"requests": octoremix.RemixRequest(video_id="v", prompt="p")}, "not RemixRequest"),
        ({"concurrency": 0}, "concurrency must"),
        ({"max_in_doubt": -1}, "max_in_doubt must"),
        ({"max_jobs": -1}, "max_jobs must"),
        ({"max_jobs": "1"}, "max_jobs must"),
        ({"download_concurrency": 0}, "download_concurrency must"),
        ({"deadline": -1}, "deadline must"),
        ({"on_progress": 5}, "on_progress must be callable"),
        ({"download_to": 5}, "download_to must be the path of a folder"),
        ({"download_to": "x", "name": "{nothing}.mp4"}, "holds '{nothing}'"),
        ({"download_to": "x", "name": "../{id}.mp4"}, "is a path, not a name"),
        ({"download_to": "x", "name": 5}, "must be a str"),
    ],
)
def test_a_malformed_setting_is_refused_at_once(given: dict[str, Any], told: str) -> None:
    """`map` itself raises, before there is a loop or anything is bought."""
    session = octoremix.Session("key", base_url="http://127.0.0.1:1")
    with pytest.raises(octoremix.ConfigurationError, match=told):
        session.map(**{"requests": [], **given})


async def test_finishing_order_is_the_default() -> None:
    """An outcome does not wait for an earlier item that takes longer."""
    async with open_shop() as (octo, shop):
        items = remixes(4)
        shop.answers["p2"] = [REFUSED]
        found = [each.index async for each in octo.map([*items[:2], 5, *items[2:]])]
        assert found[0] == 2
        assert found.index(3) < found.index(0)
        assert sorted(found) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("concurrency", [1, 2, 3, 100])
@pytest.mark.parametrize("source", [list, drip])
async def test_outcomes_in_the_order_of_the_input(
    source: Callable[[Any], Any], concurrency: int
) -> None:
    """`ordered=True` gives them back as they went in, however they end."""
    async with open_shop() as (octo, shop):
        shop.answers.update(p2=[REFUSED], p5=[REFUSED])
        shop.endings["p3"] = "failed"
        batch = octo.map(source([*remixes(7), 5]), concurrency=concurrency, ordered=True)
        found = await outcomes(batch)
        assert [outcome.index for outcome in found] == list(range(8))
        assert errors(found)[2:6] == ["BadRequestError", "RemixFailedError", "", "BadRequestError"]
        failed = found[3]
        assert failed.video is not None
        assert failed.video.status == "failed"
        assert failed.id == failed.video.id
        assert (found[2].id, found[2].video) == (None, None)


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
async def test_what_is_not_asked_for_is_not_submitted(ordered: bool, endless: bool) -> None:
    """No more than `concurrency` items are taken and not given back, however long nobody asks."""
    taken = 0

    def source() -> Iterator[dict[str, str]]:
        nonlocal taken
        for number in itertools.count() if endless else range(20):
            taken += 1
            yield {"video": "video_1", "prompt": f"p{number}"}

    async with open_shop() as (octo, shop):
        async with octo.map(source(), concurrency=3, ordered=ordered) as batch:
            await asyncio.sleep(1000)
            assert taken == 0
            for given in range(1, 8):
                await anext(batch)
                await asyncio.sleep(1000)
                # The one that was given back has made room for another.
                assert taken == len(shop.posts) == given + 3
        assert taken == 10


async def test_an_async_source_is_not_asked_ahead() -> None:
    """The same for an async source: the pull that is under way counts too."""
    taken = 0

    async def source() -> AsyncIterator[dict[str, str]]:
        nonlocal taken
        while True:
            taken += 1
            yield SNOW

    async with open_shop() as (octo, shop):
        async with octo.map(source(), concurrency=3) as batch:
            for given in range(1, 5):
                await anext(batch)
                await asyncio.sleep(1000)
                assert taken == len(shop.posts) == given + 3


async def test_several_consumers_share_a_batch() -> None:
    """Each outcome goes to one of them, and all of them come to an end."""
    async with open_shop() as (octo, _):
        batch = octo.map(drip(remixes(25)), concurrency=4)
        found = await asyncio.gather(*(outcomes(batch) for _ in range(7)))
        assert sorted(each.index for some in found for each in some) == list(range(25))


@pytest.mark.parametrize("consumers", [2, 5])
@pytest.mark.parametrize("source", [breaking, breaking_later])
async def test_one_of_several_consumers_gets_the_exception(
    source: Callable[[Any], Any], consumers: int
) -> None:
    """A source's exception is raised once; the other consumers end."""
    async with open_shop() as (octo, _):
        batch = octo.map(source(remixes(1)), concurrency=1)
        each = [outcomes(batch) for _ in range(consumers)]
        ended = await asyncio.gather(*each, return_exceptions=True)
        assert sum(isinstance(one, SourceError) for one in ended) == 1


async def test_progress_is_told() -> None:
    """`on_progress` gets each acceptance, of each step of a chain too, with what was bought."""
    events: list[octoremix.BatchEvent] = []
    async with open_shop() as (octo, shop):
        shop.answers["p0"] = [REFUSED]
        chain = octoremix.RemixChain(video_id="video_1", prompts=["a", "b"])
        found = await outcomes(octo.map([*remixes(2), chain], on_progress=events.append))
        assert errors(found) == ["BadRequestError", "", ""]
        told = [(event.kind, event.index, event.request.prompt, event.bought) for event in events]
        assert sorted(told) == [
            ("submitted", 1, "p1", True),
            ("submitted", 2, "a", True),
            ("submitted", 2, "b", True),
        ]
        assert {event.id for event in events} == set(shop.sold)
        assert {event.video for event in events} == {None}


@pytest.mark.parametrize("error", [RuntimeError("mine"), asyncio.CancelledError("mine")])
async def test_a_callback_that_raises_harms_nothing(
    error: BaseException, loop_errors: list[dict[str, Any]]
) -> None:
    """What `on_progress` raises goes to the loop's exception handler; the item goes on."""

    def callback(_: octoremix.BatchEvent) -> None:
        raise error

    async with open_shop() as (octo, _):
        found = await outcomes(octo.map(remixes(2), on_progress=callback))
        assert errors(found) == ["", ""]
    assert [context["exception"] for context in loop_errors] == [error, error]
    assert "on_progress callback failed" in loop_errors[0]["message"]
    loop_errors.clear()


async def test_each_job_has_the_deadline() -> None:
    """`deadline` is counted from each acceptance; the outcome tells the task that goes on."""
    async with open_shop(Shop(seconds=1000)) as (octo, shop):
        found = await outcomes(octo.map(remixes(3), deadline=50, concurrency=1))
        assert errors(found) == ["WaitTimeoutError"] * 3
        assert [outcome.id for outcome in found] == [*shop.sold]
        assert repr(octo._buyer) == "<Buyer for <Submitter of 0 jobs>>"


async def test_a_rate_limit_holds_for_a_batch() -> None:
    """With `rate_limit` the submits of a batch start no faster than that."""
    async with open_shop(rate_limit=2) as (octo, shop):
        shop.seconds = 1000
        async with octo.map(remixes(20), concurrency=20) as batch:
            waiting = asyncio.ensure_future(anext(batch))
            await asyncio.sleep(30)
            times = [when for when, _ in shop.posts]
            assert len(times) == 20
            for start in times:
                assert sum(start <= when < start + 1 - 1e-6 for when in times) <= 3
            assert times[-1] - times[0] >= 8
            waiting.cancel()


def test_a_batch_and_its_engine_show_how_many_they_hold() -> None:
    """The repr counts; it lists nothing."""
    session = octoremix.Session("key", base_url="http://127.0.0.1:1")
    assert repr(session.map([])) == "<Batch: not begun>"

    async def begin() -> None:
        async with open_shop() as (octo, _):
            batch = octo.map(remixes(3))
            waiting = asyncio.ensure_future(anext(batch))
            await asyncio.sleep(1)
            assert repr(batch) == "<Batch: holds 3 items>"
            assert len(batch.pending) == 3
            assert repr(batch._engine) == "<Engine of 3 items>"
            purchases = batch._engine._purchases  # type: ignore[union-attr]  # it has begun
            assert repr(purchases) == "<Purchases, 0 in doubt: going on>"
            assert repr(purchases.budget) == "<Budget of None jobs, 0 being bought>"
            await batch.aclose()
            assert repr(batch) == "<Batch: closed>"
            with pytest.raises(StopAsyncIteration):
                await waiting

    asyncio.run(begin())


class Sold:
    """A job that is done at once."""

    fresh = True

    def __init__(self, request: octoremix.RemixRequest) -> None:
        told = {"id": "task_1", "status": "completed", "url": "http://127.0.0.1/x.mp4"}
        self.future = RemixFuture._completed(Reading(b"{}", told, "task_1"), request)


async def peak(count: int, *, ordered: bool) -> int:
    """The most memory that a batch of so many items takes, and all of them are counted."""

    async def buy(request: octoremix.RemixRequest, **_: Any) -> Sold:
        await asyncio.sleep(0)
        return Sold(request)

    source = ({"video": "video_1", "prompt": "snow"} for _ in range(count))
    tracemalloc.start()
    engine = Engine(
        source,
        buy,
        Limits(concurrency=20, max_in_doubt=5, max_jobs=None),
        ordered=ordered,
        saver=None,
        paid=None,
        notify=None,
    )
    for index in range(count):
        outcome = await engine.next()
        assert not ordered or outcome.index == index
    with pytest.raises(StopAsyncIteration):
        await engine.next()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("ordered", [False, True])
async def test_memory_does_not_grow_with_the_input(ordered: bool) -> None:
    """Ten times as many items take no more memory."""
    await peak(100, ordered=ordered)
    few = await peak(100, ordered=ordered)
    many = await peak(1_000, ordered=ordered)
    assert many < 1.2 * few + 20_000


EAGER = getattr(asyncio, "eager_task_factory", None)


@pytest.mark.skipif(EAGER is None, reason="tasks begin at once from Python 3.12 on")
@pytest.mark.parametrize("source", [list, drip])
async def test_tasks_may_begin_at_once(source: Callable[[Any], Any]) -> None:
    """A loop that runs the beginning of a task when it is made changes nothing."""
    asyncio.get_running_loop().set_task_factory(EAGER)
    async with open_shop() as (octo, shop):
        shop.answers["p1"] = [REFUSED]
        batch = octo.map(source([5, *remixes(9), 5]), concurrency=2, ordered=True)
        found = await outcomes(batch)
        config, bad = "ConfigurationError", "BadRequestError"
        assert errors(found) == [config, "", bad, *[""] * 7, config]
