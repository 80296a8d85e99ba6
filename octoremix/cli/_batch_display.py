"""The progress of a batch on stderr: three calm lines, however many jobs there are."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

from attrs import define, field
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ._output import Output
from ._text import human_duration

__all__ = ["COUNTED", "Progress", "drawn", "shown"]

_CALM = 15.0
"""Seconds between two plain lines."""

_FEW = 5
"""Jobs that must be over before a rate is worth showing."""

_WORDS = {
    "done": ("done", "green"),
    "failed": ("failed", "red"),
    "refused": ("refused", "red"),
    "in_doubt": ("in doubt", "magenta"),
    "detached": ("not waited for", "yellow"),
    "not_submitted": ("not submitted", "yellow"),
    "downloaded": ("downloaded", "green"),
}

COUNTED = tuple(_WORDS)
"""What `Progress` counts."""


@define(eq=False)
class Progress:
    """How far a batch is.

    Attributes:
        total: How many jobs it has.
        counts: How many have come to each outcome, ``"done"``, ``"failed"``,
            ``"refused"``, ``"in_doubt"``, ``"detached"`` and ``"not_submitted"``; and how many are
            ``"downloaded"``.
        running: How many jobs were accepted and are waited for.
        submitted: How many were accepted, in this run or in an earlier one.
        stopping: Whether what runs is only finished.
        now: The time, in seconds.
    """

    total: int
    counts: Counter[str] = field(init=False, factory=Counter)
    running: int = field(init=False, default=0)
    submitted: int = field(init=False, default=0)
    stopping: bool = field(init=False, default=False)
    now: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _worked: int = field(init=False, default=0)

    @_started.default
    def _begin(self) -> float:
        return self.now()

    @property
    def over(self) -> int:
        """How many jobs have come to an outcome."""
        return self.counts.total() - self.counts["downloaded"]

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now() - self._started

    def began(self) -> None:
        """Note that a job was accepted."""
        self.submitted += 1
        self.running += 1

    def ended(self, outcome: str, *, ran: bool, bought: bool, downloaded: bool = False) -> None:
        """Note the outcome of a job.

        Args:
            outcome: Which, of those in ``counts``.
            ran: Whether it was accepted.
            bought: Whether that was in this run: any other outcome tells nothing of the speed.
            downloaded: Whether its video is here.
        """
        self.counts[outcome] += 1
        self.counts["downloaded"] += downloaded
        self.running -= ran
        self._worked += bought

    @property
    def rate(self) -> float | None:
        """Jobs a second that come to an end, or ``None`` where there are too few to tell."""
        return self._worked / self.elapsed if self._worked >= _FEW and self.elapsed else None

    @property
    def left(self) -> float | None:
        """Seconds that are left, roughly."""
        rate = self.rate
        return None if not rate else (self.total - self.over) / rate

    def words(self) -> list[tuple[str, str]]:
        """Return what there is to say, each with its style."""
        said = [(f"{self.running:,} running", "yellow")] if self.running else []
        for name, (word, style) in _WORDS.items():
            if self.counts[name]:
                said.append((f"{self.counts[name]:,} {word}", style))
        return said or [("nothing submitted yet", "dim")]

    def times(self) -> list[str]:
        """Return what there is to say of time."""
        said = [human_duration(self.elapsed)]
        if self.rate is not None:
            said.append(f"{self.rate * 60:,.1f} a minute")
        if self.left is not None and self.over < self.total and not self.stopping:
            said.append(f"about {human_duration(self.left)} left")
        return said

    def line(self) -> str:
        """Return all of it on one line."""
        words = ", ".join(word for word, _ in self.words())
        return f"{self.over:,} of {self.total:,} over: {words}; {', '.join(self.times())}"


def drawn(progress: Progress) -> RenderableType:
    """Draw it; called several times a second, from a thread of rich's."""
    share = 100 * progress.over / max(1, progress.total)
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    bar.add_row(
        ProgressBar(total=max(1, progress.total), completed=progress.over),
        Text(f"{share:3.0f} %  {progress.over:,} of {progress.total:,}", style="bold"),
    )
    counts = Text("  ", no_wrap=True, overflow="ellipsis").join(
        Text(word, style=style) for word, style in progress.words()
    )
    hint = "finishing what runs; Ctrl-C detaches" if progress.stopping else "Ctrl-C: finish, stop"
    times = Table.grid(padding=(0, 1), expand=True)
    times.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    times.add_column(no_wrap=True, justify="right")
    times.add_row(Text("  ".join(progress.times())), Text(hint, style="dim"))
    return Group(bar, counts, times)


@contextlib.asynccontextmanager
async def shown(progress: Progress, output: Output) -> AsyncIterator[None]:
    """Show a batch's progress for as long as the context is open."""
    # Where results go to the same terminal line by line, these lines are display enough.
    if output.animated and not (output.json and sys.stdout.isatty()):
        make = partial(
            Live,
            console=output.console,
            get_renderable=partial(drawn, progress),
            refresh_per_second=4,
            transient=True,  # what remains on the screen is the summary
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with output.live(make):
            yield
        return
    telling = asyncio.ensure_future(_tell(progress, output))
    try:
        yield
    finally:
        telling.cancel()


async def _tell(progress: Progress, output: Output) -> None:
    """Write a line now and then, for logs."""
    while True:
        await asyncio.sleep(_CALM)
        output.note(progress.line())
