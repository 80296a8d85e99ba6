"""A caller's own `aiohttp.ClientSession` serves, whatever it is set to, and is never closed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from octoremix import (
    APIConnectionError,
    AuthenticationError,
    RetryPolicy,
    Session,
    SessionClosedError,
    SubmitOutcomeUnknownError,
    TaskNotFoundError,
)
from octoremix.testing import Emulator

from .raw_servers import KEY, RawServer, RecordingProxy, answering, http
from .scripted import ScriptedGateway, reply, task

ONCE = RetryPolicy(attempts=1)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(500)


def own_session(**settings: Any) -> aiohttp.ClientSession:
    with warnings.catch_warnings():
        # aiohttp 3.14 prefers another way to write what callers still use.
        warnings.simplefilter("ignore", DeprecationWarning)
        return aiohttp.ClientSession(**settings)


def basic_auth(name: str, password: str) -> aiohttp.BasicAuth:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as above
        return aiohttp.BasicAuth(name, password)


async def retry_middleware(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    return response if response.status == 200 else await handler(request)


async def complain(response: aiohttp.ClientResponse) -> None:
    raise AssertionError(f"nobody asked for this check of {response.status}")


SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "raise_for_status": lambda: {"raise_for_status": True},
    "a raise_for_status of its own": lambda: {"raise_for_status": complain},
    "default headers": lambda: {
        "headers": {
            "Authorization": "Bearer somebody-else",
            "Accept": "text/html",
            "Accept-Encoding": "br",
            "Content-Type": "text/plain",
            "User-Agent": "browser",
        }
    },
    "auth": lambda: {"auth": basic_auth("somebody", "else")},
    "cookies": lambda: {"cookies": {"session": "of somebody"}},
    "no decompression": lambda: {"auto_decompress": False},
    "a base URL": lambda: {"base_url": "http://elsewhere.example/api/"},
    "middlewares": lambda: {"middlewares": (retry_middleware,)},
    "skipped headers": lambda: {"skip_auto_headers": ["Content-Type", "User-Agent"]},
    "tracing": lambda: {"trace_configs": [aiohttp.TraceConfig()]},
    "HTTP/1.0": lambda: {"version": aiohttp.HttpVersion10},
    "a small read buffer": lambda: {"read_bufsize": 1},
}


def compressed(document: dict[str, Any]) -> Any:
    """An answer that is compressed, if the client asked for that in a way that it can read."""

    def answer(request: Any) -> Any:
        assert "gzip" in request.headers["Accept-Encoding"]
        body = gzip.compress(json.dumps(document).encode())
        return reply(body, headers={"Content-Encoding": "gzip"})(request)

    return answer


@pytest.mark.parametrize("name", SETTINGS)
async def test_its_settings_change_nothing_that_we_understand(name: str, tmp_path: Path) -> None:
    """Submit, poll, download, and the gateway's refusals are the same under any setting."""
    refusal = reply({"code": "task_not_exist", "message": "no"}, status=400)
    done = compressed({"id": "task_1", "status": "completed", "url": "https://cdn.example/1.mp4"})
    async with (
        ScriptedGateway(
            submits=[task("queued"), reply({"error": {"message": "no"}}, status=401)],
            polls=[done, refusal],
            contents=[reply(MP4, headers={"Content-Type": "video/mp4"})],
        ) as gateway,
        own_session(**SETTINGS[name]()) as own,
    ):
        async with Session(KEY, base_url=gateway.url, http=own, retry=ONCE) as octo:
            future = await octo.submit("video_1", prompt="snow")
            video = await future
            path = await octo.download(video, tmp_path / "video.mp4")
            with pytest.raises(TaskNotFoundError):
                await octo.retrieve("task_2")
            with pytest.raises(AuthenticationError):
                await octo.submit("video_1", prompt="snow")
        assert not own.closed
    assert path.read_bytes() == MP4
    assert [call.method for call in gateway.calls] == ["POST", "GET", "GET", "GET", "POST"]
    for call in gateway.calls:
        assert call.headers["Authorization"] == f"Bearer {KEY}"
        assert call.headers["User-Agent"].startswith("octoremix/")
    assert {call.headers["Content-Type"] for call in gateway.posts} == {"application/json"}
    assert gateway.posts[0].json["prompt"] == "snow"


async def test_its_time_outs_are_not_ours(tmp_path: Path) -> None:
    """How long a call may take is for our settings to say, however short the session's are."""

    async def late(request: Any) -> Any:
        await asyncio.sleep(20)
        if request.method == "POST" or not request.path.endswith("content"):
            return task("completed", url="https://cdn.example/1.mp4")(request)
        return reply(MP4, headers={"Content-Type": "video/mp4"})(request)

    short = aiohttp.ClientTimeout(total=1, connect=1, sock_connect=1, sock_read=1)
    async with (
        ScriptedGateway(submits=[late], polls=[late], contents=[late]) as gateway,
        own_session(timeout=short) as own,
    ):
        async with Session(KEY, base_url=gateway.url, http=own, retry=ONCE) as octo:
            future = await octo.submit("video_1", prompt="snow")
            await octo.download(await future, tmp_path / "video.mp4")


async def test_netrc_and_auth_give_way_to_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`trust_env` with a .netrc for the gateway's host neither replaces the key nor breaks a call."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("NO_PROXY", "*")
    async with (
        ScriptedGateway() as gateway,
        own_session(trust_env=True) as own,
    ):
        async with Session(KEY, base_url=gateway.url, http=own) as octo:
            await octo.retrieve("task_1")
        async with own.get(gateway.url) as plain:  # the file is one that aiohttp does read
            assert plain.status == 404
    ours, theirs = gateway.calls
    assert ours.headers["Authorization"] == f"Bearer {KEY}"
    assert theirs.headers["Authorization"].startswith("Basic ")


async def test_its_credentials_do_not_go_to_where_the_result_lies(tmp_path: Path) -> None:
    """On another origin neither the key nor the session's own authorisation is sent."""
    async with (
        ScriptedGateway(contents=[reply(MP4, headers={"Content-Type": "video/mp4"})]) as cdn,
        ScriptedGateway() as gateway,
        own_session(headers={"Authorization": "Bearer somebody-else"}) as own,
    ):
        gateway.polls = [task("completed", url=f"{cdn.url}/clip.mp4")]
        async with Session(KEY, base_url=gateway.url, http=own) as octo:
            await octo.download("task_1", tmp_path / "clip.mp4")
    assert "Authorization" not in cdn.calls[0].headers


async def test_a_middleware_that_sends_again_never_sees_a_paid_request() -> None:
    """The session's middlewares are not run, so that none of them repeats a POST."""
    async with (
        RawServer([answering(http(b"<html>busy</html>", status="503 Busy"))]) as server,
        own_session(middlewares=(retry_middleware,)) as own,
    ):
        async with Session(KEY, base_url=server.url, http=own, retry=ONCE) as octo:
            with pytest.raises(SubmitOutcomeUnknownError):
                await octo.submit("v", prompt="snow")
    assert len(server.calls) == 1


async def test_it_stays_open_when_our_session_ends_badly() -> None:
    """Neither an error in the body nor futures that are open make us close what is not ours."""
    async with ScriptedGateway(polls=[task("processing")]) as gateway, own_session() as own:
        with pytest.raises(ZeroDivisionError):
            async with Session(KEY, base_url=gateway.url, http=own) as octo:
                await octo.submit("v", prompt="snow")
                raise ZeroDivisionError
        assert not own.closed
        async with own.get(gateway.url) as response:
            assert response.status == 404


async def test_two_sessions_share_one() -> None:
    """One `aiohttp.ClientSession` may serve several keys at once without mixing them up."""
    async with Emulator(api_key="sk-emulator-a") as one, Emulator(api_key="sk-emulator-b") as two:
        async with own_session() as own:
            sessions = [Session(each.api_key, base_url=each.url, http=own) for each in (one, two)]
            async with sessions[0], sessions[1]:
                futures = [await octo.submit("video_1", prompt="snow") for octo in sessions]
                await asyncio.gather(*futures)
            assert not own.closed
    assert one.books.charged == two.books.charged == 1


async def test_a_closed_one_is_named() -> None:
    """A session that its owner closed is a `SessionClosedError` that says which session is meant."""
    async with ScriptedGateway() as gateway:
        own = own_session()
        async with Session(KEY, base_url=gateway.url, http=own, retry=ONCE) as octo:
            await octo.retrieve("task_1")
            await own.close()
            with pytest.raises(SessionClosedError, match="given as http= is closed"):
                await octo.retrieve("task_1")
            with pytest.raises(SessionClosedError, match="given as http= is closed"):
                await octo.submit("v", prompt="snow")
    assert len(gateway.calls) == 1


async def test_one_that_closes_in_the_middle_of_a_call_is_a_connection_error() -> None:
    """A call whose connection its owner closes ends with one of our errors."""

    async def stall(request: Any) -> Any:
        await own.close()
        await asyncio.Event().wait()

    async with ScriptedGateway(polls=[stall]) as gateway:
        own = own_session()
        async with Session(KEY, base_url=gateway.url, http=own, retry=ONCE) as octo:
            with pytest.raises(APIConnectionError):
                await octo.retrieve("task_1")


@contextlib.asynccontextmanager
async def proxied() -> AsyncIterator[RecordingProxy]:
    async with RecordingProxy([answering(http())]) as proxy:
        yield proxy


async def test_its_default_proxy_is_used() -> None:
    """A session that has a proxy of its own sends our calls through it, too."""
    async with proxied() as proxy, own_session(proxy=proxy.url) as own:
        async with Session(KEY, base_url="http://localhost:9", http=own, retry=ONCE) as octo:
            await octo.retrieve("task_1")
    assert proxy.calls[0].target == "http://localhost:9/v1/videos/task_1"


async def test_the_environment_is_its_own_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a session of the caller's the proxy variables count only if it trusts them itself."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with ScriptedGateway() as gateway, own_session() as own:
        async with Session(KEY, base_url=gateway.url, http=own, retry=ONCE) as octo:
            await octo.retrieve("task_1")
    assert len(gateway.calls) == 1


async def test_a_proxy_of_ours_wins_over_its_own() -> None:
    """`proxy=` beside `http=` decides for our calls."""
    async with proxied() as ours, own_session(proxy="http://127.0.0.1:9") as own:
        async with Session(
            KEY, base_url="http://localhost:9", http=own, proxy=ours.url, retry=ONCE
        ) as octo:
            await octo.retrieve("task_1")
    assert len(ours.calls) == 1
