"""`octoremix batch` in processes of its own: signals, pipes, two at once."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from .batches import BATCH, BUY, line_with, results, until
from .conftest import ENVIRONMENT, end
from .systems import needs_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from octoremix.testing import Emulator

pytestmark = needs_signals

Launch = "Callable[..., subprocess.Popen[str]]"


def events(tmp_path: Path) -> Counter[str]:
    return Counter(job["event"] for job in results(tmp_path / "list"))


def test_ctrl_c_finishes_what_runs(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any, tmp_path: Path
) -> None:
    """At the first Ctrl-C nothing more is bought, what runs is saved, and the code is 130."""
    gateway = start_gateway(duration=2.0)
    jobs(100)
    process = launch(*BATCH, "--yes", "--concurrency", "3", at=gateway)
    until(process, lambda: gateway.books.accepted == 3)
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert (ended.code, ended.out) == (130, "list\n")
    bought = gateway.books.accepted
    assert 3 <= bought < 20
    assert "under way; Ctrl-C again detaches" in ended.err
    assert f"{bought} done, {100 - bought} not submitted, {bought} downloaded" in ended.err
    assert "it stopped buying: Ctrl-C\nthe same command again submits the rest\n" in ended.err
    assert len(list((tmp_path / "list").glob("*.mp4"))) == bought
    assert events(tmp_path)["downloaded"] == bought
    assert events(tmp_path)["not_submitted"] == 100 - bought


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
                process.wait(5)
        assert process.returncode == 130
        assert process.stderr.read() == "interrupted\n"
    assert not list(tmp_path.iterdir())


def test_stdin_is_an_input(launch: Launch, gateway: Emulator, tmp_path: Path) -> None:
    """With - the jobs come from stdin, for the folder of --out."""
    ran = subprocess.run(
        [sys.executable, "-m", "octoremix.cli", "batch", "-", "--out", "o", *BUY],
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
    gateway = start_gateway(duration=60.0)
    jobs(4)
    first = launch(*BATCH, "--yes", at=gateway)
    until(first, lambda: gateway.books.accepted == 4)
    second = end(launch(*BATCH, "--yes", at=gateway))
    assert (second.code, second.out) == (2, "")
    assert "error: another process is at work in the folder list" in second.err
    first.terminate()
    assert end(first).code == 143
    gateway.books.assert_charged_once(4)


def test_two_that_start_together_buy_once(
    launch: Launch, start_gateway: Callable[..., Emulator], jobs: Any
) -> None:
    """Of two commands that make one folder at the same moment one does the work."""
    gateway = start_gateway(duration=1.0)
    jobs(6)
    both = [launch(*BATCH, "--yes", at=gateway) for _ in range(2)]
    # Where one was so late that the other had ended, there was nothing left for it to do.
    assert sorted(end(process).code for process in both) in ([0, 2], [0, 0])
    gateway.books.assert_charged_once(6)
