"""The tests' own ground: the virtual clock, and the reports that fail a test."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import hypothesis
import pytest
from aiohttp import web

from .virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = Path(__file__).parent.parent


def virtual_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


# The clock


async def test_an_hour_takes_no_real_time() -> None:
    """A sleep of an hour ends exactly an hour later on the loop's clock and at once on ours."""
    loop = asyncio.get_running_loop()
    began, really = loop.time(), time.monotonic()

    await asyncio.sleep(3600)

    assert loop.time() == began + 3600
    assert time.monotonic() - really < 60


async def test_timers_fire_in_order() -> None:
    """Timers fire in the order of their due times, each at its own."""
    loop = asyncio.get_running_loop()
    fired: list[float] = []
    began = loop.time()
    for delay in (30.0, 0.5, 86_400.0, 7.0, 0.0):
        loop.call_later(delay, lambda: fired.append(loop.time() - began))

    await asyncio.sleep(100_000)

    assert fired == [0.0, 0.5, 7.0, 30.0, 86_400.0]


async def test_a_timeout_interrupts_a_longer_sleep() -> None:
    """A timeout that is due before what it guards fires, and at its own time."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await asyncio.sleep(61)

    assert loop.time() == began + 60


async def test_what_is_ready_goes_before_the_clock() -> None:
    """The clock stands while callbacks are ready, however many there are in a chain."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(0.001, lambda: None)

    for _ in range(1000):
        await asyncio.sleep(0)

    assert loop.time() == began


@pytest.mark.asyncio(loop_factories=["real"])
async def test_the_real_loop_is_there_to_be_asked_for() -> None:
    """A test that names the real loop runs on it, and on it alone."""
    loop = asyncio.get_running_loop()

    assert not isinstance(loop, VirtualTimeLoop)
    really = time.monotonic()
    await asyncio.sleep(0.05)
    assert time.monotonic() - really > 0.04


# Sockets


@pytest.fixture
async def slow_server() -> AsyncIterator[str]:
    """The address of a server that takes 30 s for each answer."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.json_response({"echo": await request.text()})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/"
    await runner.cleanup()


async def test_answers_beat_timeouts_on_kept_connections(slow_server: str) -> None:
    """Of 200 exchanges on one connection, none runs into a timeout that is longer than it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for number in range(200):
            async with session.post(slow_server, data=str(number)) as response:
                assert await response.json() == {"echo": str(number)}

    assert loop.time() == pytest.approx(began + 200 * 30)


async def test_answers_beat_timeouts_on_new_connections(slow_server: str) -> None:
    """Making a connection takes no virtual time: a tight connect timeout never fires."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    timeout = aiohttp.ClientTimeout(total=60, sock_connect=0.001)
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        for number in range(200):
            async with session.post(slow_server, data=str(number)) as response:
                assert await response.json() == {"echo": str(number)}

    assert loop.time() == pytest.approx(began + 200 * 30)


async def test_answers_beat_timeouts_side_by_side(slow_server: str) -> None:
    """Exchanges that run at the same time share their wait."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(number: int) -> Any:
            async with session.post(slow_server, data=str(number)) as response:
                return await response.json()

        answers = await asyncio.gather(*(ask(number) for number in range(100)))

    assert answers == [{"echo": str(number)} for number in range(100)]
    assert loop.time() == pytest.approx(began + 30)


async def test_a_large_body_takes_no_virtual_time() -> None:
    """The clock stands while bytes flow, also when the socket's buffers fill up."""
    size = 20_000_000

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(size))
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(send, "127.0.0.1", 0)
    async with server:
        began = loop.time()
        async with asyncio.timeout(0.001):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            body = await reader.read(-1)
        writer.close()
        await writer.wait_closed()

    assert len(body) == size
    assert loop.time() == began


async def test_bytes_that_arrive_late_go_before_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the kernel delivers while the loop makes sure is seen before the clock jumps."""
    loop = virtual_loop()
    began = loop.time()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        monkeypatch.setattr(loop._jumping._loopback, "settle", lambda: theirs.send(b"late"))
        async with asyncio.timeout(0.001):
            assert await loop.sock_recv(ours, 4) == b"late"
        monkeypatch.undo()

    assert loop.time() == began


# Threads


async def test_a_timeout_waits_for_a_thread() -> None:
    """While a thread works, a virtual timeout does not fire: 50 times of 50."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    for _ in range(50):
        async with asyncio.timeout(120):
            await asyncio.to_thread(time.sleep, 0.002)

    assert loop.time() == began


async def test_the_result_of_a_thread_goes_before_the_clock() -> None:
    """Between a thread's last instruction and its result in the loop the clock stands too."""
    for number in range(2000):
        async with asyncio.timeout(0.001):
            assert await asyncio.to_thread(int, number) == number


class HesitantFuture(Future[Any]):
    """Makes a pause before each of its callbacks."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        def hesitate(future: Future[Any]) -> None:
            time.sleep(0.02)
            fn(future)

        super().add_done_callback(hesitate)


class HesitantExecutor(Executor):
    """Works in a new thread, and pauses between the things that it tells the loop."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = HesitantFuture()
        threading.Thread(target=lambda: future.set_result(fn(*args, **kwargs))).start()
        return future


async def test_the_clock_is_let_go_after_the_result_is_handed_over() -> None:
    """A thread that is paused just after its work was done still holds the clock."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async with asyncio.timeout(1):
        assert await loop.run_in_executor(HesitantExecutor(), int, "7") == 7

    assert loop.time() == began


async def test_an_executor_of_ones_own_holds_the_clock() -> None:
    """Jobs of any executor hold the clock, not only those of the loop's."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with ThreadPoolExecutor(1) as executor:
        async with asyncio.timeout(1):
            await loop.run_in_executor(executor, time.sleep, 0.01)

    assert loop.time() == began


async def test_a_replaced_default_executor_is_used() -> None:
    """`set_default_executor` decides where `to_thread` works."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="ours"))

    name = await asyncio.to_thread(lambda: threading.current_thread().name)

    assert name.startswith("ours")


async def test_a_failing_thread_lets_the_clock_go() -> None:
    """An exception in a thread reaches who waits for it, and time goes on afterwards."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 / 0)
    await asyncio.sleep(1000)

    assert loop.time() == began + 1000


async def test_a_cancelled_wait_holds_the_clock_until_the_thread_ends() -> None:
    """A thread whose waiter was cancelled still works, and still holds the clock."""
    loop = virtual_loop()
    began = loop.time()
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(60)
        time.sleep(0.02)
        ended.set()

    waiter = loop.run_in_executor(None, work)
    await asyncio.sleep(0)
    waiter.cancel()
    release.set()
    await asyncio.sleep(1000)

    assert ended.is_set()
    assert loop.time() == began + 1000


async def test_a_name_is_looked_up_without_the_clock() -> None:
    """Looking a name up works in a thread, and holds the clock as any such work."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async with asyncio.timeout(0.001):
        assert await loop.getaddrinfo("localhost", 80)

    assert loop.time() == began


def test_a_thread_may_wait_for_a_timer_of_the_loop() -> None:
    """A held clock follows real time in the end, so a thread that waits for it is no deadlock."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def wait() -> None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.03), loop).result(60)

        await asyncio.to_thread(wait)
        return loop.time() - began

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(stillness=0.01)) as runner:
        assert runner.run(main()) == pytest.approx(0.03)


def test_a_thread_may_outlive_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """A job that ends after its loop was closed finds nobody to tell, and says nothing."""
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        loop = VirtualTimeLoop()
        job = loop.run_in_executor(executor, release.wait, 60)
        job.cancel()
        loop.close()
        release.set()

    assert caplog.records == []


def test_closing_waits_for_threads() -> None:
    """The end of a run joins its threads, which no jump of the clock cuts short."""
    ended = threading.Event()

    def work() -> None:
        time.sleep(0.05)
        ended.set()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())

    assert ended.is_set()


async def test_another_thread_wakes_the_loop() -> None:
    """A loop with no timer sleeps until `call_soon_threadsafe` wakes it from another thread."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    timer = threading.Timer(0.01, loop.call_soon_threadsafe, [woken.set])
    timer.start()

    await woken.wait()

    timer.join()


async def test_a_hold_keeps_the_clock_for_what_the_loop_cannot_see() -> None:
    """Within `hold()` the clock stands: here a subprocess is waited for under a short timeout."""
    loop = virtual_loop()
    began = loop.time()
    with loop.hold():
        async with asyncio.timeout(10):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print('done')", stdout=subprocess.PIPE
            )
            output, _ = await process.communicate()

    assert output.strip() == b"done"
    assert process.returncode == 0
    assert loop.time() < began + 10


# Reports


async def test_an_error_in_a_callback_is_listed(loop_errors: list[dict[str, Any]]) -> None:
    """An exception in a callback is listed, and a test that expects it clears the list."""
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    (context,) = loop_errors
    assert isinstance(context["exception"], ZeroDivisionError)
    loop_errors.clear()


def test_a_loop_of_ones_own_is_listened_to(loop_errors: list[dict[str, Any]]) -> None:
    """The reports of a loop that the test runs itself are listed too."""

    async def fail() -> None:
        raise ValueError("nobody takes this")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(main())

    (context,) = loop_errors
    assert "never retrieved" in context["message"]
    loop_errors.clear()


UNNOTICED = """
import asyncio
import socket

import aiohttp


async def fail():
    raise ValueError("nobody takes this")


async def test_a_callback_fails():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(1)


async def test_a_task_is_never_retrieved():
    task = asyncio.create_task(fail())
    await asyncio.sleep(1)
    task.cycle = [task]


async def test_a_client_session_is_never_closed():
    aiohttp.ClientSession()


def test_a_socket_is_never_closed():
    socket.socket()


async def test_a_coroutine_is_never_awaited():
    fail()


def test_a_loop_of_its_own():
    asyncio.run(test_a_callback_fails())


async def test_nothing_is_wrong():
    await asyncio.sleep(3600)
"""


def test_what_nobody_noticed_fails_its_own_test(tmp_path: Path) -> None:
    """Errors that reach nobody fail the very test that caused them, and no other."""
    folder = tmp_path / "tests"
    folder.mkdir()
    for name in ("__init__.py", "conftest.py", "programs.py", "virtual_time.py"):
        shutil.copy(ROOT / "tests" / name, folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (folder / "test_unnoticed.py").write_text(UNNOTICED)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    bad = set(
        re.findall(r"^(?:FAILED|ERROR) tests/test_unnoticed.py::(\w+)", done.stdout, re.MULTILINE)
    )
    assert bad == {
        "test_a_callback_fails",
        "test_a_task_is_never_retrieved",
        "test_a_client_session_is_never_closed",
        "test_a_socket_is_never_closed",
        "test_a_coroutine_is_never_awaited",
        "test_a_loop_of_its_own",
    }, done.stdout


def test_property_tests_have_no_deadline() -> None:
    """Property tests aren't judged by real time, and in CI they run the same examples each time."""
    settings = hypothesis.settings()

    assert settings.deadline is None
    assert settings.derandomize == bool(os.environ.get("CI"))
