"""Chains: each remix is the source of the next, alone and as an item of a batch."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import octoremix

from .shop import REFUSED, Shop, errors, open_shop, outcomes, session_at

PROMPTS = ["a", "b", "c"]


def chained(key: str | None = None, video: str = "video_1") -> octoremix.RemixChain:
    return octoremix.RemixChain(video_id=video, prompts=PROMPTS, key=key)


async def test_each_remix_is_the_source_of_the_next() -> None:
    """A chain buys its remixes one after the other and gives back the last video."""
    async with open_shop() as (octo, shop):
        video = await octo.chain("video_1", iter(PROMPTS), model="grok", extra={"size": "720P"})
        assert video.id == "task_2"
        assert shop.prompts == PROMPTS
        assert shop.sources == ["video_1", "task_0", "task_1"]
        starts = [when for when, _ in shop.posts]
        assert all(later - start >= shop.seconds for start, later in itertools.pairwise(starts))


async def test_a_chain_begins_with_a_video_or_a_future() -> None:
    """A future is awaited before the first remix is bought."""
    async with open_shop() as (octo, shop):
        future = await octo.submit("video_1", prompt="first")
        assert (await octo.chain(future, ["a"])).id == "task_1"
        assert shop.posts[1][0] - shop.posts[0][0] >= shop.seconds
        await octo.chain(await future, ["a"])
        assert shop.sources == ["video_1", "task_0", "task_0"]


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ([], "prompts is empty"),
        ("snow", "prompts must be a list"),
        (5, "prompts must be a list"),
        (["a", ""], "prompt is empty"),
        (["a", 5], "prompt must be a str"),
    ],
)
async def test_a_malformed_chain_buys_nothing(prompts: list[str], told: str) -> None:
    """All of a chain is checked before its first remix is bought."""
    async with open_shop() as (octo, shop):
        with pytest.raises(octoremix.ConfigurationError, match=told):
            await octo.chain("video_1", prompts)
        assert shop.posts == []


@pytest.mark.parametrize("video", ["clip.mp4", "http://x/y", "..", 5])
def test_a_chain_has_a_source_of_the_gateway(video: str) -> None:
    """A file or an address is refused like that of any remix."""
    with pytest.raises(octoremix.ConfigurationError, match="video"):
        chained(video=video)


def test_a_chain_is_a_value() -> None:
    """Two equal chains are equal and hash alike, whatever their keys and metadata."""
    one = octoremix.RemixChain(video_id="v", prompts=["a"], key="k", metadata=[])
    other = octoremix.RemixChain(video_id="v", prompts=("a",), extra={})
    assert one == other
    assert hash(one) == hash(other)
    assert one != chained()


async def test_a_key_needs_a_journal() -> None:
    """Without one a chain could not be taken up again, which is told before anything is bought."""
    async with open_shop() as (octo, shop):
        with pytest.raises(octoremix.ConfigurationError, match="no journal"):
            await octo.chain("video_1", PROMPTS, key="k")
        assert shop.posts == []


async def test_a_chain_goes_on_in_its_middle(tmp_path: Path) -> None:
    """With a key and a journal what was made is not made again, in another process neither."""
    shop = Shop(answers={"c": [REFUSED]})
    async with shop.opened():
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            with pytest.raises(octoremix.BadRequestError):
                await octo.chain("video_1", PROMPTS, key="k")
            assert shop.prompts == ["a", "b", "c"]
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            video = await octo.chain("video_1", PROMPTS, key="k")
            assert shop.prompts == ["a", "b", "c", "c"]
            assert shop.sources == ["video_1", "task_0", "task_1", "task_1"]
            assert (await octo.chain("video_1", PROMPTS, key="k")) == video
            keys = {entry.key for entry in await octo.history()}
        assert keys == {"k/1", "k/2", "k/3"}
        assert len(shop.posts) == 4


async def test_a_chain_that_failed_is_bought_again_when_asked(tmp_path: Path) -> None:
    """`retry_failed` buys the remix that failed once more, and goes on from there."""
    shop = Shop(endings={"b": "failed"})
    async with open_shop(shop, journal=tmp_path / "journal") as (octo, _):
        for _ in range(2):
            with pytest.raises(octoremix.RemixFailedError) as caught:
                await octo.chain("video_1", PROMPTS, key="k")
            assert caught.value.__notes__ == ["it was remix 2 of 3 of a chain"]
        shop.endings.clear()
        await octo.chain("video_1", PROMPTS, key="k", retry_failed=True)
        assert shop.prompts == ["a", "b", "b", "c"]


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_a_failure_tells_which_remix_it_was(failing: int) -> None:
    """A note on the error counts the remixes, for a refusal and for a task that fails."""
    prompt = PROMPTS[failing]
    for shop in (Shop(answers={prompt: [REFUSED]}), Shop(endings={prompt: "expired"})):
        async with open_shop(shop) as (octo, _):
            with pytest.raises(octoremix.OctoremixError) as caught:
                await octo.chain("video_1", PROMPTS)
            assert caught.value.__notes__ == [f"it was remix {failing + 1} of 3 of a chain"]
            assert shop.prompts == PROMPTS[: failing + 1]


async def test_a_chain_that_is_cancelled_tells_its_task(caplog: pytest.LogCaptureFixture) -> None:
    """The remix that runs goes on, is followed, and its id is logged and noted; no other begins."""
    async with open_shop() as (octo, shop):
        waiting = asyncio.ensure_future(octo.chain("video_1", PROMPTS))
        await asyncio.sleep(30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert "task_1 goes on" in caught.value.__notes__[0]
        assert "task_1 goes on" in caplog.text
        assert [*octo.pending] == ["task_1"]
        await asyncio.sleep(1000)
        assert shop.prompts == ["a", "b"]


async def test_chains_in_a_batch_are_one_item_each() -> None:
    """Several go at once, each in its own order; the outcome has the last video."""
    async with open_shop() as (octo, shop):
        items = [chained(video=f"video_{number}") for number in range(3)]
        found = await outcomes(octo.map(items, ordered=True))
        assert errors(found) == ["", "", ""]
        for number, outcome in enumerate(found):
            assert outcome.request is items[number]
            assert outcome.video is not None
            source: str = outcome.video.id
            sources = []
            for prompt in reversed(PROMPTS):
                assert shop.sold[source] == prompt
                source = shop.sources[int(source.removeprefix("task_"))]
                sources.append(source)
            assert sources[-1] == f"video_{number}"


async def test_a_chain_that_fails_in_a_batch_harms_no_other() -> None:
    """Its outcome has the task that failed, and a note which it was."""
    async with open_shop(Shop(endings={"bad": "failed"})) as (octo, shop):
        bad = octoremix.RemixChain(video_id="video_2", prompts=["a", "bad", "c"])
        found = await outcomes(octo.map([chained(), bad, chained()], ordered=True))
        assert errors(found) == ["", "RemixFailedError", ""]
        failed = found[1]
        assert failed.error is not None
        assert failed.error.__notes__ == ["it was remix 2 of 3 of a chain"]
        assert failed.id is not None
        assert shop.sold[failed.id] == "bad"
        assert failed.video is not None
        assert failed.video.status == "failed"
        assert len(shop.posts) == 8


async def test_a_batch_of_chains_goes_on_in_their_middle(tmp_path: Path) -> None:
    """The same input again, after the process ended, buys only the remixes that are missing."""

    def items() -> Iterator[octoremix.RemixChain]:
        for number in range(3):
            yield chained(key=f"k{number}", video=f"video_{number}")

    async with Shop().opened() as shop:
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            async with octo.map(items()) as batch:
                waiting = asyncio.ensure_future(outcomes(batch))
                await asyncio.sleep(30)
            assert await waiting == []
        assert len(shop.posts) == 6
        async with session_at(shop, journal=tmp_path / "journal") as octo:
            told: list[octoremix.BatchEvent] = []
            found = await outcomes(octo.map(items(), on_progress=told.append))
        assert errors(found) == ["", "", ""]
        assert len(shop.posts) == 9
        assert [event.bought for event in told].count(True) == 3
        assert len(told) == 9


async def test_a_chain_is_told_how_often_one_error_is_waited_for() -> None:
    """An error that two chains meet with has its note once."""
    async with open_shop(Shop(endings={"a": "failed"})) as (octo, _):
        future = await octo.submit("video_1", prompt="a")
        for _ in range(2):
            with pytest.raises(octoremix.RemixFailedError) as caught:
                await octo.chain(future, ["b", "c"])
        assert caught.value.__notes__ == ["it was remix 1 of 2 of a chain"]
