"""The progress display."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from octoremix import TaskStatus, Video
from octoremix.cli._display import Display, LiveDisplay, PlainDisplay, displayed
from octoremix.cli._output import Output

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], tuple[Output, io.StringIO]]:
    """Makes an output to a terminal of some size."""

    def make(width: int, height: int) -> tuple[Output, io.StringIO]:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        output = Output()
        output.console.size = (width, height)  # type: ignore[assignment]  # as rich takes it
        output.console._width, output.console._height = width, height
        return output, stream

    return make


def drawn(display: LiveDisplay, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as capture:
        console.print(display.render())
    return capture.get().splitlines()


def snapshot(number: int, status: TaskStatus, progress: float | None = None) -> Video:
    return Video(id=f"video_{number:030d}", status=status, progress=progress)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_display_fits_its_terminal(terminal: Any, width: int) -> None:
    """Whatever the prompts and however many the jobs, no line is wider and none too many."""
    output, _ = terminal(width, 24)
    display = LiveDisplay(output, "Ctrl-C detaches: the job goes on")
    for number in range(100):
        display.add(str(number), "雪 and\n\x1b[31m a long prompt " * 20)
        display.change(str(number), snapshot(number, TaskStatus.PROCESSING, 50.0))
    lines = drawn(display, width, 24)
    assert len(lines) <= 23
    assert all(Console().render_str(line).cell_len <= width for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_what_runs_is_shown_before_what_is_over(terminal: Any) -> None:
    """Where there is no room for all jobs the finished ones make way."""
    output, _ = terminal(80, 10)
    display = LiveDisplay(output)
    for number in range(20):
        display.add(str(number), f"prompt {number}.")
        done = number < 17
        status = TaskStatus.COMPLETED if done else TaskStatus.PROCESSING
        display.change(str(number), snapshot(number, status, 100.0 if done else 30.0))
        if done:
            display.end(str(number))
    lines = drawn(display, 80, 10)
    assert [line.split("prompt ")[1].split(".")[0] for line in lines[:3]] == ["17", "18", "19"]
    assert lines[-1].startswith("17 of 20 done  0:00  14 not shown")


def test_a_failed_job_has_no_full_bar(terminal: Any) -> None:
    """Failed tasks commonly say 100 per cent; the display does not."""
    output, _ = terminal(80, 24)
    display = LiveDisplay(output)
    display.add("a", "x")
    display.change("a", snapshot(1, TaskStatus.FAILED, 100.0))
    display.end("a")
    assert "%" not in drawn(display, 80, 24)[0]


def test_the_display_is_live_on_a_terminal_only(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal gets the live display, a file plain lines, JSON alone nothing."""
    output, _ = terminal(80, 24)
    with displayed(output) as display:
        assert type(display) is LiveDisplay
    monkeypatch.setenv("TERM", "dumb")
    with displayed(Output()) as display:
        assert type(display) is PlainDisplay
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with displayed(Output()) as display:
        assert type(display) is PlainDisplay
    with displayed(Output(json=True)) as display:
        assert type(display) is Display


def test_results_stay_above_the_live_display(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stdout is the same terminal a result is written where the display is not drawn over."""
    output, stream = terminal(80, 24)
    monkeypatch.setattr(sys, "stdout", stream)
    with displayed(output) as display:
        display.add("a", "make it snow")
        output.write("the result")
    before, _, after = stream.getvalue().partition("the result\n")
    erase, up = "\x1b[2K", "\x1b[1A"
    assert before.endswith(f"{up}{erase}" * 2)
    assert after.removeprefix("\x1b[?25l").partition("\n")[0].find(up) == -1


def test_plain_lines_are_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each new status, and for progress only now and then."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    now = 0.0
    monkeypatch.setattr("octoremix.cli._display.time.monotonic", lambda: now)
    display = PlainDisplay(Output())
    display.add("a", "make it\x1b snow")
    for second in range(40):
        now = float(second)
        display.change("a", snapshot(1, TaskStatus.PROCESSING, second * 2.0))
    display.change("a", snapshot(1, TaskStatus.COMPLETED, 100.0))
    display.end("a")
    lines = stream.getvalue().splitlines()
    assert [line.split()[1:3] for line in lines] == [
        ["processing", "0"],
        ["processing", "30"],
        ["processing", "60"],
        ["completed", r"make"],
    ]
    assert all(line.endswith(r"make it\x1b snow") for line in lines)


def test_nobody_has_to_read_stderr() -> None:
    """A closed stderr silences the progress and ends nothing."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    output = Output()
    output.console._file = Closed()
    output.note("one")
    output.note("two")
