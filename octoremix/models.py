"""The values that octoremix takes and gives: frozen, keyword-only, without I/O."""

from __future__ import annotations

import copy
import enum
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen

from .errors import (
    ConfigurationError,
    RemixCancelledError,
    RemixError,
    RemixExpiredError,
    RemixFailedError,
    printable,
    quoted,
)

__all__ = ["Event", "KeyUsage", "RemixRequest", "SessionStats", "TaskStatus", "Video", "VideoError"]

DEFAULT_MODEL = "veo_3_1-extend"

LONGEST_KEY = 500

_VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
)


class TaskStatus(enum.StrEnum):
    """Where a task stands.

    Only four are `terminal` and end it. ``UNKNOWN`` stands for a word that is not known, or for
    none at all: the task goes on.
    """

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        """Whether the task has reached its end."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.EXPIRED}
)


@frozen(kw_only=True)
class VideoError:
    """Why a task failed, in the gateway's words.

    Attributes:
        code: The machine-readable word, or ``None``.
        message: The text, perhaps empty.
    """

    code: str | None = None
    message: str = ""


def without_query(url: str | None) -> str | None:
    """Return a link that may be shown: signed links carry their permission in the query."""
    if url is None:
        return None
    if url[:5].lower() == "data:":
        return "data:…"
    return url.partition("#")[0].partition("?")[0]


def _shown_link(url: str | None) -> str:
    return repr(without_query(url))


@frozen(kw_only=True)
class Video:
    """One snapshot of a task.

    Attributes:
        id: The id that is polled, whatever the answer's body calls itself.
        status: Where the task stands.
        raw_status: The gateway's own word for it, or ``None``.
        progress: Per cent from 0 to 100, or ``None``. It is no evidence of success: a failed task
            commonly shows 100.
        model: The model in use, or ``None``.
        created_at: When the task was created (aware, UTC), or ``None``.
        completed_at: When it ended, or ``None``; gateways also set it while a task runs.
        expires_at: When the result is removed, or ``None``.
        size: For example ``"720x1280"`` or ``"720P"``, or ``None``.
        seconds: The length in seconds as the gateway writes it, for example ``"8"``, or ``None``.
        quality: As the gateway writes it, or ``None``.
        remixed_from_video_id: The source, perhaps in another id space, or ``None``.
        url: Where the result can be fetched, or ``None``; its query may be a permission.
        error: Why the task failed, or ``None``.
        raw: The whole JSON object as it came.
    """

    id: str
    status: TaskStatus = TaskStatus.UNKNOWN
    raw_status: str | None = None
    progress: float | None = None
    model: str | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    size: str | None = None
    seconds: str | None = None
    quality: str | None = None
    remixed_from_video_id: str | None = None
    url: str | None = field(default=None, repr=_shown_link)
    error: VideoError | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)


_ENDINGS: dict[TaskStatus, tuple[type[RemixError], str]] = {
    TaskStatus.FAILED: (RemixFailedError, "failed"),
    TaskStatus.CANCELLED: (RemixCancelledError, "was cancelled"),
    TaskStatus.EXPIRED: (RemixExpiredError, "expired"),
}


def outcome_of(video: Video) -> Video | RemixError:
    """Return what a terminal snapshot means to its waiters: itself, or the error that it tells."""
    if video.status not in _ENDINGS:
        return video
    kind, verb = _ENDINGS[video.status]
    why = ""
    if video.error is not None:
        code = f" [{printable(video.error.code, 60)}]" if video.error.code else ""
        why = f":{code} {printable(video.error.message)}" if video.error.message else code
    return kind(f"task {quoted(video.id)} {verb}{why}", id=video.id, video=video)


def check_text(name: str, value: object, fix: str) -> str:
    """Return ``value`` if it is a text that can be sent, or say how to mend it."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a str, not {type(value).__name__}: {fix}")
    if not value.strip():
        raise ConfigurationError(f"{name} is empty: {fix}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{name} {quoted(value, 80)} holds a lone surrogate, which UTF-8 can't carry: {fix}"
        ) from None
    return value


def check_task_id(value: object, name: str = "task_id") -> str:
    """Return the id of a task or video if it can be put into a path.

    Raises:
        ConfigurationError: It is no text, is empty, or is ``.`` or ``..``, which vanish from URLs.
    """
    fix = "pass the id that the gateway gave, for example 'video_123'"
    checked = check_text(name, value, fix)
    if checked in {".", ".."}:
        raise ConfigurationError(f"{name} {checked!r} can't be part of a URL: {fix}")
    return checked


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name that is too long for the file system
        return False


def check_source_id(value: object) -> str:
    """Return the id of a video to remix, or say why a file or an address is none."""
    checked = check_task_id(value, "video")
    fix = (
        "only videos made on the gateway can be remixed; "
        "pass the id that it gave, for example 'video_123'"
    )
    shown = quoted(checked, 120)
    bare = checked.strip()
    if bare.lower().startswith(("http://", "https://")):
        raise ConfigurationError(f"video {shown} is an address, not an id: {fix}")
    if Path(bare).suffix.lower() in _VIDEO_SUFFIXES or _is_file(checked):
        raise ConfigurationError(f"video {shown} looks like a local file, not an id: {fix}")
    return checked


def _check_source(_: object, __: object, value: str) -> None:
    check_source_id(value)


def _check_prompt(_: object, __: object, value: str) -> None:
    check_text("prompt", value, "describe in words what the remix should change")


def _check_model(_: object, __: object, value: str) -> None:
    fix = f"name a remix model, for example {DEFAULT_MODEL!r}"
    model = check_text("model", value, fix)
    if not model.isprintable() or model != model.strip():
        raise ConfigurationError(f"model {quoted(model, 80)} is malformed: {fix}")


def _check_key(_: object, __: object, value: str | None) -> None:
    if value is not None:
        fix = "choose a name of your own for the job, for example 'order-17'"
        if len(check_text("key", value, fix)) > LONGEST_KEY:
            raise ConfigurationError(f"key has more than {LONGEST_KEY} characters: {fix}")


def _check_extra(_: object, __: object, value: Mapping[str, Any]) -> None:
    taken = {"prompt", "model"} & value.keys()
    if taken:
        name = min(taken)
        raise ConfigurationError(f"extra holds {name!r}: pass {name}= itself instead")
    if not all(isinstance(name, str) for name in value):
        raise ConfigurationError("extra has a key that is no str: name the fields of the JSON body")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"extra can't be written as JSON ({printable(error)}): "
            "use str, int, float, bool, None, list and dict"
        ) from None


def _mapping(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"extra must be a mapping of body fields, not {type(value).__name__}: "
            "for example {'size': '720P'}"
        )
    return dict(value)


@frozen(kw_only=True)
class RemixRequest:
    """One remix to be bought.

    Attributes:
        video_id: The source, a finished video of this account.
        prompt: What the remix should change.
        model: The remix model.
        extra: Further fields of the body, for example ``size`` or ``aspect_ratio``.
        key: The caller's own name for the job, at most 500 characters, or ``None``.
        metadata: Anything of the caller's, never sent.

    Neither ``key`` nor ``metadata`` is part of what makes two requests equal.

    Raises:
        ConfigurationError: A field is missing or malformed; the message names the fix.
    """

    video_id: str = field(validator=_check_source)
    prompt: str = field(validator=_check_prompt)
    model: str = field(default=DEFAULT_MODEL, validator=_check_model)
    extra: Mapping[str, Any] = field(
        factory=dict, converter=_mapping, validator=_check_extra, hash=False
    )
    key: str | None = field(default=None, eq=False, validator=_check_key)
    metadata: Any = field(default=None, eq=False, repr=False)


def with_key(request: RemixRequest, key: str) -> RemixRequest:
    """Return a request under a key of our own making, without the checks that it has passed."""
    copied = copy.copy(request)
    object.__setattr__(copied, "key", key)
    return copied


@frozen(kw_only=True)
class KeyUsage:
    """What a key was given and has used, in the gateway's units of quota.

    Attributes:
        name: What the key is called in the gateway's console, or ``None``.
        granted: What it was given.
        used: What it has used.
        available: What it has left; it means nothing where it is ``unlimited``.
        unlimited: Whether the account alone limits it.
        expires_at: When it expires (aware, UTC), or ``None``.
    """

    name: str | None = None
    granted: float
    used: float
    available: float
    unlimited: bool = False
    expires_at: datetime | None = None


@frozen(kw_only=True)
class SessionStats:
    """What a session has done and is doing, at one moment.

    Attributes:
        polls_sent: Queries sent by the poller since the session was made.
        tasks_followed: Tasks that are followed now.
        requests_in_flight: Polls and submits that wait for their answer now.
        cool_down: Seconds until polls may start again after a 429, or 0.
    """

    polls_sent: int
    tasks_followed: int
    requests_in_flight: int
    cool_down: float


@frozen(kw_only=True)
class Event:
    """Something that happened in a session, handed to its ``on_event``.

    Attributes:
        kind: ``"accepted"`` (a submit got its id), ``"polled"`` (an answer about a task, good or
            bad), ``"settled"`` (a followed task is done with), or ``"cool_down"`` (a 429 pauses
            the session).
        id: The task, or ``None`` for a cool-down.
        video: The snapshot that the event brought, if any.
        error: The error that it brought, if any.
        delay: Of a cool-down, its length in seconds, else ``None``.
    """

    kind: str
    id: str | None = None
    video: Video | None = None
    error: Exception | None = None
    delay: float | None = None
