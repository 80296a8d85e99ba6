"""A session and its futures belong to one event loop, and say so in any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

import octoremix

from .virtual_time import VirtualTimeLoop


@pytest.fixture
def home() -> Iterator[asyncio.Runner]:
    """The loop of the session; it stays open while another one runs."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield runner


@pytest.fixture
def octo(home: asyncio.Runner) -> Iterator[octoremix.Session]:
    session = octoremix.Session("key", base_url="http://127.0.0.1:9")
    yield session
    home.run(session.aclose())


def elsewhere(function: Callable[[], Awaitable[object]]) -> object:
    """Await what a function returns in another loop."""

    async def main() -> object:
        async with asyncio.timeout(1000):
            return await function()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


async def track(octo: octoremix.Session) -> octoremix.RemixFuture:
    return octo.track("task_1")


async def read(future: octoremix.RemixFuture) -> None:
    async for _ in future.updates():
        raise AssertionError("nothing was seen yet")


async def plainly(future: octoremix.RemixFuture) -> None:
    await future


@pytest.mark.parametrize("wait", [plainly, octoremix.RemixFuture.wait, read])
def test_a_future_is_awaited_in_its_own_loop(
    home: asyncio.Runner, octo: octoremix.Session, wait: Callable[..., Awaitable[object]]
) -> None:
    """Whoever awaits a future in another loop is told so with its id, and harms nobody."""
    future = home.run(track(octo))
    with pytest.raises(octoremix.SessionClosedError, match="another event loop") as caught:
        elsewhere(lambda: wait(future))
    assert caught.value.id == "task_1"

    async def end() -> BaseException | None:
        waiter = asyncio.ensure_future(future.wait())
        await asyncio.sleep(0)
        future.detach()
        await asyncio.wait([waiter])
        return waiter.exception()

    assert isinstance(home.run(end()), octoremix.DetachedError)


def test_a_future_that_is_done_is_awaited_anywhere(
    home: asyncio.Runner, octo: octoremix.Session
) -> None:
    """The outcome of a future that is done is there for every loop."""
    future = home.run(track(octo))
    home.run(detach(future))
    with pytest.raises(octoremix.DetachedError):
        elsewhere(future.wait)


async def detach(future: octoremix.RemixFuture) -> None:
    future.detach()


def test_callbacks_are_added_from_anywhere(home: asyncio.Runner, octo: octoremix.Session) -> None:
    """A callback, by which `asyncio.wait` waits, is called in the session's own loop."""
    future = home.run(track(octo))
    loops: list[asyncio.AbstractEventLoop] = []

    async def add() -> None:
        future.add_done_callback(lambda _: loops.append(asyncio.get_running_loop()))

    async def end() -> set[octoremix.RemixFuture]:
        asyncio.get_running_loop().call_later(1, future.detach)
        done, _ = await asyncio.wait([future], timeout=5)
        return done

    elsewhere(add)
    assert home.run(end()) == {future}
    assert loops == [home.get_loop()]


def test_a_session_is_closed_in_its_own_loop(home: asyncio.Runner, octo: octoremix.Session) -> None:
    """Closing a session in another loop is refused, and leaves it open."""
    future = home.run(track(octo))
    for _ in range(2):
        with pytest.raises(octoremix.SessionClosedError, match="close it there"):
            elsewhere(octo.aclose)
    assert not future.done()
    assert home.run(track(octo)) is future


def test_a_closed_session_is_closed_again_anywhere() -> None:
    """A second `aclose` is nothing, also when the session's loop has ended."""
    octo = octoremix.Session("key", base_url="http://127.0.0.1:9")

    async def use() -> None:
        octo.track("task_1").detach()
        await octo.aclose()

    elsewhere(use)
    elsewhere(octo.aclose)


def test_a_session_that_was_never_used_is_closed_anywhere() -> None:
    """Without a loop of its own a session ends in any, and stays ended."""
    octo = octoremix.Session("key", base_url="http://127.0.0.1:9")
    elsewhere(octo.aclose)
    elsewhere(octo.aclose)
    with pytest.raises(octoremix.SessionClosedError):
        elsewhere(lambda: track(octo))
