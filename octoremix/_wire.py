"""The dialects of JSON that the gateway speaks, read into the models.

Behind one address stand many channels, and each answers the same question in its own shape. What
they have in common is here in three tables: the words for a status, the places where a field may
stand, and a cattrs hook for each type that is read. All of them are evidence, none is guessed: the
shapes are those of OctopusX's documentation and of new-api, the gateway that it is built on.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import cattrs

from .models import KeyUsage, TaskStatus, Video, VideoError

__all__ = [
    "Reading",
    "configure_converter",
    "error_of",
    "load_json",
    "make_converter",
    "read_id",
    "status_of",
    "unwrap",
    "usage_of",
]

DEEPEST = 64
"""Levels of nesting in a document that is read; those of the gateway have about five."""

# Words are compared in lower case with "-" and " " as "_". A word that is not here is UNKNOWN and
# keeps its task polling: gateways invent new ones, and only these are known to end a task.
STATUS_WORDS: dict[str, TaskStatus] = {
    # OctopusX's query pages: queued, pending. new-api's own states: not_start, submitted.
    **dict.fromkeys(("queued", "pending", "submitted", "not_start"), TaskStatus.QUEUED),
    # Of other channels.
    **dict.fromkeys(
        ("notstarted", "created", "starting", "preparing", "initializing", "waiting", "scheduled"),
        TaskStatus.QUEUED,
    ),
    **dict.fromkeys(("in_progress", "processing", "running", "generating"), TaskStatus.PROCESSING),
    **dict.fromkeys(
        # OctopusX: completed, succeeded. new-api: success. xAI's channel: done.
        ("completed", "complete", "success", "succeeded", "finished", "done"),
        TaskStatus.COMPLETED,
    ),
    **dict.fromkeys(("failed", "failure", "fail", "error"), TaskStatus.FAILED),
    **dict.fromkeys(("cancelled", "canceled"), TaskStatus.CANCELLED),
    "expired": TaskStatus.EXPIRED,
}

_Path = tuple[str | int, ...]

# Where a field may stand, the best place first; 0, "" and null all mean not yet.
_PLACES: dict[str, tuple[str, ...]] = {
    "model": ("model",),
    "created_at": ("created_at", "submit_time"),
    # finish_time: new-api's task record; finished_at: its lifecycle object.
    "completed_at": ("completed_at", "finish_time", "finished_at"),
    "expires_at": ("expires_at",),
    "size": ("size",),
    "seconds": ("seconds",),
    "quality": ("quality",),
    # parent_video_id: gateways that share OctopusX's documentation.
    "remixed_from_video_id": ("remixed_from_video_id", "parent_video_id"),
}

# Fields that a task's record leaves to the upstream's object inside it.
_FROM_UPSTREAM = ("model", "size", "seconds")

# The places of the result's link in probing order; then only /content is left.
_LINK_PLACES: tuple[_Path, ...] = (
    ("video_url",),
    ("url",),
    ("metadata", "url"),
    ("output", "url"),
    ("output",),
    ("output", 0),
    ("video", "url"),
    # new-api's task record: its own link, then those of the upstream's object inside it.
    ("result_url",),
    ("data", "result_url"),
    ("data", "url"),
    ("data", "content", "video_url"),
    ("data", "video_url"),
    ("data", "metadata", "url"),
    ("data", "data", "content", "video_url"),
    ("data", "data", "video_url"),
    ("videos", 0, "url"),
)
_LINK_KEYS = frozenset(str(place[0]) for place in _LINK_PLACES)

_ID_PLACES: tuple[_Path, ...] = (("id",), ("task_id",), ("data", "task_id"), ("data", "id"))


def status_of(word: object) -> TaskStatus:
    """Return the status that a word stands for; ``None`` and unknown words are ``UNKNOWN``.

    Raises:
        ValueError: The word is no text; the message names the field.
    """
    if word is None:
        return TaskStatus.UNKNOWN
    if isinstance(word, str) and (status := STATUS_WORDS.get(word)) is not None:
        return status
    if not isinstance(word, str):
        raise ValueError(f"status: {type(word).__name__}, not a text")  # noqa: TRY004  # a finding, not a bug
    folded = word.strip().lower().replace("-", "_").replace(" ", "_")
    return STATUS_WORDS.get(folded, TaskStatus.UNKNOWN)


def _text(value: object, _: Any = None) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return None


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("%"))
        except ValueError:
            return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _progress(value: object, _: Any = None) -> float | None:
    """Read ``50``, ``50.0``, ``"50"`` or ``"50%"`` and keep it between 0 and 100."""
    number = _number(value)
    return None if number is None else min(100.0, max(0.0, number))


def _moment(value: object, _: Any = None) -> datetime | None:
    """Read seconds, milliseconds or microseconds since 1970, or ISO 8601; 0 means not yet."""
    number = _number(value)
    try:
        if number is not None:
            while number > 1e11:  # later than the year 5138 in seconds: a finer unit
                number /= 1000
            return datetime.fromtimestamp(number, UTC) if number > 0 else None
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def error_of(value: object) -> VideoError | None:
    """Read an error's text or object; healthy tasks carry one with empty fields."""
    if isinstance(value, str):
        value = {"message": value}
    if not isinstance(value, dict):
        return None
    code = _text(value.get("code") or None)
    # detail, title: FastAPI and problem+json, in front of the gateway or behind it.
    said = next(filter(None, map(value.get, ("message", "detail", "title"))), "")
    message = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    if not code and not message.strip():
        return None
    upstream = _upstream_error(message)
    if upstream is None:
        return VideoError(code=code, message=message)
    return VideoError(code=code or upstream.code, message=upstream.message or message)


def _upstream_error(message: str) -> VideoError | None:
    """Read an upstream's error that the gateway passes on as a text of JSON."""
    if not message.lstrip().startswith("{"):
        return None
    try:
        document = load_json(message.encode(errors="surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return error_of(document.get("error")) or error_of(document)


_RAW = Mapping[str, Any]


def configure_converter(converter: cattrs.Converter) -> cattrs.Converter:
    """Register the hooks for every type of a `Video`'s fields; without them cattrs coerces.

    Its defaults would read ``None`` as ``'None'`` and ``"false"`` as ``True``.
    """
    converter.register_structure_hook(TaskStatus, lambda word, _: status_of(word))
    converter.register_structure_hook(str | None, _text)
    converter.register_structure_hook(float | None, _progress)
    converter.register_structure_hook(datetime | None, _moment)
    converter.register_structure_hook(VideoError | None, lambda error, _: error)
    converter.register_structure_hook_func(lambda kind: kind == _RAW, lambda raw, _: raw)
    converter.register_structure_hook(str, lambda text, _: text)
    return converter


@functools.cache
def _converter() -> cattrs.Converter:
    return make_converter()  # when the first is needed: making one takes as long as many imports


def make_converter() -> cattrs.Converter:
    """Return a converter of our own; the global one of cattrs is never touched."""
    return configure_converter(cattrs.Converter())


_decoder = json.JSONDecoder()


def load_json(body: bytes) -> Any:
    """Decode JSON, but nothing that is nested so deeply that comparing or copying it may fail.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    try:  # what `json.loads` would do with white space and byte order marks is seldom needed
        text = body.decode()
        document, end = _decoder.raw_decode(text)
        whole = end == len(text)
    except ValueError:
        whole = False
    if not whole:
        document = json.loads(body)
    if body.count(b"{") + body.count(b"[") > DEEPEST:
        level = [document]
        for _ in range(DEEPEST):
            level = [child for parent in level for child in _children(parent)]
        if level:
            raise RecursionError(f"nested deeper than {DEEPEST} levels")
    return document


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _at(document: Any, path: _Path) -> Any:
    for step in path:
        if isinstance(step, str) and isinstance(document, dict):
            document = document.get(step)
        elif isinstance(step, int) and isinstance(document, list) and document:
            document = document[step]
        else:
            return None
    return document


def _is_link(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower().startswith(
        ("http://", "https://", "data:")
    )


def _link(document: dict[str, Any]) -> str | None:
    """Find the result's link. Failure texts stand in the same places, so the scheme decides."""
    if not any(map(document.get, _LINK_KEYS)):
        return None  # as in every answer before the last
    for place in _LINK_PLACES:
        value = _at(document, place)
        if _is_link(value):
            return str(value).strip()
    return None


def unwrap(document: dict[str, Any]) -> dict[str, Any]:
    """Take the task out of an envelope such as ``{"code": "success", "message": …, "data": {…}}``.

    A task's own record may hold its upstream's object as ``data``; unlike an envelope it has an id.
    """
    inner = document.get("data")
    if inner and isinstance(inner, dict):
        envelope = document.get("code") == "success"
        nameless = "id" not in document and "task_id" not in document
        if envelope or (nameless and "status" in inner):
            return unwrap(inner)
    return document


def usage_of(data: dict[str, Any]) -> KeyUsage:
    """Read what a key was given and has used.

    Raises:
        ValueError: A field is missing or no number; the message names it.
    """
    amounts = {}
    for name in ("total_granted", "total_used", "total_available"):
        number = _number(data.get(name))
        if number is None:
            raise ValueError(f"{name}: no number")
        amounts[name.removeprefix("total_")] = number
    return KeyUsage(
        name=_text(data.get("name")),
        unlimited=data.get("unlimited_quota") is True,
        expires_at=_moment(data.get("expires_at")),
        **amounts,
    )


def read_id(document: dict[str, Any]) -> str | None:
    """Return the id that an answer gives to its task, or ``None``.

    Where a record's ``id`` is a number, it is a row of the gateway's table, and the task's id stands
    in another place.
    """
    value = document.get("id")
    if isinstance(value, str) and value and not value.isspace():
        return value
    number = None
    for place in _ID_PLACES:
        value = _at(document, place)
        if isinstance(value, str) and value.strip():
            return value
        if number is None and type(value) is int:
            number = str(value)
    return number


class Reading:
    """One good answer about a task, read only as far as the schedule needs it.

    Of thousands of answers that say «not yet» nobody looks at more than the status, so the rest
    becomes a `Video` when somebody asks for it. Kept are the bytes: they are smaller than the
    objects that they hold, and cost the garbage collector nothing.

    Args:
        body: The answer's JSON.
        document: The object that it holds.
        task_id: The task, whose id this stays whatever the body says.

    Attributes:
        floor: Seconds that the answer asks to wait at least before the next query, or 0.

    Raises:
        ValueError: The status can't be understood; the message names the field.
    """

    __slots__ = ("_video", "body", "floor", "status", "task_id")

    def __init__(self, body: bytes, document: dict[str, Any], task_id: str) -> None:
        self.status = status_of(_word(unwrap(document)))
        self.body = body
        self.task_id = task_id
        self.floor = 0.0
        self._video: Video | None = None

    @classmethod
    def of(cls, video: Video) -> Reading:
        """Return the answer that a snapshot was made of.

        Raises:
            ValueError: It was made of none, by a caller.
        """
        document = dict(video.raw)
        return cls(json.dumps(document, default=str).encode(), document, video.id)

    def __repr__(self) -> str:
        return f"<Reading {self.status}>"

    @property
    def video(self) -> Video:
        """The whole snapshot."""
        if self._video is None:
            self._video = _structure(json.loads(self.body), self.task_id)
        return self._video


def _word(task: dict[str, Any]) -> Any:
    """Return the task's word for its status."""
    word = task.get("status")
    if (word is None or word == "") and error_of(task.get("error")) is not None:
        return "failed"  # an upstream's error object, stored in the place of the task
    return word


def _structure(document: dict[str, Any], task_id: str) -> Video:
    task = unwrap(document)
    word, error, link = _word(task), error_of(task.get("error")), _link(task)
    if error is None and (reason := task.get("fail_reason")):
        # new-api's fail_reason: why a task failed, and on old rows where a finished one's result is.
        if _is_link(reason):
            link = link or reason
        else:
            error = error_of(reason)
    fields = {
        "id": task_id,
        "status": word,
        "raw_status": word,
        "progress": task.get("progress"),
        "url": link,
        "error": error,
        "raw": document,
    }
    for name, places in _PLACES.items():
        fields[name] = next(filter(None, map(task.get, places)), None)
    upstream = task.get("data")
    if isinstance(upstream, dict):
        for name in _FROM_UPSTREAM:
            fields[name] = fields[name] or upstream.get(name)
    return _converter().structure(fields, Video)
