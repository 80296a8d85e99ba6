"""A session with `rate_limit`: what counts, in which order, and who gives way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tenacity
from aiohttp import web
from attrs import define, field

import octoremix
from octoremix._pace import Pace

from .scripted import Answer, ScriptedGateway, after, reply, task

STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5, concurrency=50)
ONCE = octoremix.RetryPolicy(wait=tenacity.wait_fixed(1), attempts=1)
VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(100)


@define(eq=False)
class Arrivals:
    """When requests came, each with a letter for its kind; virtual time passes between them only.

    Attributes:
        all: Time and kind of each.
        prompts: Those of the submits, in order.
    """

    all: list[tuple[float, str]] = field(factory=list)
    prompts: list[str] = field(factory=list)

    @property
    def kinds(self) -> str:
        return "".join(kind for _, kind in self.all)

    def times(self, kind: str = "") -> list[float]:
        return [when for when, each in self.all if kind in each]

    def noting(self, kind: str, answer: Answer) -> Answer:
        async def noted(request: web.BaseRequest) -> web.StreamResponse:
            self.all.append((asyncio.get_running_loop().time(), kind))
            if kind == "S":
                self.prompts.append((await request.json())["prompt"])
            answered = answer(request)
            return answered if isinstance(answered, web.StreamResponse) else await answered

        return noted

    def assert_within(self, rate: float) -> None:
        times = self.times()
        for index, first in enumerate(times):
            within = [when for when in times[index:] if when <= first + 1 - 1e-6]
            assert len(within) <= math.floor(rate) + 1


NUMBERS = itertools.count()


def submitted(_: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"id": f"new_{next(NUMBERS)}", "status": "queued"})


def asked(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"id": request.path.split("/")[-1], "status": "processing"})


@asynccontextmanager
async def limited(
    rate: float | None,
    *,
    submits: Answer = submitted,
    polls: Answer = asked,
    contents: Answer = reply({}, status=404),  # noqa: B008  # it keeps nothing
    **settings: Any,
) -> AsyncIterator[tuple[octoremix.Session, Arrivals, ScriptedGateway]]:
    """A session with that limit, the arrivals at its gateway, and the gateway."""
    arrivals = Arrivals()
    async with ScriptedGateway(
        submits=[arrivals.noting("S", submits)],
        polls=[arrivals.noting("P", polls)],
        contents=[arrivals.noting("C", contents)],
    ) as gateway:
        given = {"poll": STEADY, "retry": ONCE, "submit_concurrency": 50, **settings}
        async with octoremix.Session("key", base_url=gateway.url, rate_limit=rate, **given) as octo:
            yield octo, arrivals, gateway


def track(octo: octoremix.Session, count: int) -> None:
    for number in range(count):
        octo.track(f"task_{number}")


@pytest.mark.parametrize("rate", [0, -1, True, "10", math.nan, math.inf, 10**400])
def test_a_rate_that_is_none_is_refused(rate: Any) -> None:
    """The limit is a number of requests above 0, or None."""
    with pytest.raises(octoremix.ConfigurationError, match="rate_limit must be a number of req"):
        octoremix.Session("key", rate_limit=rate)


@pytest.mark.parametrize("rate", [0.5, 1, 2.5, 20])
async def test_polls_keep_to_the_limit(rate: float) -> None:
    """However many tasks are due, no second sees more than the limit and one; none is forgotten."""
    async with limited(rate) as (octo, arrivals, gateway):
        track(octo, 30)
        await asyncio.sleep(120)
        arrivals.assert_within(rate)
        assert len(arrivals.all) == pytest.approx(min(115 * rate, 30 * 12), abs=0.05 * 115 + 2)
        assert len({call.path for call in gateway.calls}) == min(30, len(arrivals.all))


async def test_without_a_limit_all_start_at_once() -> None:
    """By default the number in flight is the only bound."""
    async with limited(None) as (octo, arrivals, _):
        track(octo, 30)
        await asyncio.sleep(6)
        assert arrivals.times() == [5.0] * 30


async def test_each_submit_has_a_permit_of_its_own() -> None:
    """Submits that come together start one by one, in the order in which they came."""
    async with limited(4) as (octo, arrivals, _):
        prompts = [f"prompt {number}" for number in range(20)]
        await asyncio.gather(*(octo.submit("video_1", prompt=prompt) for prompt in prompts))
        assert arrivals.prompts == prompts
        assert arrivals.times("S")[:3] == pytest.approx([0, 0.2, 0.45])
        assert arrivals.times("S")[-1] == pytest.approx(4.7)
        arrivals.assert_within(4)


async def test_permits_do_not_pile_up_while_nothing_is_sent() -> None:
    """After an idle hour a burst of submits is held to the limit as the first was."""
    async with limited(4) as (octo, arrivals, _):
        await asyncio.sleep(3600)
        await asyncio.gather(*(octo.submit("video_1", prompt="p") for _ in range(8)))
        arrivals.assert_within(4)
        assert arrivals.times()[-1] == pytest.approx(3601.7)


async def test_many_submits_that_wait_are_woken_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the wait costs grows with the submits, and not with the square of them."""
    asked_at = []

    def counted(self: Pace, now: float) -> float:
        asked_at.append(now)
        return submit_at(self, now)

    submit_at = Pace.submit_at
    monkeypatch.setattr(Pace, "submit_at", counted)
    async with limited(50, submit_concurrency=200) as (octo, arrivals, _):
        await asyncio.gather(*(octo.submit("video_1", prompt="p") for _ in range(200)))
        assert len(arrivals.times("S")) == 200
    assert len(asked_at) < 5 * 200


@pytest.mark.parametrize("leaving", [0, 3, 7])
async def test_a_submit_that_is_cancelled_gives_its_place_up(leaving: int) -> None:
    """Whoever leaves the line, those behind start as early as if it had never been there."""
    async with limited(1) as (octo, arrivals, _):
        await octo.submit("video_1", prompt="before")
        prompts = [f"prompt {number}" for number in range(8)]
        waiting = [asyncio.create_task(octo.submit("video_1", prompt=prompt)) for prompt in prompts]
        await asyncio.sleep(0.5)
        waiting[leaving].cancel()
        await asyncio.wait(waiting)
        del prompts[leaving]
        assert arrivals.prompts == ["before", *prompts]
        assert arrivals.times("S") == pytest.approx([0, *(0.95 + count for count in range(7))])


async def test_a_submit_that_is_cancelled_as_it_is_woken_loses_no_permit() -> None:
    """The permit that one is just told of goes to the next, if it is cancelled in that moment."""
    async with limited(1) as (octo, arrivals, _):
        await octo.submit("video_1", prompt="before")
        first, second = (
            asyncio.create_task(octo.submit("video_1", prompt=prompt)) for prompt in "ab"
        )
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(0.95, first.cancel)
        await asyncio.wait([first, second])
        assert arrivals.prompts == ["before", "b"]
        assert arrivals.times("S")[-1] == pytest.approx(0.95)


async def test_a_submit_comes_before_the_polls_that_are_overdue() -> None:
    """With more polls due than the limit allows, a submit has the next permit."""
    async with limited(1) as (octo, arrivals, _):
        track(octo, 60)
        await asyncio.sleep(30.5)
        await octo.submit("video_1", prompt="p")
        assert arrivals.times("S") == pytest.approx([30.95])
        assert len(arrivals.times("P")) == 26


async def test_endless_submits_leave_every_fourth_permit_to_polls() -> None:
    """Polls go on, at a quarter of the limit, while submits would take all of it."""
    async with limited(4) as (octo, arrivals, _):
        track(octo, 60)
        await asyncio.sleep(8)
        await asyncio.gather(*(octo.submit("video_1", prompt="p") for _ in range(60)))
        assert "SSSP" * 18 in arrivals.kinds
        arrivals.assert_within(4)


async def test_submits_alone_have_all_of_the_limit() -> None:
    """Where no poll is due, none of the permits is kept for one."""
    async with limited(4) as (octo, arrivals, _):
        octo.track("task_1")
        futures = (octo.submit("video_1", prompt="p") for _ in range(18))
        await asyncio.gather(*futures)
        assert arrivals.times("S")[-1] == pytest.approx(4.2)


async def test_submits_that_pause_leave_the_limit_to_polls() -> None:
    """A submit's 429 holds back submits, and polls do not give way to what may not start."""
    refused = reply({}, status=429, headers={"Retry-After": "60"})
    async with limited(1, submits=refused) as (octo, arrivals, _):
        with pytest.raises(octoremix.RateLimitError):
            await octo.submit("video_1", prompt="p")
        second = asyncio.create_task(octo.submit("video_1", prompt="p"))
        track(octo, 30)
        await asyncio.sleep(50)
        assert len(arrivals.times("P")) == 46
        with pytest.raises(octoremix.RateLimitError):
            await second
        assert arrivals.times("S") == pytest.approx([0, 60.45], abs=0.5)


async def test_a_retried_submit_takes_another_permit() -> None:
    """Each attempt is a request of its own."""
    retry = octoremix.RetryPolicy(wait=tenacity.wait_none(), attempts=3)
    refused = reply({}, status=429, headers={"Retry-After": "0.1"})
    async with limited(1, submits=refused, retry=retry) as (octo, arrivals, _):
        with pytest.raises(octoremix.RateLimitError):
            await octo.submit("video_1", prompt="p")
        assert arrivals.times("S") == pytest.approx([0, 0.95, 1.95], abs=0.3)
        arrivals.assert_within(1)


async def test_queries_count_and_wait_in_their_order() -> None:
    """`retrieve` takes permits of the same limit, and starts as early as it allows."""
    async with limited(2) as (octo, arrivals, gateway):
        await asyncio.gather(*(octo.retrieve(f"task_{number}") for number in range(10)))
        assert arrivals.times() == pytest.approx([0, *(0.45 + count / 2 for count in range(9))])
        paths = [call.path for call in gateway.calls]
        assert paths == [f"/v1/videos/task_{number}" for number in range(10)]


async def test_what_is_asked_about_the_key_counts(tmp_path: Path) -> None:
    """What a key has left, and what its log tells of jobs in doubt, take permits as well."""
    broken = reply("<html>", status=502)
    async with limited(1, submits=broken, journal=tmp_path / "journal.db") as (octo, arrivals, _):
        with pytest.raises(octoremix.SubmitOutcomeUnknownError):
            await octo.submit("video_1", prompt="p")
        for call in (octo.usage(), octo.in_doubt(evidence=True), octo.usage()):
            with contextlib.suppress(octoremix.OctoremixError):
                await call
        assert arrivals.kinds == "SCCC"
        assert arrivals.times() == pytest.approx([0, 0.95, 1.95, 2.95])


async def test_queries_and_polls_share_what_is_left() -> None:
    """Many callers of `retrieve` slow the polls down to half of the limit, not to nothing."""
    async with limited(2) as (octo, arrivals, gateway):
        track(octo, 100)
        await asyncio.sleep(10)
        seen = len(arrivals.all)
        await asyncio.gather(*(octo.retrieve("mine") for _ in range(20)))
        since = [call.path.endswith("/mine") for call in gateway.calls[seen:]]
        assert since.count(True) == 20
        assert since.count(False) == pytest.approx(20, abs=1)
        arrivals.assert_within(2)


async def test_a_query_waits_for_submits() -> None:
    """While submits wait, a query gets every fourth permit as polls do."""
    async with limited(1) as (octo, arrivals, _):
        waiting = [asyncio.create_task(octo.submit("video_1", prompt="p")) for _ in range(8)]
        await asyncio.sleep(0.1)
        await octo.retrieve("task_1")
        assert arrivals.kinds == "SSSSP"
        await asyncio.wait(waiting)


async def test_the_gateways_own_downloads_count_and_others_do_not(tmp_path: Path) -> None:
    """A link to the gateway's `/content` takes a permit; a link to elsewhere takes none."""

    def video(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=VIDEO, content_type="video/mp4")

    async with (
        limited(1, contents=video) as (octo, arrivals, _),
        ScriptedGateway(contents=[video]) as elsewhere,
    ):
        own = octoremix.Video(id="task_1", status=octoremix.TaskStatus.COMPLETED)
        other = octoremix.Video(
            id="task_2", status=octoremix.TaskStatus.COMPLETED, url=f"{elsewhere.url}/2.mp4"
        )
        for number in range(4):
            await octo.download(own, tmp_path / f"own{number}.mp4")
        assert arrivals.times("C") == pytest.approx([0, 0.95, 1.95, 2.95])
        for number in range(4):
            await octo.download(other, tmp_path / f"other{number}.mp4")
        assert asyncio.get_running_loop().time() == pytest.approx(2.95)
        assert len(elsewhere.calls) == 4


async def test_a_look_at_the_older_route_counts() -> None:
    """The look that follows a poll at once without a limit has to wait for its own permit."""
    failed = reply({"code": "success", "data": {"task_id": "task_1", "status": "FAILURE"}})
    policy = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5, stall_after=20)
    async with limited(0.5, polls=task("queued"), contents=failed, poll=policy) as (
        octo,
        arrivals,
        _,
    ):
        with pytest.raises(octoremix.RemixFailedError):
            await octo.track("task_1")
        assert arrivals.kinds == "PPPC"
        assert arrivals.times("C")[0] - arrivals.times("P")[-1] == pytest.approx(1.95)


async def test_a_look_without_a_permit_in_time_is_left_out() -> None:
    """A poll's good answer is not lost while its look waits: after 10 s the answer stands."""
    policy = octoremix.PollPolicy(wait=tenacity.wait_fixed(30), first_delay=5, stall_after=20)
    events: list[octoremix.Event] = []
    async with limited(0.05, polls=task("queued"), poll=policy, on_event=events.append) as (
        octo,
        arrivals,
        _,
    ):
        octo.track("task_1")
        await asyncio.sleep(50)
        assert arrivals.kinds == "PP"
        assert [event.error for event in events] == [None, None]
        await asyncio.sleep(60)
        arrivals.assert_within(0.05)


async def test_closing_frees_the_submits_that_wait() -> None:
    """A session that is closed keeps nobody in the line, and nothing of theirs was sent."""
    async with limited(0.01) as (octo, arrivals, _):
        await octo.submit("video_1", prompt="p")
        waiting = [asyncio.create_task(octo.submit("video_1", prompt="p")) for _ in range(3)]
        await asyncio.sleep(1)
        await octo.aclose()
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(ended, octoremix.SessionClosedError)
        assert arrivals.kinds == "S"
        assert asyncio.get_running_loop().time() == pytest.approx(1)


async def test_a_time_out_while_waiting_bought_nothing() -> None:
    """A caller who leaves before the permit comes is told that nothing was sent."""
    async with limited(0.01) as (octo, arrivals, _):
        await octo.submit("video_1", prompt="p")
        with pytest.raises(octoremix.APITimeoutError, match="nothing was bought"):
            await octo.remix("video_1", prompt="p", timeout=5)
        assert arrivals.kinds == "S"


async def test_a_limit_holds_while_answers_are_slow() -> None:
    """It counts starts: requests in flight don't hold others back."""
    async with limited(10, polls=after(20, asked)) as (octo, arrivals, _):
        track(octo, 40)
        await asyncio.sleep(20)
        assert arrivals.times()[-1] == pytest.approx(8.85)
        arrivals.assert_within(10)


async def test_after_a_429_the_limit_holds_as_before() -> None:
    """Polls that fell overdue in a pause start within the limit, and no sooner than the spread."""
    answers = iter([reply({}, status=429, headers={"Retry-After": "30"})])

    def moody(request: web.BaseRequest) -> Any:
        return next(answers, asked)(request)

    async with limited(3, polls=moody) as (octo, arrivals, _):
        track(octo, 60)
        await asyncio.sleep(120)
        arrivals.assert_within(3)
        first = arrivals.times()[0]
        out = [when for when in arrivals.times() if first < when < first + 30]
        assert out == []
