"""One submit is at most one POST, and what may have been paid for is never forgotten."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
import tenacity
from aiohttp import web

import octoremix

from .scripted import Answer, ScriptedGateway, cut, reply, task

QUICK = octoremix.RetryPolicy(wait=tenacity.wait_fixed(1), attempts=3)


def session(gateway: ScriptedGateway, **settings: Any) -> octoremix.Session:
    return octoremix.Session("key", base_url=gateway.url, **{"retry": QUICK, **settings})


async def silent(_: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(10_000)
    return web.Response()


def truncated(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=b'{"id": "task_1", "sta', content_type="application/json")


def envelope(status: int, code: str = "do_request_failed") -> Answer:
    return reply({"code": code, "message": "no", "data": None}, status=status)


async def test_the_request_is_what_the_gateway_documents() -> None:
    """The body holds prompt, model and extra; the header the key; the path the source's id."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        future = await octo.submit(
            "grok:48/a b", prompt="牛飞到海里去了", model="grok-video-3", extra={"size": "720P"}
        )
    (post,) = gateway.posts
    assert post.path == "/v1/videos/grok%3A48%2Fa%20b/remix"
    assert post.json == {"prompt": "牛飞到海里去了", "model": "grok-video-3", "size": "720P"}
    assert post.headers["Authorization"] == "Bearer key"
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["Accept"] == "application/json"
    assert post.headers["Accept-Language"] == "en"
    assert post.headers["User-Agent"] == f"octoremix/{octoremix.__version__}"
    assert future.id == "task_1"
    assert future.status is octoremix.TaskStatus.QUEUED
    assert future.request is not None
    assert future.request.prompt == "牛飞到海里去了"


async def test_the_id_is_logged_before_anything_else(caplog: pytest.LogCaptureFixture) -> None:
    """The id that was paid for is in the log at INFO, escaped."""
    caplog.set_level(logging.INFO, "octoremix")
    async with ScriptedGateway(submits=[task("queued", "task\n1")]) as gateway:
        async with session(gateway) as octo:
            await octo.submit("video_1", prompt="snow")
    assert r"accepted: task task\n1 remixes video video_1" in caplog.messages


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        truncated,
        reply("<html>ok</html>"),
        reply("<html>bad gateway</html>", status=502),
        reply("<html>time-out</html>", status=504),
        reply("<html>time-out</html>", status=524),
        reply("<html>forbidden</html>", status=403),
        reply(b"", status=500),
        reply(b""),
        reply([], status=200),
        reply({"object": "video", "status": "queued"}),
        reply({"error": {"message": "Panic detected", "type": "new_api_panic"}}, status=500),
        reply({"detail": "upstream"}, status=502),
        silent,
    ],
)
async def test_an_unclear_answer_is_sent_once_and_told_as_such(fault: Answer) -> None:
    """Anything but a clear answer is one POST and `SubmitOutcomeUnknownError`."""
    before = datetime.now(UTC)
    async with ScriptedGateway(submits=[fault, task("queued")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(
                octoremix.SubmitOutcomeUnknownError, match="may be billed"
            ) as caught:
                await octo.submit("video_1", prompt="snow", extra={"size": "720P"})
            await asyncio.sleep(1000)
        assert len(gateway.posts) == 1
    error = caught.value
    assert error.request == octoremix.RemixRequest(
        video_id="video_1", prompt="snow", extra={"size": "720P"}
    )
    assert error.sent_at is not None
    assert before <= error.sent_at <= datetime.now(UTC)


async def test_an_unclear_answer_tells_its_request_id() -> None:
    """What the gateway calls the request is in the error, to ask its support for."""
    fault = reply("<html></html>", status=502, headers={"X-Oneapi-Request-Id": "2026abc"})
    async with ScriptedGateway(submits=[fault]) as gateway, session(gateway) as octo:
        with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="2026abc") as caught:
            await octo.submit("video_1", prompt="snow")
    assert caught.value.request_id == "2026abc"


async def test_an_html_page_asks_whether_the_base_url_is_right() -> None:
    """A page where JSON belongs most often means a wrong address, and the error says so."""
    async with ScriptedGateway(submits=[reply("<html>")], polls=[reply("<html>")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="base URL right"):
                await octo.submit("video_1", prompt="snow")
            with pytest.raises(octoremix.InvalidResponseError, match="base URL right"):
                await octo.retrieve("task_1")


@pytest.mark.parametrize(
    ("refusal", "kind", "safe"),
    [
        (envelope(400, "invalid_request"), octoremix.BadRequestError, True),
        (envelope(400, "task_not_exist"), octoremix.TaskNotFoundError, True),
        (reply({"error": {"message": "no"}}, status=401), octoremix.AuthenticationError, True),
        (envelope(403, "insufficient_user_quota"), octoremix.QuotaExceededError, True),
        (reply({"error": {"message": "no"}}, status=403), octoremix.PermissionDeniedError, True),
        (envelope(500), octoremix.ServerError, True),
        (envelope(502, "fail_to_fetch_task"), octoremix.ServerError, True),
        (envelope(504, "fail_to_fetch_task"), octoremix.ServerError, False),
        (envelope(524, "fail_to_fetch_task"), octoremix.ServerError, False),
        (envelope(202, "fail_to_fetch_task"), octoremix.APIError, True),
        (reply({"detail": "no"}, status=422), octoremix.BadRequestError, True),
    ],
)
async def test_a_clear_refusal_is_a_typed_error(
    refusal: Answer, kind: type[octoremix.APIError], safe: bool
) -> None:
    """A refusal in the gateway's own words is sent once, and says whether it may be sent again."""
    async with ScriptedGateway(submits=[refusal, task("queued")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(kind) as caught:
                await octo.submit("video_1", prompt="snow")
        assert len(gateway.posts) == 1
    assert caught.value.safe_to_resubmit is safe


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirected_submit_is_not_followed(status: int) -> None:
    """No redirect re-sends a POST or turns it into a GET; the error names the target."""
    moved = reply(status=status, headers={"Location": "/elsewhere?token=secret"})
    async with ScriptedGateway(submits=[moved, task("queued")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(
                octoremix.UnexpectedRedirectError, match="to /elsewhere, which"
            ) as caught:
                await octo.submit("video_1", prompt="snow")
        assert [call.method for call in gateway.calls] == ["POST"]
    assert caught.value.location == "/elsewhere"
    assert caught.value.safe_to_resubmit is (status in {307, 308})


@pytest.mark.parametrize(
    "limited",
    [envelope(429), reply(b"", status=429), reply("<html>slow down</html>", status=429)],
)
async def test_a_429_of_any_body_is_sent_again(limited: Answer) -> None:
    """A 429 bought nothing: the submit is repeated after a pause, and succeeds."""
    async with ScriptedGateway(submits=[limited, limited, task("queued")]) as gateway:
        async with session(gateway) as octo:
            await octo.submit("video_1", prompt="snow")
            assert len(gateway.posts) == 3
            assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)


async def test_a_429_holds_the_other_submits_back() -> None:
    """While one submit's 429 asks to wait, no other is sent; polls go on."""
    limited = reply(status=429, headers={"Retry-After": "60"})
    async with ScriptedGateway(submits=[limited, task("queued")]) as gateway:
        async with session(gateway) as octo:
            octo.track("task_7")
            first = asyncio.ensure_future(octo.submit("video_1", prompt="snow"))
            await asyncio.sleep(1)
            second = asyncio.ensure_future(octo.submit("video_1", prompt="rain"))
            await asyncio.sleep(58)
            assert len(gateway.posts) == 1
            assert len(gateway.gets) == 1
            await asyncio.gather(first, second)


async def test_a_429_without_end_is_raised() -> None:
    """After its attempts a submit that is always refused raises the refusal."""
    async with ScriptedGateway(submits=[envelope(429)]) as gateway, session(gateway) as octo:
        with pytest.raises(octoremix.RateLimitError) as caught:
            await octo.submit("video_1", prompt="snow")
        assert caught.value.safe_to_resubmit
        assert len(gateway.posts) == 3


async def test_a_connection_that_was_never_made_is_tried_again() -> None:
    """A refused connection bought nothing, and the error says that nothing was sent."""
    async with ScriptedGateway() as gateway:
        url = gateway.url
    async with octoremix.Session("key", base_url=url, retry=QUICK) as octo:
        with pytest.raises(octoremix.APIConnectionError, match="can't connect"):
            await octo.submit("video_1", prompt="snow")
        assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.1)


async def test_never_means_never() -> None:
    """`submit="never"` does not even repeat what bought nothing."""
    policy = octoremix.RetryPolicy(submit="never")
    async with ScriptedGateway(submits=[envelope(429)]) as gateway:
        async with session(gateway, retry=policy) as octo:
            with pytest.raises(octoremix.RateLimitError):
                await octo.submit("video_1", prompt="snow")
        assert len(gateway.posts) == 1


async def test_always_buys_again_what_may_be_bought() -> None:
    """`submit="always"` repeats an unclear outcome, as its documentation warns."""
    policy = octoremix.RetryPolicy(submit="always", wait=tenacity.wait_fixed(1))
    async with ScriptedGateway(submits=[cut, silent, task("queued")]) as gateway:
        async with session(gateway, retry=policy) as octo:
            await octo.submit("video_1", prompt="snow")
        assert len(gateway.posts) == 3


async def test_an_unanswered_submit_ends_after_its_own_time_out() -> None:
    """A POST waits longer than a poll: 120 s, which outlasts an edge's own 100 s."""
    async with ScriptedGateway(submits=[silent]) as gateway, session(gateway) as octo:
        with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="no answer within 120 s"):
            await octo.submit("video_1", prompt="snow")
        assert asyncio.get_running_loop().time() == pytest.approx(120, abs=0.1)


async def test_a_reply_with_the_sources_id_is_warned_about_and_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A gateway that echoes the source's id gets a warning, and the job is not lost."""
    async with ScriptedGateway(submits=[task("queued", "video_1")]) as gateway:
        async with session(gateway) as octo:
            future = await octo.submit("video_1", prompt="snow")
            assert future.id == "video_1"
            await future
    assert "the source's own id video_1" in caplog.text


async def test_a_future_as_the_source_is_awaited_first() -> None:
    """A remix of a remix is sent when its source is done, and holds no slot until then."""
    polls = [task("queued"), task("completed")]
    submits = [task("queued", "task_1"), task("queued", "task_2"), task("queued", "task_3")]
    async with ScriptedGateway(submits=submits, polls=polls) as gateway:
        async with session(gateway, submit_concurrency=1) as octo:
            first = await octo.submit("video_1", prompt="snow")
            chained = asyncio.ensure_future(octo.submit(first, prompt="rain"))
            await asyncio.sleep(1)
            await octo.submit("video_2", prompt="fog")
            assert len(gateway.posts) == 2
            assert (await chained).id == "task_3"
            assert first.done()
        assert gateway.posts[-1].path == "/v1/videos/task_1/remix"


async def test_a_source_that_fails_buys_nothing() -> None:
    """If the source's future fails, its remix is not sent and raises the source's error."""
    async with ScriptedGateway(polls=[task("failed")]) as gateway, session(gateway) as octo:
        first = await octo.submit("video_1", prompt="snow")
        with pytest.raises(octoremix.RemixFailedError):
            await octo.submit(first, prompt="rain")
        assert len(gateway.posts) == 1


async def test_a_video_as_the_source() -> None:
    """A `Video` stands for its id."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        await octo.submit(octoremix.Video(id="video_9"), prompt="snow")
    assert gateway.posts[0].path == "/v1/videos/video_9/remix"


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"video": "holiday.mp4"}, "only videos made on the gateway"),
        ({"video": ".."}, "URL"),
        ({"video": None}, "must be a str"),
        ({"prompt": " "}, "prompt is empty"),
        ({"model": ""}, "remix model"),
        ({"extra": {"prompt": "x"}}, "pass prompt= itself"),
        ({"extra": {"n": float("nan")}}, "JSON"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": "soon"}, "deadline"),
    ],
)
async def test_bad_input_is_refused_before_anything_is_sent(
    arguments: dict[str, Any], fix: str
) -> None:
    """A malformed argument is a ConfigurationError that names the fix; nothing is sent."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        given = {"video": "video_1", "prompt": "snow", **arguments}
        with pytest.raises(octoremix.ConfigurationError, match=fix):
            await octo.submit(**given)
        assert gateway.calls == []


async def test_seconds_are_sent_as_a_string() -> None:
    """The gateway refuses a number of seconds, so it is written as a string."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        await octo.submit("video_1", prompt="snow", extra={"seconds": 8, "audio": True})
    assert json.loads(gateway.posts[0].body)["seconds"] == "8"
    assert json.loads(gateway.posts[0].body)["audio"] is True


@pytest.mark.parametrize(
    ("model", "extra", "warned"),
    [
        ("veo_3_1-extend", {}, []),
        ("grok-video-3", {"size": "720P", "aspect_ratio": "2:3"}, []),
        ("grok-video-3", {"size": "720p", "aspect_ratio": "2:3"}, ["takes size of 720P, 1080P"]),
        (
            "grok-video-3",
            {"size": None},
            ["takes size of 720P, 1080P, not 'None'", "wants aspect_ratio in extra, one of 2:3, 3"],
        ),
    ],
)
async def test_what_a_channel_may_not_like_is_warned_about_and_sent(
    model: str, extra: dict[str, str], warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A family's documented fields are checked for one warning only: the gateway decides."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        for _ in range(3):
            await octo.submit("video_1", prompt="snow", model=model, extra=extra)
    assert gateway.posts[0].json == {"prompt": "snow", "model": model, **extra}
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == len(warned)
    assert all(part in message for part, message in zip(warned, said, strict=True))


async def test_no_time_at_all_buys_nothing() -> None:
    """Where the caller's time is over before the submit begins, nothing is sent."""
    async with ScriptedGateway() as gateway:
        async with octoremix.Session("key", base_url=gateway.url) as octo:
            await asyncio.sleep(1)
            with pytest.raises(octoremix.APITimeoutError, match="before anything was sent"):
                await octo.remix("video_1", prompt="snow", timeout=1e-300)
        assert gateway.calls == []
