"""A result is looked for where it can be, again where that may help, and nowhere without end."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
import tenacity

from octoremix import (
    APIConnectionError,
    BadRequestError,
    ConfigurationError,
    DownloadError,
    NotAVideoError,
    OctoremixError,
    ResultExpiredError,
    RetryPolicy,
    ServerError,
    Session,
    TaskNotFoundError,
    TaskStatus,
    TooLargeError,
    Video,
)

from .raw_servers import KEY
from .scripted import Answer, ScriptedGateway, cut, reply, task

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(5000)
SECRET = "signature-0123456789"
PATIENT = RetryPolicy(attempts=4, wait=tenacity.wait_fixed(10))
CONTENT = "/v1/videos/task_1/content"
QUERY = "/v1/videos/task_1"


def content() -> Answer:
    return reply(MP4, headers={"Content-Type": "video/mp4"})


def session(gateway: Any, **settings: Any) -> Session:
    return Session(KEY, base_url=gateway.url, **{"retry": PATIENT} | settings)


def video(url: str | None = None) -> Video:
    return Video(id="task_1", status=TaskStatus.COMPLETED, url=url)


def paths(server: ScriptedGateway) -> list[str]:
    return [call.path for call in server.calls]


async def fails(octo: Session, source: Any, folder: Path) -> OctoremixError:
    with pytest.raises(OctoremixError) as caught:
        await octo.download(source, folder / "clip.mp4")
    assert list(folder.iterdir()) == []
    assert caught.value.id == "task_1"
    return caught.value


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_an_expired_link_is_refreshed(status: int, tmp_path: Path) -> None:
    """One more query tells the new link, which serves; the gateway's `/content` is not troubled."""
    async with ScriptedGateway() as cdn, ScriptedGateway() as gateway:
        cdn.contents = [reply(status=status), content()]
        gateway.polls = [task("completed", video_url=f"{cdn.url}/new.mp4?{SECRET}")]
        async with session(gateway) as octo:
            path = await octo.download(video(f"{cdn.url}/old.mp4"), tmp_path / "clip.mp4")
    assert path.read_bytes() == MP4
    assert paths(cdn) == ["/old.mp4", "/new.mp4"]
    assert paths(gateway) == [QUERY]
    assert cdn.calls[1].query == SECRET
    assert not any("Authorization" in call.headers for call in cdn.calls)


@pytest.mark.parametrize(
    "answer",
    [
        reply({"code": "task_not_exist", "message": "no"}, status=400),
        task("processing", video_url="http://127.0.0.1:9/early.mp4"),
        task("completed"),
        task("completed", video_url="https://"),
    ],
    ids=["refused", "unfinished", "without", "malformed"],
)
async def test_where_no_new_link_is_told_content_is_next(
    answer: Answer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A query that brings nothing new does not end the search."""
    caplog.set_level(logging.DEBUG, logger="octoremix")
    async with ScriptedGateway() as cdn, ScriptedGateway(contents=[content()]) as gateway:
        gateway.polls = [answer]
        async with session(gateway) as octo:
            await octo.download(video(f"{cdn.url}/old.mp4"), tmp_path / "clip.mp4")
    assert paths(cdn) == ["/old.mp4"]
    assert paths(gateway) == [QUERY, CONTENT]
    assert "127.0.0.1:9" not in caplog.text


@pytest.mark.parametrize("kind", ["the same link", "the gateway's content"])
async def test_a_place_that_is_known_is_not_asked_again(kind: str, tmp_path: Path) -> None:
    """A refreshed link that is the old one, or `/content` itself, is one place and not two."""
    async with ScriptedGateway() as cdn, ScriptedGateway(contents=[content()]) as gateway:
        old = f"{cdn.url}/old.mp4?{SECRET}"
        new = old if kind == "the same link" else f"{gateway.url}{CONTENT}"
        gateway.polls = [task("completed", video_url=new)]
        async with session(gateway) as octo:
            await octo.download(video(old), tmp_path / "clip.mp4")
    assert paths(cdn) == ["/old.mp4"]
    assert paths(gateway) == [QUERY, CONTENT]


async def test_a_link_is_refreshed_once(tmp_path: Path) -> None:
    """New links that have expired, too, lead to `/content` and not to query after query."""
    async with ScriptedGateway() as cdn, ScriptedGateway() as gateway:
        cdn.contents = [reply(status=403)]
        gateway.polls = [
            task("completed", video_url=f"{cdn.url}/{number}.mp4") for number in range(9)
        ]
        gateway.contents = [reply("<html>", status=502), content()]
        async with session(gateway) as octo:
            await octo.download(video(f"{cdn.url}/old.mp4"), tmp_path / "clip.mp4")
    assert paths(cdn) == ["/old.mp4", "/0.mp4"]
    assert paths(gateway) == [QUERY, CONTENT, CONTENT]


async def test_a_link_to_content_is_asked_once(tmp_path: Path) -> None:
    """New-api gives its own `/content` for a link: that is one place."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        error = await fails(octo, video(f"{gateway.url}{CONTENT}"), tmp_path)
        assert isinstance(error, ResultExpiredError)
        assert paths(gateway) == [CONTENT]


async def test_content_that_lags_behind_is_waited_for(tmp_path: Path) -> None:
    """502 and "not completed yet" after the end: 4, 8, 15 and 30 s, then it is there."""
    loop = asyncio.get_running_loop()
    not_yet = reply({"error": {"message": "Task is not completed yet", "type": "x"}}, status=400)
    bad = reply({"error": {"message": "Failed to fetch", "type": "server_error"}}, status=502)
    async with ScriptedGateway(contents=[not_yet, bad, not_yet, bad, content()]) as gateway:
        async with session(gateway, retry=RetryPolicy()) as octo:
            await octo.download("task_1", tmp_path / "clip.mp4")
    assert loop.time() == pytest.approx(4 + 8 + 15 + 30, abs=1)
    assert paths(gateway) == [QUERY, *[CONTENT] * 5]


@pytest.mark.parametrize(("status", "kind"), [(502, ServerError), (400, BadRequestError)])
async def test_content_that_stays_away_is_told(
    status: int, kind: type[OctoremixError], tmp_path: Path
) -> None:
    """After the last pause the gateway's own words are the error."""
    refusal = reply({"error": {"message": "gone", "type": "x"}}, status=status)
    policy = RetryPolicy(attempts=3, content_wait=tenacity.wait_fixed(100))
    loop = asyncio.get_running_loop()
    async with ScriptedGateway(contents=[refusal]) as gateway:
        async with session(gateway, retry=policy) as octo:
            assert type(await fails(octo, video(), tmp_path)) is kind
        assert len(gateway.calls) == 3
    assert loop.time() == pytest.approx(200, abs=1)


@pytest.mark.parametrize("status", [408, 429, 500, 503, 522])
async def test_a_busy_cdn_is_asked_again_first(status: int, tmp_path: Path) -> None:
    """429 and 5xx of a link pass; the gateway need not carry the bytes for that."""
    loop = asyncio.get_running_loop()
    async with ScriptedGateway() as cdn, ScriptedGateway(contents=[content()]) as gateway:
        cdn.contents = [
            reply(status=status),
            reply(status=status, headers={"Retry-After": "70"}),
            reply(status=status, headers={"Retry-After": "3"}),
            content(),
        ]
        async with session(gateway) as octo:
            await octo.download(video(f"{cdn.url}/clip.mp4"), tmp_path / "clip.mp4")
    assert loop.time() == pytest.approx(10 + 70 + 10, abs=1)
    assert gateway.calls == []


async def test_a_cdn_that_stays_busy_is_left(tmp_path: Path) -> None:
    """After the policy's attempts `/content` has attempts of its own, and they do not multiply."""
    async with ScriptedGateway() as cdn, ScriptedGateway() as gateway:
        cdn.contents = [reply(status=503)]
        gateway.contents = [reply(status=502)]
        async with session(gateway) as octo:
            error = await fails(octo, video(f"{cdn.url}/clip.mp4"), tmp_path)
    assert isinstance(error, DownloadError)
    assert (error.status, error.retry_after) == (503, None)
    assert error.url == f"{cdn.url}/clip.mp4"
    assert len(cdn.calls) == len(gateway.calls) == 4
    assert "502" in error.__notes__[0]


async def test_a_cdn_that_is_not_there_does_not_delay(tmp_path: Path) -> None:
    """Where nobody answers at the link, `/content` is asked at once."""
    loop = asyncio.get_running_loop()
    async with ScriptedGateway(contents=[content()]) as gateway, session(gateway) as octo:
        await octo.download(video("http://127.0.0.1:9/clip.mp4"), tmp_path / "clip.mp4")
    assert loop.time() < 1


async def test_a_video_that_is_too_large_is_so_everywhere(tmp_path: Path) -> None:
    """What `max_size` forbids at the link is not tried once more at `/content`."""
    async with ScriptedGateway(contents=[content()]) as cdn:
        async with ScriptedGateway(contents=[content()]) as gateway, session(gateway) as octo:
            with pytest.raises(TooLargeError) as caught:
                link = video(f"{cdn.url}/clip.mp4")
                await octo.download(link, tmp_path / "clip.mp4", max_size=1000)
            assert gateway.calls == []
    assert caught.value.id == "task_1"
    assert caught.value.url == f"{cdn.url}/clip.mp4"
    assert list(tmp_path.iterdir()) == []


async def test_a_cdn_that_is_not_there_is_asked_again_when_nothing_else_serves(
    tmp_path: Path,
) -> None:
    """An unreachable link keeps its attempts, with pauses, when `/content` is no help."""
    loop = asyncio.get_running_loop()
    async with ScriptedGateway() as gateway:
        # aiohttp itself asks once more where a connection ends before its answer.
        async with ScriptedGateway(contents=[*[cut] * 4, content()]) as cdn:
            async with session(gateway) as octo:
                await octo.download(video(f"{cdn.url}/clip.mp4"), tmp_path / "clip.mp4")
    assert loop.time() == pytest.approx(20, abs=1)
    assert paths(gateway) == [CONTENT]  # it was asked once: a 404 does not pass


async def test_attempts_of_all_kinds_are_bounded_for_each_place(tmp_path: Path) -> None:
    """Cuts, refusals and lasting silence in turn: no place is asked more often than is allowed."""
    kinds = [cut, reply(status=503), reply(b"", headers={"Content-Type": "video/mp4"})]
    for first in range(3):
        script = [kinds[(first + number) % 3] for number in range(60)]
        async with ScriptedGateway(contents=script) as cdn:
            async with ScriptedGateway(contents=list(script)) as gateway, session(gateway) as octo:
                await fails(octo, video(f"{cdn.url}/clip.mp4"), tmp_path)
                assert len(cdn.calls) <= 2 * 4
                assert len(gateway.calls) <= 2 * 4


async def test_what_is_unknown_there_is_not_asked_for_again(tmp_path: Path) -> None:
    """A task of somebody else's is told as such at once."""
    refusal = reply({"error": {"message": "Task not found", "type": "x"}}, status=404)
    async with ScriptedGateway(contents=[refusal]) as gateway, session(gateway) as octo:
        error = await fails(octo, video(), tmp_path)
        assert len(gateway.calls) == 1
    assert isinstance(error, TaskNotFoundError)
    assert (error.status, error.message, error.from_gateway) == (404, "Task not found", True)


async def test_each_failure_is_told_in_a_note_and_in_the_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One error is raised; what the other places said is not lost, and shows no permission."""
    caplog.set_level(logging.DEBUG, logger="octoremix")
    async with ScriptedGateway(contents=[reply("<html>log in</html>")]) as cdn:
        gateway = ScriptedGateway(contents=[reply("<html>also</html>")])
        async with gateway, session(gateway) as octo:
            error = await fails(octo, video(f"{cdn.url}/clip.mp4?{SECRET}"), tmp_path)
    assert isinstance(error, NotAVideoError)
    assert error.url == f"{gateway.url}{CONTENT}"
    (note,) = error.__notes__
    assert f"{cdn.url}/clip.mp4 brought text/html" in note
    assert f"{cdn.url}/clip.mp4" in caplog.text
    assert SECRET not in caplog.text + note


async def test_a_refusal_of_the_query_is_logged(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A new link that could not be asked for is told to whoever looks for the reason."""
    caplog.set_level(logging.DEBUG, logger="octoremix")
    async with ScriptedGateway(contents=[reply(status=403)]) as cdn:
        async with ScriptedGateway(polls=[reply({"message": "no"}, status=401)]) as gateway:
            async with session(gateway) as octo:
                error = await fails(octo, video(f"{cdn.url}/clip.mp4"), tmp_path)
    assert isinstance(error, ResultExpiredError)
    assert "no new link for task 'task_1'" in caplog.text


@pytest.mark.parametrize("max_size", [0, -1, 1.5, "1", True])
async def test_a_limit_must_be_a_number_of_bytes(max_size: Any, tmp_path: Path) -> None:
    """What is no limit is refused before any request."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        with pytest.raises(ConfigurationError, match="max_size"):
            await octo.download("task_1", tmp_path / "clip.mp4", max_size=max_size)
        with pytest.raises(ConfigurationError, match="max_size"):
            async with octo.open("task_1", max_size=max_size):
                pass
        assert gateway.calls == []


async def test_a_strategy_that_gives_nonsense_is_named(tmp_path: Path) -> None:
    """The pause of `content_wait` is checked as every other."""
    with pytest.raises(ConfigurationError, match="content_wait must be a tenacity wait strategy"):
        RetryPolicy(content_wait=5)  # type: ignore[arg-type]
    policy = RetryPolicy(content_wait=lambda _: -1.0)
    async with ScriptedGateway(contents=[reply(status=502)]) as gateway:
        async with session(gateway, retry=policy) as octo:
            with pytest.raises(ConfigurationError, match="wait strategy of RetryPolicy returned"):
                await octo.download(video(), tmp_path / "clip.mp4")


async def test_a_link_that_can_not_be_reached_is_a_connection_error(tmp_path: Path) -> None:
    """Where neither the link nor `/content` is there, the network's own error comes out."""
    async with ScriptedGateway() as gateway:
        url = gateway.url
    octo = Session(KEY, base_url=url, retry=RetryPolicy(attempts=2, wait=tenacity.wait_fixed(1)))
    async with octo:
        assert isinstance(await fails(octo, video(f"{url}/x.mp4"), tmp_path), APIConnectionError)
