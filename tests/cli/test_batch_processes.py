"""`octoremix batch` in processes of its own: signals, the question, death, two at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from octoremix import Session

from .conftest import ENVIRONMENT, KEY, end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from octoremix.testing import Emulator

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="signals are sent as POSIX systems send them"
)

BATCH = ("batch", "list.jsonl", "--poll-every", "1")

Launch = "Callable[..., subprocess.Popen[str]]"


@pytest.fixture
def jobs(tmp_path: Path) -> Callable[[int], None]:
    """Writes an input of so many jobs."""

    def write(count: int) -> None:
        lines = [json.dumps({"video": f"v{n}", "prompt": f"{n}"}) for n in range(count)]
        (tmp_path / "list.jsonl").write_text("\n".join(lines))

    return write


def until(process: subprocess.Popen[str], what: Callable[[], bool]) -> None:
    """Wait until something is so, while a process lives."""
    until = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def line_with(stream: Any, text: str) -> str:
    """The next line that holds a text."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"no line with {text!r}")


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def events(tmp_path: Path) -> Counter[str]:
    return Counter(job["event"] for job in results(tmp_path / "list"))


def test_ctrl_c_finishes_what_runs(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any, tmp_path: Path
) -> None:
    """At the first Ctrl-C nothing more is bought, what runs is saved, and the code is 130."""
    gateway = start_gateway(duration=2.0)
    jobs(20)
    process = launch(*BATCH, "--yes", "--concurrency", "3", at=gateway)
    until(process, lambda: gateway.books.accepted == 3)
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert (ended.code, ended.out) == (130, "list\n")
    assert gateway.books.accepted == 3
    assert "under way; Ctrl-C again detaches" in ended.err
    assert "3 done, 17 not submitted, 3 downloaded" in ended.err
    assert "it stopped buying: Ctrl-C\nthe same command again submits the rest\n" in ended.err
    assert len(list((tmp_path / "list").glob("*.mp4"))) == 3
    assert (events(tmp_path)["downloaded"], events(tmp_path)["not_submitted"]) == (3, 17)


@pytest.mark.parametrize(
    ("numbers", "code"), [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143)]
)
def test_a_second_ctrl_c_and_sigterm_detach(
    launch: Launch,
    start_gateway: Callable[..., Emulator],
    jobs: Any,
    tmp_path: Path,
    numbers: tuple[int, ...],
    code: int,
) -> None:
    """What runs is let go of at once, with how to follow it; the same command takes it up."""
    gateway = start_gateway(duration=lambda job: 60.0 if job.index < 3 else 0.2)
    jobs(6)
    process = launch(*BATCH, "--yes", "--concurrency", "3", at=gateway)
    until(process, lambda: gateway.books.accepted == 3 and events(tmp_path)["submitted"] == 3)
    for number in numbers[:-1]:
        process.send_signal(number)
        line_with(process.stderr, "Ctrl-C again detaches")
    process.send_signal(numbers[-1])
    ended = end(process)
    assert (ended.code, ended.out) == (code, "")
    assert "3 jobs go on and are billed: the same command again follows them" in ended.err
    assert "video_" not in ended.err
    assert gateway.books.accepted == 3
    dry = end(launch(*BATCH, "--dry-run", at=gateway))
    assert "3  under way already: followed" in dry.err
    assert "to be paid for: 3 jobs" in dry.err


def test_a_signal_while_stdin_is_read(launch: Launch, tmp_path: Path) -> None:
    """Ctrl-C ends the wait for an input that does not end, with 130 and nothing done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "octoremix.cli", "batch", "-", "--out", "list"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        process.stdin.write("x" * 200_000)  # more than a pipe holds: it is being read
        process.stdin.flush()
        while process.poll() is None:  # one that comes between two reads is not heard
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
        assert process.returncode == 130
        assert process.stderr.read() == "interrupted\n"
    assert not list(tmp_path.iterdir())


def test_stdin_is_an_input(launch: Launch, gateway: Emulator, tmp_path: Path) -> None:
    """With - the jobs come from stdin, for the folder of --out."""
    ran = subprocess.run(
        [sys.executable, "-m", "octoremix.cli", "batch", "-", "--out", "o", "--yes"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "OCTOPUSX_BASE_URL": gateway.url},
        input="video,prompt\nv,snow\n",
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert ran.stdout == "o\n"
    assert len(list((tmp_path / "o").glob("*.mp4"))) == 1


def test_a_closed_pipe_detaches(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any
) -> None:
    """When nobody reads the JSON any more the batch ends, and says that its jobs go on."""
    gateway = start_gateway(duration=lambda job: 0.1 if job.index == 0 else 60.0)
    jobs(3)
    process = launch(*BATCH, "--yes", "--json", "--concurrency", "2", at=gateway)
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(20) == 141
    assert "jobs go on and are billed" in err or "1 job goes on and is billed" in err
    assert "Traceback" not in err


def test_a_second_process_is_refused(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any, tmp_path: Path
) -> None:
    """Two commands at one folder buy each job once: the second is told that it is taken."""
    gateway = start_gateway(duration=3.0)
    jobs(4)
    first = launch(*BATCH, "--yes", at=gateway)
    until(first, lambda: gateway.books.accepted == 4)
    second = end(launch(*BATCH, "--yes", at=gateway))
    assert (second.code, second.out) == (2, "")
    assert "error: another process is at work in the folder list" in second.err
    assert end(first).code == 0
    gateway.books.assert_charged_once(4)


def test_two_that_start_together_buy_once(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any
) -> None:
    """Of two commands that make one folder at the same moment one does the work."""
    gateway = start_gateway(duration=1.0)
    jobs(6)
    both = [launch(*BATCH, "--yes", at=gateway) for _ in range(2)]
    assert sorted(end(process).code for process in both) == [0, 2]
    gateway.books.assert_charged_once(6)


# A terminal's Ctrl-C reaches the processes whose terminal it is.
ON_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
import octoremix.cli
octoremix.cli.main()
"""


class Terminal:
    """A command on a terminal of 80 columns and 24 rows."""

    def __init__(self, cwd: Path, gateway: Emulator, *words: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**ENVIRONMENT, "OCTOPUSX_BASE_URL": gateway.url, "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *words],
            cwd=cwd,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def see(self, text: str = "") -> None:
        """Read until a text is there, or to the end."""
        seen = len(self.text)
        until = time.monotonic() + 60
        while not text or text not in self.text[seen:]:
            ready, _, _ = select.select([self._master], [], [], until - time.monotonic())
            assert ready, self.text
            try:
                read = os.read(self._master, 65536)
            except OSError:  # the end, as Linux tells it
                read = b""
            if not read:
                assert not text, self.text
                return
            self.text += read.decode()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        self.see()
        code = self.process.wait(20)
        assert KEY not in self.text
        assert "Traceback" not in self.text
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(gateway: Emulator, *words: str) -> Terminal:
        opened.append(Terminal(tmp_path, gateway, *words))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("typed", "code"), [("n\n", 2), ("\n", 2), ("\x04", 2), ("\x03", 130), ("what?\n", 2)]
)
def test_all_but_yes_buys_nothing(
    terminal: Any, gateway: Emulator, jobs: Any, tmp_path: Path, typed: str, code: int
) -> None:
    """At the question no, nothing, the end, Ctrl-C and any other word leave all as it was."""
    jobs(3)
    shown = terminal(gateway, *BATCH)
    shown.see("Buy 3 jobs? [y/N] ")
    shown.type(typed)
    assert shown.end() == code
    assert shown.text.splitlines()[-1] == "nothing was bought"
    assert gateway.books.accepted == 0
    assert [file.name for file in tmp_path.iterdir()] == ["list.jsonl"]


def test_sigterm_leaves_the_question(terminal: Any, gateway: Emulator, jobs: Any) -> None:
    """SIGTERM ends a command that waits for its answer."""
    jobs(3)
    shown = terminal(gateway, *BATCH)
    shown.see("[y/N] ")
    shown.process.terminate()
    assert shown.end() == 143
    assert gateway.books.accepted == 0


def test_yes_buys_and_shows(
    terminal: Any, start_gateway: Callable[..., Emulator], jobs: Any
) -> None:
    """On a terminal the price is asked with what the key has left; then three lines live."""
    gateway = start_gateway(quota=20_000_000)
    jobs(12)
    shown = terminal(gateway, *BATCH)
    shown.see("Buy 12 jobs? [y/N] ")
    assert "the key has 20,000,000 units of quota left" in shown.text
    shown.type("Yes\n")
    shown.see("12 running")
    assert shown.end() == 0
    assert "12 of 12" in shown.text
    assert shown.text.replace("\r", "").endswith("results.jsonl\nlist\n")
    assert max(map(len, shown.text.rpartition("12 of 12")[2].splitlines())) < 120


async def settle(gateway: Emulator, journal: Path) -> int:
    """Settle all doubts as a person does who looks at the gateway's console."""
    bought = {job.request.prompt: job.id for job in gateway.books.jobs}
    async with Session(KEY, base_url=gateway.url, journal=journal) as session:
        doubts = await session.in_doubt()
        for doubt in doubts:
            task_id = bought.get(doubt.request.prompt)
            if task_id is None:
                await session.resubmit(doubt)
            else:
                await session.adopt(doubt, task_id)
    return len(doubts)


def check_proof(gateway: Emulator, folder: Path, count: int) -> Counter[str]:
    """Hold a batch to its promises: for each line one outcome, one charge, one whole file."""
    gateway.books.assert_charged_once(count)
    jobs = {job.request.prompt: job for job in gateway.books.jobs}
    last = {job["key"]: job for job in results(folder)}
    assert sorted(job["line"] for job in last.values()) == list(range(1, count + 1))
    for job in last.values():
        booked = jobs[job["prompt"]]
        assert job["id"] == booked.id
        assert job["event"] == {"completed": "downloaded"}.get(booked.outcome, booked.outcome)
    files = {job["file"] for job in last.values()} - {None}
    assert {file.name for file in folder.iterdir()} == files | {
        *("results.jsonl", "journal.db", "journal.db-owners")
    }
    assert {(folder / name).read_bytes()[4:8] for name in files} == {b"ftyp"}
    assert len({(folder / name).stat().st_size for name in files}) == 1
    return Counter(job["event"] for job in last.values())


def test_a_batch_that_is_killed_twice(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any, tmp_path: Path
) -> None:
    """SIGKILL twice, in bad weather: each line ends with one outcome, one charge, one whole file.

    ``OCTOREMIX_BATCH_JOBS`` is how many lines.
    """
    count = int(os.environ.get("OCTOREMIX_BATCH_JOBS", "300"))
    gateway = start_gateway(
        duration=0.5,
        outcome=lambda job: "failed" if job.index % 50 == 7 else "completed",
        faults=[
            "rate_limited:on=remix,rate=0.02,seed=1",
            "html_502:on=query,rate=0.1,seed=2",
            "cut:on=query,rate=0.05,seed=3",
        ],
    )
    jobs(count)
    words = (*BATCH, "--yes", "--concurrency", "300")
    for share in (0.3, 0.7):
        process = launch(*words, at=gateway)
        until(process, lambda share=share: gateway.books.accepted >= share * count)
        process.kill()
        process.wait()
        asyncio.run(settle(gateway, tmp_path / "list" / "journal.db"))
    ended = end(launch(*words, at=gateway))
    outcomes = check_proof(gateway, tmp_path / "list", count)
    assert ended.code == (1 if outcomes["failed"] else 0)
    before = results(tmp_path / "list")
    assert end(launch(*words, at=gateway)).code == ended.code
    assert results(tmp_path / "list") == before
