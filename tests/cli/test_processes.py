"""Commands in processes of their own: signals, pipes, a missing extra, the demo."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from .conftest import ENVIRONMENT, end
from .systems import needs_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from octoremix.testing import Emulator


REMIX = ("remix", "video_1", "-p", "make it snow")

Launch = "Callable[..., subprocess.Popen[str]]"
Script = "Callable[[Any], Scripted]"

pytestmark = needs_signals


def line_with(stream: Any, text: str) -> str:
    """The next line that holds a text."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"no line with {text!r}")


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_detaches(
    launch: Launch, start_gateway: Callable[..., Emulator], number: int, code: int, word: str
) -> None:
    """Ctrl-C and SIGTERM end the wait; the id and the command that follows it are told."""
    gateway = start_gateway(duration=60.0)
    process = launch(*REMIX, "--json", at=gateway)
    accepted = json.loads(line_with(process.stdout, "accepted"))
    process.send_signal(number)
    ended = end(process)
    assert ended.code == code
    assert word in ended.err
    assert "1 job goes on and is billed" in ended.err
    assert f"to follow: octoremix watch {accepted['id']}" in ended.err
    assert ended.objects[-1]["event"] == "detached"
    assert ended.objects[-1]["id"] == accepted["id"]
    assert gateway.books.charged == 1


def test_a_signal_names_what_is_not_done(
    launch: Launch, start_gateway: Callable[..., Emulator]
) -> None:
    """Of several watched tasks only those that go on are named."""
    gateway = start_gateway(duration=lambda request: 60.0 * request.index)
    first, second = (end(launch(*REMIX, "--no-wait", at=gateway)).out.strip() for _ in range(2))
    process = launch("watch", first, second, at=gateway)
    assert first in line_with(process.stdout, "completed")
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert ended.code == 130
    assert f"to follow: octoremix watch {second}\n" in ended.err


def test_a_submit_that_is_out_is_waited_for(launch: Launch, script: Script) -> None:
    """Ctrl-C while the POST is unanswered loses no id: its answer is awaited, then told."""
    posted, release = threading.Event(), threading.Event()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        posted.set()
        await asyncio.to_thread(release.wait, 20)
        return web.json_response({"id": "video_late", "status": "queued"})

    process = launch(*REMIX, at=script(answer))
    assert posted.wait(20)
    process.send_signal(signal.SIGINT)
    line_with(process.stderr, "waiting at most")
    release.set()
    ended = end(process)
    assert ended.code == 130
    assert "octoremix watch video_late" in ended.err


def test_a_second_signal_gives_a_submit_up(launch: Launch, script: Script) -> None:
    """Who does not want to wait for the answer is told that the job is in doubt: code 4."""
    posted, release = threading.Event(), threading.Event()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        posted.set()
        await asyncio.to_thread(release.wait, 20)
        return web.Response()

    server = script(answer)
    process = launch(*REMIX, at=server)
    assert posted.wait(20)
    process.send_signal(signal.SIGINT)
    line_with(process.stderr, "waiting at most")
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = end(process)
    release.set()
    assert ended.code == 4
    assert time.monotonic() - started < 5
    assert "may exist and may be billed" in ended.err
    assert len(server.requests) == 1


def test_an_ignored_signal_stays_ignored(
    launch: Launch, start_gateway: Callable[..., Emulator]
) -> None:
    """A job that a shell put into the background does not hear the terminal's Ctrl-C."""
    gateway = start_gateway(duration=1.5)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = launch(*REMIX, "--poll-every", "1", at=gateway)
    finally:
        signal.signal(signal.SIGINT, before)
    line_with(process.stderr, "accepted")
    process.send_signal(signal.SIGINT)
    assert end(process).code == 0


def test_a_closed_pipe_is_quiet(launch: Launch, start_gateway: Callable[..., Emulator]) -> None:
    """When nobody reads stdout any more the command ends, and still names what goes on."""
    gateway = start_gateway(duration=60.0)
    process = launch(*REMIX, "--json", at=gateway)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(20) == 141
    (job,) = gateway.books.jobs
    assert err.splitlines()[-1] == f"to follow: octoremix watch {job.id}"
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_serve_ends_by_ctrl_c(launch: Launch) -> None:
    """The local gateway prints what to paste, serves, and ends with 0 and its books."""
    process = launch("serve", "--port", "0", "--duration", "0.1")
    pairs = [process.stdout.readline().removeprefix("export ").strip() for _ in range(2)]
    given = dict(pair.split("=", 1) for pair in pairs)
    assert list(given) == ["OCTOPUSX_BASE_URL", "OCTOPUSX_API_KEY"]
    remixed = end(launch(*REMIX, "--poll-every", "1", **given))
    assert remixed.code == 0
    assert remixed.out.startswith(given["OCTOPUSX_BASE_URL"])
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert ended.code == 0
    assert "job 1: video_1: make it snow" in ended.err
    assert "1 jobs accepted, 1 charged" in ended.err


def test_serve_names_a_port_that_is_taken(launch: Launch, gateway: Emulator) -> None:
    """A port in use is a usage error that names the way out."""
    port = gateway.url.rpartition(":")[2]
    ended = end(launch("serve", "--port", port))
    assert ended.code == 2
    assert "--port 0 takes a free port" in ended.err


def test_serve_warns_of_other_hosts(launch: Launch) -> None:
    """Listening on anything but loopback is worth a warning."""
    process = launch("serve", "--port", "0", "--host", "0.0.0.0", "--json")
    line_with(process.stderr, "warning: on 0.0.0.0 anybody")
    started = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert started["event"] == "serving"
    assert end(process).code == 0


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = ["octoremix", *{words!r}]
import octoremix.cli
octoremix.cli.main()
"""


def without(modules: set[str], *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as if modules were not installed."""
    code = BLOCKED.format(blocked=modules, words=words)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("missing", ["typer", "rich", "platformdirs"])
def test_without_the_extra_the_command_names_it(missing: str, tmp_path: Path) -> None:
    """Where one of the extra's packages is missing there is one line with the pip command, and code 2."""
    ran = without({missing}, "remix", "v", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert 'pip install "octoremix[cli]"' in ran.stderr


@pytest.mark.parametrize("words", [("demo",), ("demo", "clip.mp4"), ("serve", "--render")])
def test_without_pyav_the_demo_names_the_extra(words: tuple[str, ...], tmp_path: Path) -> None:
    """Where PyAV is missing, what needs it says so with the pip command, and code 2."""
    (tmp_path / "clip.mp4").write_text("x")
    ran = without({"av"}, *words, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert 'pip install "octoremix[demo]"' in ran.stderr
    assert not (tmp_path / "octoremix-demo").exists()


def test_commands_import_nothing_that_they_do_not_need(tmp_path: Path) -> None:
    """Neither PyAV nor the emulator is loaded by a command that has no use for them."""
    code = (
        "import sys, octoremix.cli._app\n"
        "print([name for name in sys.modules if name.startswith(('av', 'octoremix.testing'))])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert out == "[]\n"
