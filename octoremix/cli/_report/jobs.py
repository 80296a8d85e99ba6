"""What a batch's folder tells of its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from ... import ConfigurationError
from ...errors import printable
from .._results import FILE_NAME
from .files import file_inside, source_name

__all__ = ["ReportBatch", "ReportJob", "read_jobs"]

_GROUPS = {
    "submitted": "running",
    "started": "running",
    "detached": "running",
    "completed": "done",
    "downloaded": "done",
    "download_failed": "done",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
    "refused": "failed",
    "abandoned": "failed",
    "in_doubt": "doubt",
    "not_submitted": "unsent",
}
_ENDS = frozenset({"completed", "failed", "cancelled", "expired"})


@frozen(kw_only=True)
class ReportJob:
    """One job as its record tells it. Its texts are foreign: anything may stand in them.

    Attributes:
        key: The job's name in the batch.
        id: The task, or ``None`` where none is known.
        video: The id of the source video, perhaps empty.
        prompt: What was asked for.
        model: The model that was asked.
        status: The last event: ``"submitted"``, ``"started"``, ``"completed"``, ``"downloaded"``,
            ``"download_failed"``, ``"failed"``, ``"cancelled"``, ``"expired"``, ``"detached"``,
            ``"refused"``, ``"in_doubt"``, ``"abandoned"`` or ``"not_submitted"``.
        error: Why there is no video, or empty.
        submitted_at: When the gateway accepted it (UTC), or ``None``.
        started_at: When it was first seen to run, or ``None``.
        done_at: When its end was seen, or ``None``.
        file: The video's name relative to the batch's folder, or ``None`` where there is none.
        source_file: The source video's name, likewise.
    """

    key: str
    id: str | None = None
    video: str = ""
    prompt: str = ""
    model: str = ""
    status: str = "submitted"
    error: str = ""
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    done_at: datetime | None = None
    file: str | None = None
    source_file: str | None = None

    @property
    def group(self) -> str:
        """What it counts as: ``"done"``, ``"failed"``, ``"doubt"``, ``"running"``, ``"unsent"``."""
        return _GROUPS[self.status]

    @property
    def seconds(self) -> float | None:
        """How long it took from acceptance to end, or ``None``."""
        if self.submitted_at is None or self.done_at is None:
            return None
        seconds = (self.done_at - self.submitted_at).total_seconds()
        return seconds if seconds >= 0 else None


@frozen(kw_only=True)
class ReportBatch:
    """All jobs of a folder.

    Attributes:
        name: The folder's own name.
        jobs: In the order of the input.
        unreadable: How many lines could not be understood; a half-written last one is not counted.
    """

    name: str
    jobs: tuple[ReportJob, ...]
    unreadable: int = 0


def read_jobs(folder: Path) -> ReportBatch:
    """Read a batch's folder.

    Raises:
        ConfigurationError: It is no folder, or no batch has run in it.
        OSError: The record can't be read.
    """
    shown, record = printable(folder), folder / FILE_NAME
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise ConfigurationError(f"{shown} {what}: name the folder of a batch")
    if not record.is_file():
        raise ConfigurationError(f"{shown} is not the folder of a batch: it holds no {FILE_NAME}")
    drafts: dict[str, _Draft] = {}
    unreadable = 0
    for fields in _lines(record):
        key = fields.get("key") if isinstance(fields, dict) else None
        if not isinstance(key, str) or not key:
            unreadable += 1
            continue
        drafts.setdefault(key, _Draft(key)).take(fields)
    home = folder.resolve()
    # A stable sort: what has no line of the input stays in the order in which it was told.
    ordered = sorted(drafts.values(), key=lambda draft: (draft.line is None, draft.line or 0))
    jobs = tuple(draft.job(home) for draft in ordered)
    return ReportBatch(name=home.name, jobs=jobs, unreadable=unreadable)


def _lines(record: Path) -> Iterator[Any]:
    """Yield each line's JSON value, ``None`` for what is none."""
    with record.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                if line.endswith(b"\n"):
                    yield None


@define
class _Draft:
    """A job while its lines are read."""

    key: str
    line: int | None = None
    texts: dict[str, str] = field(factory=dict)
    status: str = "submitted"
    error: str = ""
    file: object = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    done_at: datetime | None = None

    def take(self, fields: dict[str, Any]) -> None:
        """Take in one more line about it."""
        line = fields.get("line")
        if isinstance(line, int):
            self.line = line
        for name in ("id", "video", "prompt", "model"):
            if isinstance(fields.get(name), str):
                self.texts[name] = fields[name]
        event = fields.get("event")
        if not isinstance(event, str) or event not in _GROUPS:
            return  # a word of a later version
        self.status = event
        self.error = _error(fields.get("error"))
        self._note_time(event, _time(fields.get("time")))
        if event == "downloaded":
            self.file = fields.get("file")

    def _note_time(self, event: str, time: datetime | None) -> None:
        if event == "submitted":  # perhaps once more, after it failed
            self.submitted_at, self.started_at, self.done_at, self.file = time, None, None, None
        elif event == "started":
            self.started_at = time
        elif event in _ENDS:
            self.done_at = time

    def job(self, home: Path) -> ReportJob:
        """Return what was gathered."""
        video = self.texts.get("video", "")
        return ReportJob(
            key=self.key,
            id=self.texts.get("id"),
            video=video,
            prompt=self.texts.get("prompt", ""),
            model=self.texts.get("model", ""),
            status=self.status,
            error=self.error,
            submitted_at=self.submitted_at,
            started_at=self.started_at,
            done_at=self.done_at,
            file=file_inside(home, self.file),
            source_file=file_inside(home, source_name(video)) if video else None,
        )


def _error(error: object) -> str:
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    message, kind = error.get("message"), error.get("type")
    text = message if isinstance(message, str) and message.strip() else kind
    return text if isinstance(text, str) else ""


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
