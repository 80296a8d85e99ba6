"""A purchase among callers who stop, leave or cancel whatever they find."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

import octoremix
from octoremix._submit import sending

from .journals import session, states
from .scripted import ScriptedGateway
from .shop import Shop, errors, keyed, open_shop, outcomes


def slow_shop(tmp_path: Path) -> AbstractAsyncContextManager[tuple[octoremix.Session, Shop]]:
    """A shop that takes 50 s to answer, and a session that submits one job at a time."""
    return open_shop(Shop(late=50.0), journal=tmp_path / "journal", submit_concurrency=1)


async def test_a_stop_reaches_a_job_that_stands_twice_in_the_input(tmp_path: Path) -> None:
    """What waits for its slot is not sent after a stop, though two items of the batch share it."""
    async with slow_shop(tmp_path) as (octo, shop):
        batch = octo.map([*keyed(3), keyed(3)[2]])
        reading = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(70)
        assert len(shop.posts) == 2
        batch.stop("enough")
        found = sorted(await reading, key=lambda outcome: outcome.index)
    assert errors(found) == ["", "", "NotSubmittedError", "NotSubmittedError"]
    assert len(shop.posts) == 2
    assert "k2" not in states(tmp_path / "journal")


async def test_a_batch_that_stops_leaves_a_job_to_others_who_want_it(tmp_path: Path) -> None:
    """A job of a batch that stopped is bought for whoever submits it under the same key."""
    async with slow_shop(tmp_path) as (octo, shop):
        batch = octo.map(keyed(3))
        reading = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(70)
        last = keyed(3)[2]
        buying = asyncio.ensure_future(octo.submit("video_1", prompt=last.prompt, key="k2"))
        await asyncio.sleep(1)
        batch.stop("enough")
        assert (await buying).id in shop.sold
        assert errors(await reading) == ["", "", ""]
    assert len(shop.posts) == 3


async def test_the_last_who_wants_a_job_takes_it_along(tmp_path: Path) -> None:
    """Whoever wants a job leaves: it is not sent for those who stopped and only wait for it."""
    async with slow_shop(tmp_path) as (octo, shop):
        batch = octo.map(keyed(3))
        reading = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(70)
        last = keyed(3)[2]
        buying = asyncio.ensure_future(octo.submit("video_1", prompt=last.prompt, key="k2"))
        await asyncio.sleep(1)
        batch.stop("enough")
        await asyncio.sleep(1)
        buying.cancel()
        assert sorted(errors(await reading)) == ["", "", "NotSubmittedError"]
    assert len(shop.posts) == 2


@pytest.mark.parametrize("kept", [True, False])
async def test_an_observer_who_cancels_all_loses_no_job(tmp_path: Path, kept: bool) -> None:
    """A job whose acceptance is just told is never called free, whatever the observer cancels."""

    def observe(event: octoremix.Event) -> None:
        task = asyncio.current_task()
        if event.kind == "accepted" and task is not None:
            task.cancel()

    journal = tmp_path / "journal" if kept else None
    async with ScriptedGateway() as gateway, session(gateway, journal, on_event=observe) as octo:
        future = await octo.submit("video_1", prompt="snow")
        assert future.id == "task_1"


async def test_an_unforeseen_error_after_the_post_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails once a request has left, its caller is told that the job may be bought."""

    def fail(_: Any) -> Any:
        raise ZeroDivisionError("in the reading of answers")

    monkeypatch.setattr(sending, "read_accepted", fail)
    journal = tmp_path / "journal"
    async with ScriptedGateway() as gateway, session(gateway, journal) as octo:
        with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="ZeroDivisionError"):
            await octo.submit("video_1", prompt="snow", key="k")
        assert states(journal) == {"k": "in_doubt"}
    assert len(gateway.posts) == 1
