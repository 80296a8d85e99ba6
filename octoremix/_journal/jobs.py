"""Rows of the journal, to and from the library's values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import frozen

from .._wire import Reading, load_json
from ..errors import ConfigurationError
from ..models import RemixRequest, Video
from ..records import InDoubt, JournalEntry
from .states import State

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "Claim",
    "Job",
    "Place",
    "digest_of",
    "doubt_of",
    "entry_of",
    "final_body",
    "job_of",
    "request_of",
]

# What is kept of a final answer without prompts. Gateways repeat them in many places, also in the
# message of an error.
_PLAIN = (
    *("raw_status", "progress", "model", "created_at", "completed_at", "expires_at"),
    *("size", "seconds", "quality", "remixed_from_video_id", "url"),
)


# Made once: `json.dumps` makes an encoder at each call that asks for anything special.
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


@frozen(kw_only=True)
class Job:
    """What the journal knows of one job.

    Attributes:
        key: Its key.
        state: Where it stands.
        attempt: Which attempt.
        mine: Whether this owner has it.
        fresh: Whether this is an attempt that has just been claimed, and may be sent.
        digest: Of the request.
        task_id: The task, or ``None``.
        request_id: The gateway's name for the request, or ``None``.
        reason: Why it was refused or is in doubt.
        intent_at: When its last attempt was about to be sent, in seconds since 1970.
        submitted_at: When it was accepted, in seconds since 1970, or ``None``.
        reading: The final answer about it, or ``None``.
        request: What was submitted, where it is kept and was asked for.
    """

    key: str
    state: State
    attempt: int
    mine: bool
    fresh: bool = False
    digest: bytes
    task_id: str | None = None
    request_id: str | None = None
    reason: str = ""
    intent_at: float
    submitted_at: float | None = None
    reading: Reading | None = None
    request: RemixRequest | None = None


@frozen
class Claim:
    """A purchase that is about to be made.

    Attributes:
        request: What is bought.
        key: Its key.
        may_buy: Whether a job that is known may be bought once more.
    """

    request: RemixRequest
    key: str
    may_buy: Callable[[Job], bool]


@frozen
class Place:
    """Where a video is saved, or (not ``done``) was to be."""

    path: str
    done: bool


def digest_of(request: RemixRequest) -> bytes:
    """Return what two equal requests have in common, and no others."""
    extra = dict(request.extra)
    if extra:
        extra = json.loads(json.dumps(extra))  # as it is sent: every name a text
    content = [request.video_id, request.model, request.prompt, extra]
    return hashlib.sha256(_canonical(content).encode()).digest()


def job_of(row: sqlite3.Row, owner: int) -> Job:
    """Read a row."""
    return Job(
        key=row["key"],
        state=State(row["state"]),
        attempt=row["attempt"],
        mine=row["owner"] == owner,
        digest=row["digest"],
        task_id=row["task_id"],
        request_id=row["request_id"],
        reason=row["reason"] or "",
        intent_at=row["intent_at"],
        submitted_at=row["submitted_at"],
        reading=_reading(row),
    )


def entry_of(row: sqlite3.Row) -> JournalEntry:
    """Read a row, joined with its gateway's, for a user."""
    return JournalEntry(
        key=row["key"],
        id=row["task_id"],
        status=row["state"],
        request=request_of(row),
        video_id=row["video_id"],
        model=row["model"],
        base_url=row["base_url"],
        attempt=row["attempt"],
        purchases=row["paid_before"] + (row["state"] != State.REFUSED),
        video=_video(row),
        path=row["path"],
        request_id=row["request_id"],
        reason=row["reason"] or "",
        created_at=moment(row["created_at"]),
        sent_at=moment(row["intent_at"]),
        submitted_at=_moment_or_none(row["submitted_at"]),
        settled_at=_moment_or_none(row["settled_at"]),
        downloaded_at=_moment_or_none(row["downloaded_at"]),
    )


def doubt_of(row: sqlite3.Row) -> InDoubt:
    """Read the row of a job in doubt, for a user."""
    return InDoubt(
        key=row["key"],
        request=request_of(row),
        video_id=row["video_id"],
        model=row["model"],
        attempt=row["attempt"],
        sent_at=moment(row["sent_at"] or row["intent_at"]),
        request_id=row["request_id"],
        reason=row["reason"] or "",
    )


def request_of(row: sqlite3.Row) -> RemixRequest | None:
    """Return what was submitted, where the journal keeps it."""
    if row["prompt"] is None:
        return None
    try:
        return RemixRequest(
            video_id=row["video_id"],
            prompt=row["prompt"],
            model=row["model"],
            extra=json.loads(row["extra"]),
            key=row["key"],
        )
    except ConfigurationError:  # since then a file of the video's name has come to be, for one
        return None


def moment(seconds: float) -> datetime:
    """Return seconds since 1970 as a time."""
    return datetime.fromtimestamp(seconds, UTC)


def _moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def _reading(row: sqlite3.Row) -> Reading | None:
    if row["final"] is None or row["task_id"] is None:
        return None
    return Reading(row["final"], load_json(row["final"]), row["task_id"])


def _video(row: sqlite3.Row) -> Video | None:
    reading = _reading(row)
    return None if reading is None else reading.video


def final_body(reading: Reading, *, prompts: bool) -> bytes:
    """Return the final answer as it is kept: as it came, or what it tells but for texts."""
    if prompts:
        return reading.body
    video = reading.video
    told: dict[str, Any] = {name: getattr(video, name) for name in _PLAIN}
    told |= {"id": video.id, "status": told.pop("raw_status")}
    if video.error is not None and video.error.code is not None:
        told["error"] = {"code": video.error.code}
    kept = {name: value for name, value in told.items() if value is not None}
    return json.dumps(kept, default=datetime.isoformat).encode()
