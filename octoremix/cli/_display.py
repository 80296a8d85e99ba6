"""The progress of jobs on stderr: drawn anew on a terminal, in plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial

from attrs import define, field
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .. import TaskStatus, Video
from ._output import Output
from ._text import cut

__all__ = ["STYLES", "Display", "displayed"]

SUBMITTING = "submitting"
DETACHED = "detached"

STYLES = {
    SUBMITTING: "dim",
    TaskStatus.QUEUED: "cyan",
    TaskStatus.PROCESSING: "yellow",
    TaskStatus.COMPLETED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.CANCELLED: "red",
    TaskStatus.EXPIRED: "red",
    "downloaded": "green",
    "refused": "red",
    "in_doubt": "magenta",
    "error": "red",
    DETACHED: "magenta",
}

_CALM = 15.0
"""Seconds between two plain lines about the progress of one job."""


@define(eq=False)
class Row:
    """One job on the display."""

    prompt: str
    id: str = ""
    status: str = SUBMITTING
    progress: float | None = None
    over: bool = False
    told: float = field(init=False, factory=time.monotonic)


class Display:
    """The jobs and how far they are. This one keeps them and shows nothing.

    Args:
        output: Where it is shown.
        footer: A few words for the line below the jobs.
    """

    def __init__(self, output: Output, footer: str = "") -> None:
        self._output = output
        self._footer = footer
        self._started = time.monotonic()
        self._rows: dict[str, Row] = {}

    def add(self, key: str, prompt: str = "", id: str = "") -> None:
        """Show one more job.

        Args:
            key: What `change` will call it.
            prompt: What was asked for, if it is known.
            id: The task, if it is known.
        """
        self._rows[key] = row = Row(prompt, id)
        if id:
            row.status = TaskStatus.UNKNOWN

    def change(self, key: str, video: Video) -> None:
        """Show a new snapshot of a job."""
        row = self._rows[key]
        before = row.status
        row.id, row.status, row.progress = video.id, str(video.status), video.progress
        self._changed(row, before)

    def end(self, key: str, status: str | None = None) -> None:
        """Show that a job is over, and perhaps another word for how it stands."""
        row = self._rows[key]
        before, row.over = row.status, True
        row.status = status or row.status
        self._changed(row, before)

    def _changed(self, row: Row, before: str) -> None:
        """Show what is new in a row."""


class PlainDisplay(Display):
    """A line whenever a job's status changes, and now and then its progress."""

    def _changed(self, row: Row, before: str) -> None:
        now = time.monotonic()
        if row.status == before and (row.over or now < row.told + _CALM):
            return
        row.told = now
        words = [cut(row.id or "(no id yet)", 300), f"{row.status:<10}"]
        if row.status == TaskStatus.PROCESSING and row.progress is not None:
            words.append(f"{row.progress:3.0f} %")
        if row.prompt:
            words.append(cut(row.prompt, 50))
        self._output.note("  ".join(words).rstrip())


class LiveDisplay(Display):
    """One line for each job as far as there is room, and a total."""

    def render(self) -> RenderableType:
        """Draw it as it stands; called several times a second, from a thread of rich's."""
        rows = list(self._rows.values())
        console = self._output.console
        room = max(3, console.height - 4)
        shown = rows
        if len(rows) > room:  # what still runs is worth more than what is over
            running = [row for row in rows if not row.over]
            shown = [*running, *(row for row in rows if row.over)][:room]
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, width=14)
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        table.add_column(no_wrap=True, width=10)
        table.add_column(no_wrap=True, width=max(10, min(30, console.width // 5)))
        table.add_column(no_wrap=True, width=5, justify="right")
        for row in shown:
            table.add_row(*_cells(row))
        return Group(table, self._total(rows, len(rows) - len(shown)))

    def _total(self, rows: list[Row], hidden: int) -> Text:
        seconds = int(time.monotonic() - self._started)
        elapsed = f"{seconds // 60}:{seconds % 60:02d}"
        parts = [elapsed]
        if len(rows) > 1:
            over = sum(row.over for row in rows)
            parts.insert(0, f"{over} of {len(rows)} done")
        if hidden:
            parts.append(f"{hidden} not shown")
        if self._footer:
            parts.append(self._footer)
        return Text("  ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")


def _cells(row: Row) -> tuple[RenderableType, ...]:
    style = STYLES.get(row.status, "")
    failed = row.over and style == "red"
    # A failed task commonly shows 100: no bar for those.
    share = 0.0 if failed or row.progress is None else min(100.0, max(0.0, row.progress))
    share = 100.0 if row.status == TaskStatus.COMPLETED else share
    bar: RenderableType = "" if failed else ProgressBar(total=100, completed=share)
    return (
        Text(cut(row.id, 14), style="dim"),
        Text(cut(row.prompt, 200)),
        Text(cut(row.status, 10), style=style),
        bar,
        Text("" if failed else f"{share:.0f} %"),
    )


@contextlib.contextmanager
def displayed(output: Output, footer: str = "") -> Iterator[Display]:
    """Show a display for as long as the context is open."""
    if not output.animated:
        yield Display(output) if output.json else PlainDisplay(output)
        return
    display = LiveDisplay(output, footer)
    make = partial(
        Live,
        console=output.console,
        get_renderable=display.render,
        refresh_per_second=8,
        transient=True,  # what remains on the screen is the result
        redirect_stdout=False,  # it goes where the user sends it, not to stderr
        redirect_stderr=False,
    )
    with output.live(make):
        yield display
