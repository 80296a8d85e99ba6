"""Commands run for real, in this process or in one of their own, against servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from attrs import define, field

from octoremix.testing import Emulator

with warnings.catch_warnings():
    # Older Typers use names that newer Clicks deprecate, which is between those two.
    warnings.simplefilter("ignore", DeprecationWarning)
    from typer.testing import CliRunner

    from octoremix.cli._app import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Handler = "Callable[[web.Request], Awaitable[web.StreamResponse]]"

KEY = "sk-a-secret-of-the-tests"
ENVIRONMENT = {
    **{
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY")
        and not name.startswith(("OCTOPUSX_", "SSL_CERT_"))
        and name not in {"FORCE_COLOR", "COLUMNS", "TERM"}
    },
    "OCTOPUSX_API_KEY": KEY,
    "PYTHONUTF8": "1",
    # No journal of whoever runs the tests: a command that is given no other folder fails.
    "XDG_STATE_HOME": os.devnull,
}


@define
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What `--json` wrote: every line of stdout has to be one object."""
        return [json.loads(line) for line in self.out.splitlines()]


class _Thread:
    """An event loop in a thread, for a server beside the command under test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        self.loop.close()


@pytest.fixture(scope="session")
def thread() -> Iterator[_Thread]:
    thread = _Thread()
    yield thread
    thread.close()


@pytest.fixture
def start_gateway(thread: _Thread) -> Iterator[Callable[..., Emulator]]:
    """Starts an emulator whose jobs take 0.2 s unless told otherwise."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Emulator:
            gateway = Emulator(**{"duration": 0.2, "api_key": KEY} | settings)
            thread.do(gateway.start())
            stack.callback(lambda: thread.do(gateway.aclose()))
            return gateway

        yield start


@pytest.fixture
def gateway(start_gateway: Callable[..., Emulator]) -> Emulator:
    return start_gateway()


@define(eq=False)
class Scripted:
    """A server that answers as one function says."""

    url: str
    requests: list[tuple[str, str]] = field(factory=list)


@pytest.fixture
def script(thread: _Thread) -> Iterator[Callable[[Any], Scripted]]:
    """Starts a server with a handler of the test's."""
    with contextlib.ExitStack() as stack:

        def start(handler: Any) -> Scripted:
            async def serve() -> Scripted:
                async def answer(request: web.BaseRequest) -> web.StreamResponse:
                    server.requests.append((request.method, request.path))
                    return await handler(request)

                server = Scripted("")
                runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
                await runner.setup()
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                stack.callback(lambda: thread.do(runner.cleanup()))
                return server

            return thread.do(serve())

        yield start


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the state of programs, in which the default journal is."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def no_real_home(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Keeps every test off the journal of whoever runs it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(state))


@pytest.fixture
def octoremix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path) -> Callable[..., Ended]:
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in {*os.environ, *ENVIRONMENT}:
        if name in ENVIRONMENT:
            monkeypatch.setenv(name, ENVIRONMENT[name])
        else:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))

    def run(
        *words: str, at: Emulator | Scripted | None = None, typed: str | None = None, **env: str
    ) -> Ended:
        where = {} if at is None else {"OCTOPUSX_BASE_URL": at.url}
        result = CliRunner().invoke(app, words, env={**where, **env}, input=typed)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        ended = Ended(result.exit_code, result.stdout, result.stderr)
        assert "Traceback" not in ended.err or "--verbose" in words
        assert KEY not in ended.out + ended.err
        return ended

    return run


@pytest.fixture
def launch(tmp_path: Path, state: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, at: Emulator | Scripted | None = None, **env: str) -> Any:
        where = {} if at is None else {"OCTOPUSX_BASE_URL": at.url}
        process = subprocess.Popen(
            [sys.executable, "-m", "octoremix.cli", *words],
            cwd=tmp_path,
            env={**ENVIRONMENT, "XDG_STATE_HOME": str(state), **where, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            stream.close()


@pytest.fixture
def jobs(tmp_path: Path) -> Callable[[int], None]:
    """Writes an input of so many jobs."""

    def write(count: int) -> None:
        lines = [json.dumps({"video": f"v{n}", "prompt": f"{n}"}) for n in range(count)]
        (tmp_path / "list.jsonl").write_text("\n".join(lines))

    return write


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert KEY not in out + err
    return Ended(process.returncode, out, err)
