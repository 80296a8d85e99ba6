"""``results.jsonl``: what happens in a batch, a line for each thing, as it happens."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from .. import ConfigurationError, OctoremixError, Video
from ..errors import printable
from ._input import Line

__all__ = ["FILE_NAME", "Results"]

FILE_NAME = "results.jsonl"

_Entry = tuple[str, str | None, str | None]
"""The event, task and file of a line."""

_HAS_VIDEO = frozenset({"completed", "downloaded", "download_failed"})


def _now() -> datetime:
    return datetime.now(UTC)


@define(eq=False)
class Results:
    """The file, open for more.

    Every line tells all of its job, so that the last one of a key is what holds. Links stand there
    without their queries, which may be permissions.

    Args:
        folder: Where it lies.
        now: The time of the wall clock.

    Raises:
        ConfigurationError: It can't be written.
    """

    folder: Path
    now: Callable[[], datetime] = _now
    _last: dict[str, _Entry] = field(init=False, factory=dict)
    _file: BinaryIO = field(init=False)

    @_file.default
    def _open(self) -> BinaryIO:
        path = self.folder / FILE_NAME
        try:
            # Prompts are in it.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            file = os.fdopen(descriptor, "a+b", buffering=0)
            self._last.update(_read(file))
            _end_last_line(file)
        except OSError as error:
            raise ConfigurationError(
                f"{printable(path)} can't be written: {error.strerror}"
            ) from None
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
        """Write what happened to a job, unless that is what was written of it last.

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
        last = self._last.get(key)
        if last == (event, id, name) or (event == "completed" and _is_over(last, id)):
            return
        self._last[key] = (event, id, name)
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
        # In one call, so that the lines of two processes don't mix.
        self._file.write(json.dumps(fields, ensure_ascii=False).encode(errors="replace") + b"\n")

    def close(self) -> None:
        """End it."""
        self._file.close()


def _read(file: BinaryIO) -> Iterator[tuple[str, _Entry]]:
    """Return what earlier runs wrote of each key, the last of it last."""
    file.seek(0)
    for line in file:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            written = json.loads(line)
            yield written["key"], (written["event"], written["id"], written["file"])


def _is_over(last: _Entry | None, id: str | None) -> bool:
    return last is not None and last[1] == id and last[0] in _HAS_VIDEO


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
