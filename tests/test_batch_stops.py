"""What stops a batch, what does not, and how the rest is told."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import octoremix
from octoremix._batch.purchases import MOST_UNSENT

from .scripted import Answer, cut, reply, task
from .shop import (
    LIMITED,
    REFUSED,
    STEADY,
    UNCLEAR,
    Shop,
    errors,
    keyed,
    open_shop,
    outcomes,
    remixes,
    session_at,
)


def told(code: str, status: int) -> Answer:
    """An answer of the gateway's own to a task."""
    return reply({"code": code, "message": "no", "data": None}, status=status)


def said(code: str, status: int) -> Answer:
    """An answer of the gateway's own to anybody."""
    error = {"message": "no", "type": "new_api_error", "code": code}
    return reply({"error": error}, status=status)


STOPPING = {
    "unauthorized": (said("", 401), "AuthenticationError"),
    "quota": (told("insufficient_user_quota", 403), "QuotaExceededError"),
    "key's quota": (told("pre_consume_token_quota_failed", 403), "QuotaExceededError"),
    "no access": (said("access_denied", 403), "PermissionDeniedError"),
    "moved": (reply(status=308, headers={"Location": "http://x/"}), "UnexpectedRedirectError"),
    "perhaps moved": (reply(status=302, headers={"Location": "/"}), "UnexpectedRedirectError"),
    "no route": (said("", 404), "BadRequestError"),
    "no such method": (said("", 405), "BadRequestError"),
    "no price": (told("model_price_error", 400), "BadRequestError"),
    "no mapping": (told("model_mapping_failed", 400), "BadRequestError"),
    "no model": (said("model_not_found", 503), "ServerError"),
    "no platform": (told("invalid_api_platform", 400), "BadRequestError"),
}

GOING_ON = {
    "refused": (REFUSED, "BadRequestError"),
    "unknown source": (told("task_not_exist", 400), "TaskNotFoundError"),
    "unknown source, 404": (told("task_not_exist", 404), "TaskNotFoundError"),
    "passed on": (told("fail_to_fetch_task", 400), "BadRequestError"),
    "passed on, 401": (told("fail_to_fetch_task", 401), "AuthenticationError"),
    "passed on, 403": (told("fail_to_fetch_task", 403), "PermissionDeniedError"),
    "passed on, 404": (told("fail_to_fetch_task", 404), "BadRequestError"),
    "failed": (told("fail_to_fetch_task", 500), "ServerError"),
    "one doubt": (UNCLEAR, "SubmitOutcomeUnknownError"),
}


@pytest.mark.parametrize(("answer", "error"), STOPPING.values(), ids=STOPPING)
async def test_what_concerns_all_stops_the_batch(answer: Answer, error: str) -> None:
    """The item that met with it has the error; no other is sent, and each of them says why."""
    async with open_shop() as (octo, shop):
        shop.answers["p0"] = [answer]
        batch = octo.map(remixes(5), concurrency=3)
        found = await outcomes(batch)
        assert errors(found) == [error] + ["NotSubmittedError"] * 4
        assert shop.prompts == ["p0"]
        cause = min(found, key=lambda outcome: outcome.index).error
        assert batch.stopped == str(cause)
        for outcome in found:
            if outcome.index:
                assert outcome.id is None
                assert isinstance(outcome.error, octoremix.NotSubmittedError)
                assert outcome.error.__cause__ is cause
                assert str(cause) in str(outcome.error)
                assert "free to run again" in str(outcome.error)


@pytest.mark.parametrize(("answer", "error"), GOING_ON.values(), ids=GOING_ON)
async def test_what_concerns_one_item_does_not_stop(answer: Answer, error: str) -> None:
    """A refusal of one job, a job in doubt, what the upstream said: the rest is bought."""
    async with open_shop() as (octo, shop):
        shop.answers["p0"] = [answer]
        batch = octo.map(remixes(5))
        found = await outcomes(batch)
        assert errors(found) == [error] + [""] * 4
        assert batch.stopped is None
        assert len(shop.posts) == 5


@pytest.mark.parametrize("ending", ["failed", "cancelled", "expired"])
async def test_tasks_that_fail_do_not_stop(ending: str) -> None:
    """However many tasks end without a video, each is its own."""
    async with open_shop() as (octo, shop):
        shop.endings.update({f"p{number}": ending for number in range(20)})
        batch = octo.map(remixes(20))
        assert errors(await outcomes(batch)) == [f"Remix{ending.capitalize()}Error"] * 20
        assert batch.stopped is None


async def test_what_runs_when_it_stops_is_finished() -> None:
    """A stop breaks no job off that was accepted."""
    async with open_shop() as (octo, shop):
        shop.answers["p2"] = [STOPPING["quota"][0]]
        batch = octo.map(remixes(6), concurrency=3)
        found = await outcomes(batch)
        assert errors(found) == ["", "", "QuotaExceededError"] + ["NotSubmittedError"] * 3


async def test_a_key_that_is_refused_while_waiting_stops_the_batch() -> None:
    """A 401 that ends every wait concerns what is to come as well."""
    async with open_shop() as (octo, shop):
        shop.tells = STOPPING["unauthorized"][0]
        batch = octo.map(remixes(5), concurrency=2)
        found = await outcomes(batch)
        assert errors(found) == ["PollingFailedError"] * 2 + ["NotSubmittedError"] * 3
        assert {outcome.id for outcome in found} == {"task_0", "task_1", None}


async def test_the_first_job_goes_alone() -> None:
    """While no job was accepted, one POST at a time is out; afterwards they go together."""
    async with open_shop(Shop(late=10)) as (octo, shop):
        shop.answers.update(p0=[REFUSED], p1=[UNCLEAR], p2=[LIMITED])
        found = await outcomes(octo.map(remixes(12)))
        assert errors(found) == ["BadRequestError", "SubmitOutcomeUnknownError"] + [""] * 10
        starts = [when for when, _ in shop.posts]
        # The first three are refused and the fourth is the first that is accepted.
        assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(starts[:4]))
        assert shop.most == 9
        assert max(starts) < starts[3] + 13


async def test_one_refusal_buys_no_second_job() -> None:
    """Where all is refused for the account's sake, one POST has told so."""
    async with open_shop(Shop(late=10, every=STOPPING["quota"][0])) as (octo, shop):
        found = await outcomes(octo.map(remixes(50)))
        assert errors(found) == ["QuotaExceededError"] + ["NotSubmittedError"] * 49
        assert len(shop.posts) == 1


async def test_a_stored_result_proves_nothing(tmp_path: Path) -> None:
    """What an earlier run bought says nothing of today: the first new job goes alone all the same."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        assert len(await outcomes(octo.map(keyed(5)))) == 5
        shop.late, shop.most = 10, 0
        shop.every = STOPPING["quota"][0]
        found = await outcomes(octo.map(keyed(10)))
        assert errors(found) == [""] * 5 + ["QuotaExceededError"] + ["NotSubmittedError"] * 4
        assert len(shop.posts) == 6


async def test_a_stored_result_waits_for_no_turn(tmp_path: Path) -> None:
    """What is there comes back while the first new job is still out."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        await outcomes(octo.map(keyed(5)))
        shop.late = 100
        async with octo.map([*remixes(1), *keyed(5)]) as batch:
            start = asyncio.get_running_loop().time()
            assert {(await anext(batch)).index for _ in range(5)} == {1, 2, 3, 4, 5}
            assert asyncio.get_running_loop().time() < start + 50


@pytest.mark.parametrize("most", [0, 1, 5])
async def test_doubts_before_the_first_acceptance_stop_the_batch(most: int) -> None:
    """A gateway that never answers clearly is asked once more than doubts are allowed."""
    async with open_shop(Shop(late=10, every=UNCLEAR)) as (octo, shop):
        batch = octo.map(remixes(50), max_in_doubt=most)
        found = await outcomes(batch)
        assert len(shop.posts) == most + 1
        doubts = ["SubmitOutcomeUnknownError"] * (most + 1)
        assert errors(found) == doubts + ["NotSubmittedError"] * (50 - len(doubts))
        assert batch.stopped is not None
        assert f"{most + 1} jobs are in doubt" in batch.stopped
        doubt = found[0].error
        assert isinstance(doubt, octoremix.SubmitOutcomeUnknownError)
        assert doubt.reason
        assert batch.stopped.endswith(f"the last: {doubt.reason}")
        last = max(found, key=lambda outcome: outcome.index).error
        assert isinstance(last, octoremix.NotSubmittedError)
        assert isinstance(last.__cause__, octoremix.SubmitOutcomeUnknownError)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("answer", [UNCLEAR, cut, told("upstream_error", 504)])
@pytest.mark.parametrize("spread", [False, True])
async def test_doubts_with_many_in_flight_stop_what_is_not_out(
    answer: Answer, spread: bool, kept: bool, tmp_path: Path
) -> None:
    """Doubts that come when 100 items wait for 16 slots: no more POSTs than allowed and in flight."""
    shop = Shop(late=1)
    settings: dict[str, Any] = {"journal": tmp_path / "journal"} if kept else {}
    async with open_shop(shop, submit_concurrency=16, **settings) as (octo, _):
        items = remixes(200)
        number = 0

        async def varied(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal number
            number += 1
            await asyncio.sleep(0.01 * number if spread else 0)
            given = answer(request)
            return await given if isinstance(given, Awaitable) else given

        for request in items[1:]:
            shop.answers[request.prompt] = [varied]
        found = await outcomes(octo.map(items, concurrency=100))
        names = errors(found)
        assert names[0] == ""
        doubts = len(shop.posts) - 1
        assert 6 <= doubts <= 5 + 16
        assert sum(name not in {"", "NotSubmittedError"} for name in names) == doubts


async def test_doubts_of_an_earlier_run_count(tmp_path: Path) -> None:
    """What the journal has in doubt and nobody has settled is in doubt now, too."""
    async with open_shop(Shop(every=UNCLEAR), journal=tmp_path / "journal") as (octo, shop):
        await outcomes(octo.map(keyed(4)))
        shop.every = None
        found = await outcomes(octo.map(keyed(9), max_in_doubt=3, ordered=True))
        assert errors(found) == ["SubmitOutcomeUnknownError"] * 4 + ["NotSubmittedError"] * 5
        assert len(shop.posts) == 4
        for doubt in await octo.in_doubt():
            await octo.abandon(doubt)
        found = await outcomes(octo.map(keyed(9), max_in_doubt=3, ordered=True))
        assert errors(found) == ["SubmitOutcomeUnknownError"] * 4 + [""] * 5


async def test_a_429_puts_an_item_back() -> None:
    """It is no outcome: the item is tried until it is sold, once."""
    async with open_shop() as (octo, shop):
        shop.answers.update(p0=[LIMITED], p3=[LIMITED] * 4)
        found = await outcomes(octo.map(remixes(5)))
        assert errors(found) == [""] * 5
        assert len(shop.sold) == 5
        assert len(shop.posts) == 10


async def test_a_429_that_lasts_is_waited_out() -> None:
    """Hours of it end nothing, are asked rarely, and the batch goes on where it was."""
    async with open_shop(Shop(every=LIMITED)) as (octo, shop):
        waiting = asyncio.ensure_future(outcomes(octo.map(remixes(10))))
        await asyncio.sleep(4 * 3600)
        assert not waiting.done()
        assert len(shop.posts) < 500
        shop.every = None
        assert errors(await waiting) == [""] * 10
        assert len(shop.sold) == 10


async def test_a_batch_that_is_stopped_gives_up_what_was_put_back() -> None:
    """An item that waits after a 429 is told at once that nothing was bought."""
    async with open_shop(Shop(every=LIMITED)) as (octo, shop):
        batch = octo.map(remixes(3))
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(60)
        before, posts = asyncio.get_running_loop().time(), len(shop.posts)
        batch.stop("enough")
        found = await waiting
        assert asyncio.get_running_loop().time() == before
        assert errors(found) == ["NotSubmittedError"] * 3
        assert len(shop.posts) == posts


def refusing_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


async def test_a_gateway_that_can_not_be_reached_stops_the_batch() -> None:
    """Items that could not be sent are put back a few times; then one has the error."""
    url = f"http://127.0.0.1:{refusing_port()}"
    async with octoremix.Session("key", base_url=url, poll=STEADY) as octo:
        batch = octo.map(remixes(50))
        found = await outcomes(batch)
        assert errors(found) == ["APIConnectionError"] + ["NotSubmittedError"] * 49
        assert batch.stopped is not None
        assert "can't be reached" in batch.stopped


async def test_a_gateway_that_was_away_for_a_moment_stops_nothing() -> None:
    """What could not be sent is sent later."""
    shop = Shop()
    async with shop.opened():
        up, shop.url = shop.url, f"http://127.0.0.1:{refusing_port()}"
        async with session_at(shop) as octo:
            send = octo._transport.send
            calls = 0

            async def failing(*given: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls < MOST_UNSENT:
                    raise octoremix.APIConnectionError("away")
                return await send(*given, **options)

        shop.url = up
        async with session_at(shop) as octo:
            send = octo._transport.send
            octo._submitter._sender._send = failing
            assert errors(await outcomes(octo.map(remixes(5)))) == [""] * 5
            assert len(shop.posts) == 5


async def test_a_batch_can_be_told_to_stop() -> None:
    """`stop` finishes what is out; the rest is not sent, and told the reason that was given."""
    async with open_shop(submit_concurrency=2) as (octo, shop):
        batch = octo.map(remixes(20), concurrency=10)
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(10)
        shop.late = 30
        await asyncio.sleep(20)
        assert len(shop.posts) == 12
        batch.stop("enough for today")
        batch.stop("and again")
        found = await waiting
        assert sorted(errors(found)) == [""] * 12 + ["NotSubmittedError"] * 8
        assert len(shop.posts) == 12
        assert batch.stopped == "enough for today"
        error = found[10].error
        assert isinstance(error, octoremix.NotSubmittedError)
        assert "enough for today" in str(error)
        assert error.__cause__ is None


async def test_a_batch_that_is_stopped_before_it_begins_buys_nothing() -> None:
    """The reason is that of the first call, and each item is told it."""
    async with open_shop() as (octo, shop):
        batch = octo.map(remixes(3))
        batch.stop()
        batch.stop("again")
        assert batch.stopped == "it was asked to stop"
        assert errors(await outcomes(batch)) == ["NotSubmittedError"] * 3
        assert batch.stopped == "it was asked to stop"
        assert shop.posts == []


async def test_a_stop_keeps_back_nothing_that_is_stored(tmp_path: Path) -> None:
    """What was bought before is given back after a stop too, also once a job was accepted."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        await outcomes(octo.map(keyed(3)))
        batch = octo.map([*remixes(1), *keyed(4)], concurrency=1, ordered=True)
        assert (await anext(batch)).error is None
        await asyncio.sleep(0)
        batch.stop()
        assert errors(await outcomes(batch)) == ["", "", "", "NotSubmittedError"]
        assert len(shop.posts) == 4


async def test_an_error_of_the_callers_own_code_is_an_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a retry policy's strategy raises ends the item in whose submit it was."""
    retry = octoremix.RetryPolicy(wait=lambda _: 1 / 0)
    async with open_shop(Shop(answers={"p0": [LIMITED]}), retry=retry) as (octo, _):
        found = await outcomes(octo.map(remixes(3)))
        assert errors(found) == ["OctoremixError", "", ""]
        causes = [outcome.error.__cause__ for outcome in found if outcome.error is not None]
        assert isinstance(causes[0], ZeroDivisionError)
    assert "failed unexpectedly" in caplog.text


async def test_a_key_that_can_not_be_had_stops_the_batch() -> None:
    """Where the callable that gives the key fails nothing is sent, for no item."""

    def key() -> str:
        raise RuntimeError("no key")

    async with Shop().opened() as shop:
        async with octoremix.Session(key, base_url=shop.url) as octo:
            found = await outcomes(octo.map(remixes(5)))
        assert errors(found) == ["APIConnectionError"] + ["NotSubmittedError"] * 4
        assert shop.posts == []


async def test_a_stop_of_one_batch_is_not_that_of_another(tmp_path: Path) -> None:
    """A job that two batches want is bought by the one that goes on."""
    settings = {"journal": tmp_path / "journal", "submit_concurrency": 1}
    async with open_shop(Shop(late=10), **settings) as (octo, shop):
        first = asyncio.ensure_future(octo.submit("video_9", prompt="first"))
        await asyncio.sleep(1)
        one, other = octo.map(keyed(1)), octo.map(keyed(1))
        waiting = asyncio.ensure_future(outcomes(one))
        await asyncio.sleep(1)
        joining = asyncio.ensure_future(outcomes(other))
        await asyncio.sleep(1)
        one.stop()
        await asyncio.sleep(1)
        await one.aclose()
        assert await waiting == []
        await first
        assert errors(await joining) == [""]
        assert len(shop.posts) == 2


async def test_what_others_wait_for_is_not_called_back(tmp_path: Path) -> None:
    """A stop takes no job from a caller of `submit` who waits for the same key."""
    async with open_shop(journal=tmp_path / "journal", submit_concurrency=1) as (octo, shop):
        shop.late = 10
        first = asyncio.ensure_future(octo.submit("video_9", prompt="first"))
        await asyncio.sleep(1)
        batch = octo.map(keyed(1))
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(1)
        other = asyncio.ensure_future(octo.submit("video_1", prompt="p0", key="k0"))
        await asyncio.sleep(1)
        batch.stop()
        assert (await first).id == "task_0"
        assert (await other).id == "task_1"
        assert errors(await waiting) == [""]
        assert len(shop.posts) == 2


async def test_a_journal_that_fails_stops_the_batch(tmp_path: Path) -> None:
    """What can't be recorded is not bought, and no further item tries."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        await octo.submit("video_1", prompt="first", key="first")
        with sqlite3.connect(tmp_path / "journal") as connection:
            connection.execute("ALTER TABLE job RENAME TO gone")
        connection.close()
        found = await outcomes(octo.map(keyed(4)))
        assert errors(found) == ["JournalError"] + ["NotSubmittedError"] * 3
        for source in (list, iter):
            found = await outcomes(octo.map(source(keyed(4)), max_jobs=9))
            assert errors(found) == ["JournalError"] + ["NotSubmittedError"] * 3
        assert len(shop.posts) == 1
        with sqlite3.connect(tmp_path / "journal") as connection:
            connection.execute("ALTER TABLE gone RENAME TO job")
        connection.close()


async def test_reused_keys_concern_one_item(tmp_path: Path) -> None:
    """A key that stands for another remix is the fault of its item alone."""
    async with open_shop(journal=tmp_path / "journal") as (octo, _):
        await octo.submit("video_1", prompt="else", key="k0")
        found = await outcomes(octo.map(keyed(3)))
        assert errors(found) == ["KeyReusedError", "", ""]


async def test_an_answer_that_is_a_task_is_followed() -> None:
    """A source's own id as the answer is accepted like any other."""
    async with open_shop() as (octo, shop):
        shop.answers["p0"] = [task("completed", "video_1", url="http://127.0.0.1/x.mp4")]
        shop._born["video_1"], shop.sold["video_1"] = 0, "p0"
        found = await outcomes(octo.map(remixes(1)))
        assert errors(found) == [""]


async def test_a_session_that_follows_no_more_stops_the_batch() -> None:
    """Where ``max_tasks`` are followed, the rest is left for another run, not failed one by one."""
    async with open_shop(max_tasks=2) as (octo, shop):
        found = await outcomes(octo.map(remixes(9), concurrency=5))
        told = errors(found)
    assert "ConfigurationError" in told
    assert told.count("NotSubmittedError") > 3
    assert len(shop.posts) < 3


async def test_a_stop_calls_back_what_waits_for_its_permit() -> None:
    """With a slow `rate_limit` the rest is told at once, and uses no permit up."""
    async with open_shop(rate_limit=0.1) as (octo, shop):
        shop.seconds = 0
        batch = octo.map(remixes(50))
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(25)
        posts, now = len(shop.posts), asyncio.get_running_loop().time()
        assert posts < 5
        batch.stop()
        rest = 50 - posts
        while batch._engine is not None and batch._engine.held > posts:
            await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() == now
        assert errors(await waiting).count("NotSubmittedError") == rest
        assert len(shop.posts) == posts


async def test_a_429_of_another_item_of_the_key_is_not_ones_own(tmp_path: Path) -> None:
    """An item whose key is just being bought goes on by itself where that was put back."""

    async def twice() -> AsyncIterator[octoremix.RemixRequest]:
        (item,) = keyed(1)
        yield item
        await asyncio.sleep(1)
        yield item

    shop = Shop(answers={"p0": [LIMITED]}, late=2)
    async with open_shop(shop, journal=tmp_path / "journal") as (octo, _):
        assert errors(await outcomes(octo.map(twice()))) == ["", ""]
    assert len(shop.posts) == 2


@pytest.mark.parametrize("turns", range(6))
async def test_what_is_called_back_may_be_bought_by_another(turns: int, tmp_path: Path) -> None:
    """A job that the batch gives up is free at that very moment, for whoever asks for its key."""
    settings = {"journal": tmp_path / "journal", "submit_concurrency": 1}
    async with open_shop(Shop(late=10), **settings) as (octo, shop):
        first = asyncio.ensure_future(octo.submit("video_9", prompt="first"))
        await asyncio.sleep(1)
        batch = octo.map(keyed(1))
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(1)
        batch.stop()
        for _ in range(turns):
            await asyncio.sleep(0)
        future = await octo.submit("video_1", prompt="p0", key="k0")
        assert future.id == "task_1"
        assert set(errors(await waiting)) <= {"", "NotSubmittedError"}
        await first
        assert len(shop.posts) == 2


async def test_a_batch_that_is_stopped_gives_up_what_could_not_be_sent() -> None:
    """An item that waits to be sent once more is told at once that nothing was bought."""
    async with Shop().opened() as shop:
        shop.url = f"http://127.0.0.1:{refusing_port()}"
        async with session_at(shop) as octo:
            batch = octo.map(remixes(3))
            waiting = asyncio.ensure_future(outcomes(batch))
            await asyncio.sleep(0.5)
            batch.stop()
            before = asyncio.get_running_loop().time()
            assert errors(await waiting) == ["NotSubmittedError"] * 3
            assert asyncio.get_running_loop().time() == before


async def test_what_nobody_else_wants_any_more_is_not_sent_after_a_stop(tmp_path: Path) -> None:
    """Where another caller who waited for a job leaves after the stop, it is not bought either."""
    settings = {"journal": tmp_path / "journal", "submit_concurrency": 1}
    async with open_shop(Shop(late=10), **settings) as (octo, shop):
        first = asyncio.ensure_future(octo.submit("video_9", prompt="first"))
        await asyncio.sleep(1)
        batch = octo.map(keyed(1))
        waiting = asyncio.ensure_future(outcomes(batch))
        await asyncio.sleep(1)
        other = asyncio.ensure_future(octo.submit("video_1", prompt="p0", key="k0"))
        await asyncio.sleep(1)
        batch.stop()
        await asyncio.sleep(1)
        other.cancel()
        assert errors(await waiting) == ["NotSubmittedError"]
        await first
        assert len(shop.posts) == 1
