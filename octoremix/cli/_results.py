"""``results.jsonl``: what happens in a batch, a line for each thing, as it happens."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from .. import ConfigurationError, OctoremixError, Video
from ..errors import printable
from ._input import Line

if sys.platform != "win32":
    import fcntl

__all__ = ["FILE_NAME", "Results", "check_unused"]

FILE_NAME = "results.jsonl"

_Entry = tuple[str, str | None, str | None]
"""The event, task and file of a line."""

# How far a task is; what is not here ends it.
_STEPS = {"submitted": 0, "detached": 0, "started": 1, "completed": 2}
_END = 3


def _now() -> datetime:
    return datetime.now(UTC)


def check_unused(folder: Path) -> None:
    """Make sure that no other process is at work in a folder.

    Raises:
        ConfigurationError: One is.
    """
    with contextlib.suppress(OSError), (folder / FILE_NAME).open("rb") as file:
        _lock(file, folder)


@define(eq=False)
class Results:
    """The file, open for more, and locked as long as it is.

    Every line tells all of its job, so that the last one of a key is what holds. Links stand there
    without their queries, which may be permissions.

    Args:
        folder: Where it lies.
        troubled: Called once if it can't be written any more; nothing more is, then.
        now: The time of the wall clock.

    Raises:
        ConfigurationError: It can't be written, or another process is at work in the folder.
    """

    folder: Path
    troubled: Callable[[OSError], object]
    now: Callable[[], datetime] = _now
    _last: dict[str, _Entry] = field(init=False, factory=dict)
    _file: BinaryIO | None = field(init=False)

    @_file.default
    def _open(self) -> BinaryIO:
        path = self.folder / FILE_NAME
        try:
            # Prompts are in it.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            file = os.fdopen(descriptor, "a+b", buffering=0)
        except OSError as error:
            raise ConfigurationError(
                f"{printable(path)} can't be written: {error.strerror}"
            ) from None
        try:
            _lock(file, self.folder)
            self._last.update(_read(file))
            _end_last_line(file)
        except BaseException:
            file.close()
            raise
        return file

    def write(
        self,
        event: str,
        line: Line,
        *,
        id: str | None = None,
        video: Video | None = None,
        file: Path | None = None,
        error: OctoremixError | None = None,
    ) -> None:
        """Write what happened to a job, unless the last line of it tells that or more.

        Args:
            event: What.
            line: The job.
            id: Its task.
            video: Its last snapshot.
            file: Where it was saved, in the folder.
            error: What went wrong.
        """
        request = line.request
        key, name = str(request.key), None if file is None else file.name
        entry = (event, id, name)
        if self._file is None or _is_told(entry, self._last.get(key)):
            return
        self._last[key] = entry
        fields: dict[str, Any] = {
            "time": self.now().isoformat(timespec="milliseconds"),
            "event": event,
            "key": key,
            "line": line.number,
            "id": id,
            "video": request.video_id,
            "prompt": request.prompt,
            "model": request.model,
            "url": _link(video),
            "file": name,
            "error": None
            if error is None
            else {"type": type(error).__name__, "message": str(error)},
        }
        text = json.dumps(fields, ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            while text:
                text = text[self._file.write(text) :]
        except OSError as trouble:
            self.close()
            self.troubled(trouble)

    def close(self) -> None:
        """End it."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _lock(file: BinaryIO, folder: Path) -> None:
    """Make a folder ours until the file is closed, or our process ends in whatever way.

    On Windows nobody is kept out: the journal alone sees to it that nothing is
    bought twice.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another process is at work in the folder {printable(folder)}: wait for its end, "
                "or end it; this one has bought nothing"
            ) from None
        except OSError:  # a file system that has no locks
            return


def _read(file: BinaryIO) -> Iterator[tuple[str, _Entry]]:
    """Return what earlier runs wrote of each key, the last of it last."""
    file.seek(0)
    for line in file:
        # Anybody may have written to it; what matters is in the journal.
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            written = json.loads(line)
            if isinstance(written["key"], str) and isinstance(written["event"], str):
                yield written["key"], (written["event"], written["id"], written["file"])


def _is_told(entry: _Entry, last: _Entry | None) -> bool:
    """Whether the last line of a job tells something already."""
    if entry == last:
        return True
    step = _STEPS.get(entry[0])
    if last is None or step is None or entry[0] == "detached" or last[1] != entry[1]:
        return False
    # What a task has come to is told of it once, also where another run is at it.
    return step <= _STEPS.get(last[0], _END)


def _end_last_line(file: BinaryIO) -> None:
    """Part what follows from a line that a killed process left unfinished."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _link(video: Video | None) -> str | None:
    if video is None or video.url is None:
        return None
    if video.url.startswith("data:"):
        return "data:…"
    return video.url.partition("#")[0].partition("?")[0]
