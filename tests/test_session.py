"""Making, asking and looking at a session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tenacity

import octoremix
from octoremix.testing import Emulator

from .scripted import Answer, ScriptedGateway, cut, reply, task

QUICK = octoremix.RetryPolicy(wait=tenacity.wait_fixed(1), attempts=3)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTOPUSX_API_KEY", raising=False)
    monkeypatch.delenv("OCTOPUSX_BASE_URL", raising=False)


async def test_the_main_job_end_to_end(tmp_path: Any) -> None:
    """Submit, await, download: one charge, a whole file, and nothing is followed afterwards."""
    async with Emulator(duration=60, content_size=300_000) as gateway:
        async with octoremix.Session(gateway.api_key, base_url=gateway.url) as octo:
            future = await octo.submit("video_123", prompt="make it snow")
            assert future.id
            assert set(octo.pending) == {future.id}
            video = await future
            path = await octo.download(video, tmp_path / "snow.mp4")
            assert octo.stats.tasks_followed == 0
        assert path.stat().st_size == 300_000
        assert gateway.books.charged == 1
        assert gateway.books.polls[future.id] == octo.stats.polls_sent
        # Few polls, soon known: at 5, 15, 28, 45 and 67 s, a fifth more or less.
        assert 4 <= octo.stats.polls_sent <= 7


async def test_remix_is_submit_and_wait() -> None:
    """`remix` returns the completed video, or raises what happened instead."""
    async with ScriptedGateway(polls=[task("completed"), task("failed")]) as gateway:
        async with octoremix.Session("key", base_url=gateway.url) as octo:
            video = await octo.remix("video_1", prompt="snow")
            assert video.status is octoremix.TaskStatus.COMPLETED
            with pytest.raises(octoremix.RemixFailedError):
                await octo.remix("video_1", prompt="snow", timeout=100)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_key_and_address_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """`OCTOPUSX_API_KEY` and `OCTOPUSX_BASE_URL` serve where no argument is given."""
    async with ScriptedGateway() as gateway:
        monkeypatch.setenv("OCTOPUSX_API_KEY", "key-of-environment")
        monkeypatch.setenv("OCTOPUSX_BASE_URL", gateway.url + suffix)
        async with octoremix.Session() as octo:
            await octo.retrieve("task_1")
        (call,) = gateway.calls
        assert call.path == "/v1/videos/task_1"
        assert call.headers["Authorization"] == "Bearer key-of-environment"


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over the environment."""
    monkeypatch.setenv("OCTOPUSX_API_KEY", "bad key")
    monkeypatch.setenv("OCTOPUSX_BASE_URL", "nonsense")
    octo = octoremix.Session("key", base_url="https://gateway.example/octopus/v1")
    assert repr(octo) == ("<octoremix.Session at https://gateway.example/octopus: follows 0 tasks>")


def test_the_default_address() -> None:
    """Without any address the vendor's own is meant."""
    assert "https://octopusx.ai" in repr(octoremix.Session("key"))


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"api_key": None}, "OCTOPUSX_API_KEY"),
        ({"api_key": "  "}, "OCTOPUSX_API_KEY"),
        ({"api_key": 7}, "OCTOPUSX_API_KEY"),
        ({"api_key": "Bearer key"}, "leave that word out"),
        ({"api_key": "two words"}, "no key has"),
        ({"base_url": "octopusx.ai"}, "OCTOPUSX_BASE_URL"),
        ({"base_url": "https://octopusx.ai/v1/videos/x/remix"}, "one call's address"),
        ({"request_timeout": 0}, "request_timeout"),
        ({"submit_timeout": -1}, "submit_timeout"),
        ({"submit_concurrency": 0}, "submit_concurrency"),
        ({"max_tasks": True}, "max_tasks"),
        ({"proxy": "socks5://127.0.0.1:1"}, "HTTP proxy"),
        ({"headers": {"Authorization": "x"}}, "api_key="),
        ({"poll": 10}, "PollPolicy"),
        ({"retry": 3}, "RetryPolicy"),
        ({"http": "session"}, "aiohttp.ClientSession"),
        ({"on_event": "print"}, "on_event"),
    ],
)
def test_bad_settings_are_refused_when_the_session_is_made(
    arguments: dict[str, Any], fix: str
) -> None:
    """A missing or malformed setting is a ConfigurationError, also a ValueError, with its fix."""
    with pytest.raises(octoremix.ConfigurationError, match=fix) as caught:
        octoremix.Session(**{"api_key": "key", **arguments})
    assert isinstance(caught.value, ValueError)


def test_it_is_made_without_a_loop_and_used_in_one() -> None:
    """Making a session needs no loop; using it outside of one is refused in a sentence."""
    octo = octoremix.Session("key")
    with pytest.raises(octoremix.ConfigurationError, match="coroutine"):
        octo.track("task_1")
    asyncio.run(octo.aclose())
    assert "closed" in repr(octo)


async def test_nothing_works_after_the_end() -> None:
    """A closed session says that it is closed."""
    async with octoremix.Session("key") as octo:
        pass
    for use in (octo.retrieve("task_1"), octo.submit("video_1", prompt="snow"), octo.__aenter__()):
        with pytest.raises(octoremix.SessionClosedError, match="make a new one"):
            await use


async def test_retrieve_asks_once_and_returns_any_status() -> None:
    """`retrieve` is one query, whatever the task's status."""
    async with ScriptedGateway(polls=[task("failed", error={"message": "moderated"})]) as gateway:
        async with octoremix.Session("key", base_url=gateway.url) as octo:
            video = await octo.retrieve("task_1")
        assert len(gateway.gets) == 1
    assert video.status is octoremix.TaskStatus.FAILED
    assert video.error == octoremix.VideoError(message="moderated")


@pytest.mark.parametrize("fault", [cut, reply(status=502), reply(status=429)])
async def test_retrieve_is_repeated_where_that_helps(fault: Answer) -> None:
    """A failure that may pass is tried again, as the RetryPolicy says."""
    async with ScriptedGateway(polls=[fault, fault, task("queued")]) as gateway:
        async with octoremix.Session("key", base_url=gateway.url, retry=QUICK) as octo:
            await octo.retrieve("task_1")
        assert len(gateway.gets) == 3


async def test_retrieve_waits_as_long_as_the_answer_asks() -> None:
    """A Retry-After is a floor under the pause."""
    limited = reply(status=429, headers={"Retry-After": "20"})
    async with ScriptedGateway(polls=[limited, task("queued")]) as gateway:
        async with octoremix.Session("key", base_url=gateway.url, retry=QUICK) as octo:
            await octo.retrieve("task_1")
            assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.1)


async def test_retrieve_raises_what_stays_wrong_with_the_id() -> None:
    """A refusal is raised at once, an outage after its attempts; both carry the id."""
    unknown = reply({"code": "task_not_exist", "message": "", "data": None}, status=400)
    async with ScriptedGateway(polls=[unknown, reply(status=502)]) as gateway:
        async with octoremix.Session("key", base_url=gateway.url, retry=QUICK) as octo:
            with pytest.raises(octoremix.TaskNotFoundError) as caught:
                await octo.retrieve("task_1")
            assert caught.value.id == "task_1"
            assert len(gateway.gets) == 1
            with pytest.raises(octoremix.ServerError) as failed:
                await octo.retrieve("task_1")
            assert failed.value.id == "task_1"
            assert len(gateway.gets) == 4


async def test_an_unanswered_retrieve_ends_in_time() -> None:
    """`request_timeout` bounds one query, and the error says how long it was."""

    async def silent(_: object) -> Any:
        await asyncio.sleep(1000)

    async with ScriptedGateway(polls=[silent]) as gateway:
        never = octoremix.RetryPolicy(attempts=1)
        async with octoremix.Session(
            "key", base_url=gateway.url, retry=never, request_timeout=7
        ) as octo:
            with pytest.raises(octoremix.APITimeoutError, match="within 7 s") as caught:
                await octo.retrieve("task_1")
            assert caught.value.id == "task_1"


@pytest.mark.parametrize("task_id", ["", " ", ".", "..", None, "\ud800"])
async def test_a_malformed_id_is_refused_before_anything_is_sent(task_id: Any) -> None:
    """`track`, `retrieve` and `download` refuse what can't be an id."""
    async with ScriptedGateway() as gateway:
        async with octoremix.Session("key", base_url=gateway.url) as octo:
            with pytest.raises(octoremix.ConfigurationError):
                octo.track(task_id)
            with pytest.raises(octoremix.ConfigurationError):
                await octo.retrieve(task_id)
            with pytest.raises(octoremix.ConfigurationError):
                await octo.download(task_id, "x.mp4")
        assert gateway.calls == []
