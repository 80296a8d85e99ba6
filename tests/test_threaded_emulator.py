"""The emulator in a thread, the session that ends with its loop, and the plugin's fixtures."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

import octoremix
from octoremix.testing import Fault, ThreadedEmulator
from octoremix.testing._loop_session import LoopSession

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = {"prompt": "make it snow", "model": "veo_3_1-extend"}


def ask(gateway: ThreadedEmulator, path: str, body: object = None) -> Any:
    """One call by the standard library's own client."""
    data = None if body is None else json.dumps(body).encode()
    headers = {
        "Authorization": f"Bearer {gateway.api_key}",
        "Content-Type": "application/json",
    }
    with urllib.request.urlopen(
        urllib.request.Request(gateway.url + path, data, headers), timeout=20
    ) as answer:
        return json.load(answer)


def remix(gateway: ThreadedEmulator) -> str:
    job: dict[str, str] = ask(gateway, "/v1/videos/video_1/remix", BODY)
    return job["id"]


def query(gateway: ThreadedEmulator, video_id: str) -> Any:
    return ask(gateway, f"/v1/videos/{video_id}")


@pytest.fixture
def gateway() -> Iterator[ThreadedEmulator]:
    with ThreadedEmulator(duration=600) as gateway:
        yield gateway


def test_it_serves_without_a_loop_in_the_test(gateway: ThreadedEmulator) -> None:
    """A plain function talks to it, and reads in its books what it did."""
    video_id = remix(gateway)
    assert query(gateway, video_id)["id"] == video_id
    gateway.books.assert_charged_once(1)
    assert gateway.books.polls == {video_id: 1}
    assert "accepted=1" in repr(gateway)


def test_the_books_are_a_copy(gateway: ThreadedEmulator) -> None:
    """What was read does not change while it is looked at, in no part of it."""
    before = gateway.books
    video_id = remix(gateway)
    between = gateway.books
    query(gateway, video_id)
    gateway.forget_unfinished()
    assert (before.accepted, before.jobs, before.requests.total()) == (0, [], 0)
    assert (between.accepted, between.jobs[0].outcome, between.polls) == (1, "completed", {})
    assert gateway.books.jobs[0].outcome == "lost"


def test_refunds_are_those_of_the_time_of_the_copy() -> None:
    """A refund that comes later does not come into books that were read before."""
    with ThreadedEmulator(duration=0, outcome="failed") as gateway:
        before = gateway.books
        video_id = remix(gateway)
        query(gateway, video_id)
        assert (before.refunded, gateway.books.refunded) == (0, 1)


def test_faults_from_the_test_s_thread(gateway: ThreadedEmulator) -> None:
    """Faults are added, counted, mixed, removed and cleared while it serves."""
    video_id = remix(gateway)

    def status() -> int:
        try:
            query(gateway, video_id)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        return 200

    fault = gateway.faults.add("html_502", on="query")
    assert status() == 502
    gateway.faults.remove(fault)
    assert status() == 200
    gateway.faults.add(Fault("html_503"))
    assert status() == 503
    gateway.faults.clear()
    assert status() == 200
    gateway.faults.mix(["html_504"], rate=1.0)
    assert status() == 504
    assert gateway.faults.hits == {"html_502": 1, "html_503": 1, "html_504": 1}


def test_an_error_of_the_gateway_s_thread_is_raised_in_the_test_s(
    gateway: ThreadedEmulator,
) -> None:
    """A fault that does not exist is told where it was asked for."""
    with pytest.raises(ValueError, match="no fault is called 'rain'"):
        gateway.faults.add("rain")


def test_it_stops_and_comes_back(gateway: ThreadedEmulator) -> None:
    """After an outage it is there again at the same address, with its jobs and its books."""
    url, video_id = gateway.url, remix(gateway)
    gateway.stop()
    gateway.stop()
    with pytest.raises(urllib.error.URLError):
        query(gateway, video_id)
    assert gateway.books.accepted == 1
    gateway.faults.clear()
    gateway.start()
    assert gateway.url == url
    assert query(gateway, video_id)["id"] == video_id


def test_it_is_started_once(gateway: ThreadedEmulator) -> None:
    """A second start is a mistake that is told."""
    with pytest.raises(RuntimeError, match="already started"):
        gateway.start()


def test_a_port_that_is_taken(gateway: ThreadedEmulator) -> None:
    """What fails in the thread fails in the test, and no thread stays behind."""
    port = int(gateway.url.rpartition(":")[2])
    threads = threading.active_count()
    with pytest.raises(OSError, match="address already in use"):
        ThreadedEmulator(port=port).start()
    assert threading.active_count() == threads


def test_a_callback_may_look_at_the_gateway() -> None:
    """A function that the gateway calls, in its own thread, reads the books without a lock-up."""
    seen = []

    def duration(_: object) -> float:
        seen.append(gateway.books.accepted)
        return 0.0

    with ThreadedEmulator(duration=duration) as gateway:
        remix(gateway)
        remix(gateway)
    assert seen == [0, 1]


def test_the_second_origin() -> None:
    """It has an address of its own."""
    with ThreadedEmulator(cdn=True) as gateway:
        assert gateway.cdn_url != gateway.url


def test_the_gateway_s_loop_is_not_that_of_the_test_s_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A policy with loops of a test's own, as with a clock that jumps, does not reach it."""

    def fail() -> Any:
        raise AssertionError("a loop of the policy's")

    monkeypatch.setattr(asyncio, "new_event_loop", fail)
    monkeypatch.setattr(asyncio.events, "new_event_loop", fail)
    with ThreadedEmulator() as gateway:
        assert remix(gateway)


async def follow(gateway: ThreadedEmulator, session: octoremix.Session) -> octoremix.RemixFuture:
    """Leave a task behind, and a connection."""
    future = await session.submit("video_1", prompt="make it snow")
    await session.retrieve(future.id)
    return future


def test_a_session_ends_with_its_loop(gateway: ThreadedEmulator) -> None:
    """Where the loop ends before the fixture does, the session was closed in it."""
    session = LoopSession(gateway.api_key, base_url=gateway.url)
    future = asyncio.run(follow(gateway, session))
    assert future.done()
    assert "closed" in repr(session)
    session.finish()
    gc.collect()  # a connection that was left open would warn


def test_a_session_ends_before_its_loop(gateway: ThreadedEmulator) -> None:
    """Where the loop goes on, for the tests after this one, the fixture closes the session."""
    session = LoopSession(gateway.api_key, base_url=gateway.url)
    with asyncio.Runner() as runner:
        future = runner.run(follow(gateway, session))
        assert not future.done()
        session.finish()
        assert isinstance(future.exception(), octoremix.SessionClosedError)
        session.finish()


def test_an_unused_session_has_nothing_to_end(gateway: ThreadedEmulator) -> None:
    """A session that was never used belongs to no loop."""
    LoopSession(gateway.api_key, base_url=gateway.url).finish()


async def test_a_session_is_not_closed_in_a_running_loop(gateway: ThreadedEmulator) -> None:
    """A fixture that is torn down inside of the loop leaves the session to the loop's end."""
    session = LoopSession(gateway.api_key, base_url=gateway.url)
    future = session.track("video_1")
    session.finish()
    assert not future.done()


@pytest.mark.asyncio(loop_factories=["real"])
async def test_the_fixtures(
    octoremix_gateway: ThreadedEmulator, octoremix_session: octoremix.Session
) -> None:
    """The plugin's fixtures make a remix in less than a moment, without a setting."""
    video = await octoremix_session.remix("video_1", prompt="make it snow")
    assert video.status is octoremix.TaskStatus.COMPLETED
    octoremix_gateway.books.assert_charged_once(1)


@pytest.mark.octoremix_gateway(profile="rc30", api_key="sk-other")
def test_the_marker(octoremix_gateway: ThreadedEmulator) -> None:
    """The marker gives any setting of the emulator."""
    assert octoremix_gateway.api_key == "sk-other"
    assert "task_id" in query(octoremix_gateway, remix(octoremix_gateway))


def test_it_takes_the_emulator_s_settings() -> None:
    """A setting that makes no sense is refused as the emulator refuses it."""
    with pytest.raises(TypeError, match="durations"):
        ThreadedEmulator(durations=1)
    with pytest.raises(RuntimeError, match="no port yet"):
        _ = ThreadedEmulator().url
