"""Where a command's words go: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from .. import APIError, OctoremixError, SubmitOutcomeUnknownError, Video
from ..errors import printable
from ._exit import Code, verdict_on

__all__ = ["Output", "OutputClosedError"]

_LONGEST_MESSAGE = 4000


class OutputClosedError(Exception):
    """Nobody reads our stdout any more, as after ``| head``."""


class _StderrConsole(Console):
    """A console that falls silent when nobody reads it; rich's own ends the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Output:
    """What a command says.

    Args:
        json: Write results as JSON objects, one a line.
        verbose: Show the library's log, and tracebacks.

    Attributes:
        untold: Beginnings of the library's warnings that a command tells in words of its own.
    """

    untold: tuple[str, ...] = ()

    def __init__(self, *, json: bool = False, verbose: bool = False) -> None:
        self.json = json
        self.verbose = verbose
        self.console = _StderrConsole(stderr=True, highlight=False)
        self._hint = ""
        self._live: Live | None = None
        self._make_live: Callable[[], Live] | None = None

    @property
    def animated(self) -> bool:
        """Whether stderr is a terminal on which lines can be drawn anew."""
        return sys.stderr.isatty() and not self.console.is_dumb_terminal

    def write(self, text: str) -> None:
        """Write one result to stdout.

        Raises:
            OutputClosedError: Nobody reads it.
        """
        with self._still():
            try:
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
            except BrokenPipeError:
                raise OutputClosedError from None

    def show(self, draw: Callable[[int], RenderableType]) -> None:
        """Write something that rich draws to stdout, without colours where it is no terminal.

        Args:
            draw: Makes it, for so many columns.
        """
        console = Console(file=sys.stdout, highlight=False)
        with console.capture() as capture:
            console.print(draw(console.width))
        self.write("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))

    def event(
        self,
        event: str,
        *,
        id: str | None = None,
        video: Video | None = None,
        file: str | None = None,
        error: BaseException | None = None,
        **more: Any,
    ) -> None:
        """Write a JSON object, if that is wanted.

        Args:
            event: ``"accepted"``, ``"update"``, ``"done"``, ``"detached"``, ``"error"``, or a word
                of the command's own.
            id: The task.
            video: Its last snapshot, if any.
            file: Where its video was saved.
            error: What happened instead.
            more: Further fields, of the command's own.
        """
        if not self.json:
            return
        fields = {
            "event": event,
            "id": id,
            "status": None if video is None else str(video.status),
            "progress": None if video is None else video.progress,
            "url": None if video is None else video.url,
            "file": file,
            "error": None if error is None else _error_fields(error),
            **more,
        }
        self.write(json.dumps(fields))

    def note(self, text: str, style: str = "") -> None:
        """Write a line to stderr, unbroken, so that a command in it can be copied."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def complain(self, message: str, hint: str = "", label: str = "error") -> None:
        """Write an error, and what to do about it: once where several in a row have the same hint."""
        style = "bold red" if label == "error" else "bold yellow"
        line = Text.assemble((f"{label}:", style), " ", printable(message, _LONGEST_MESSAGE))
        self.console.print(line, soft_wrap=not self.console.is_terminal)
        if hint and hint != self._hint:
            self.console.print(Text.assemble((" hint:", "bold"), " ", hint), soft_wrap=True)
        self._hint = hint

    def warn(self, message: str) -> None:
        """Write a warning."""
        self.complain(message, label="warning")

    def trace(self, error: BaseException) -> None:
        """Write an error's traceback, if the user wants to see such things."""
        if self.verbose:
            lines = traceback.format_exception(error)
            self.console.print(Text("".join(lines).rstrip(), style="dim"), soft_wrap=True)

    @contextlib.contextmanager
    def live(self, make: Callable[[], Live]) -> Iterator[None]:
        """Keep a display at the foot of the terminal, below what is written meanwhile."""
        self._make_live = make
        self._start()
        try:
            yield
        finally:
            self._stop()
            self._make_live = None

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Bring the library's log to stderr: its warnings, or all of it where that is wanted.

        Its errors reach the user as exceptions, and need not be told twice.
        """
        handler = _LogHandler(self)
        log = logging.getLogger("octoremix")
        before = log.level, log.propagate
        log.setLevel(logging.DEBUG if self.verbose else logging.WARNING)
        log.propagate = False
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.level, log.propagate = before

    @contextlib.contextmanager
    def _still(self) -> Iterator[None]:
        # A line for stdout would land in the middle of the display where both are one terminal.
        pause = self._live is not None and sys.stdout.isatty()
        if pause:
            self._stop()
        try:
            yield
        finally:
            if pause:
                self._start()

    def _start(self) -> None:
        # A new one each time: a used one would draw over what was written after it.
        if self._make_live is not None:
            self._live = self._make_live()
            self._live.start(refresh=True)

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


class _LogHandler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        told = record.levelno > logging.WARNING or str(record.msg).startswith(self._output.untold)
        if told and not self._output.verbose:
            return
        try:
            message = printable(record.getMessage(), _LONGEST_MESSAGE)
            label = record.levelname.lower()
            self._output.note(f"{label}: {message}", "" if record.levelno > logging.INFO else "dim")
            if record.exc_info and record.exc_info[1] is not None:
                self._output.trace(record.exc_info[1])
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


def _error_fields(error: BaseException) -> dict[str, Any]:
    known = isinstance(error, (APIError, SubmitOutcomeUnknownError))
    code = verdict_on(error).code if isinstance(error, OctoremixError) else Code.FAILED
    return {
        "type": type(error).__name__,
        "message": str(error),
        "code": error.code if isinstance(error, APIError) else None,
        "request_id": error.request_id if known else None,  # type: ignore[attr-defined]  # by `known`
        "exit_code": int(code),
    }
