"""What a record of an input means: one remix to be bought, and the key of its job."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from attrs import define, field, frozen

from ... import ConfigurationError, RemixRequest
from ...errors import quoted
from .trouble import Troubles

__all__ = ["KNOWN", "Line", "Records", "canonical", "fault_of"]

KNOWN = frozenset({"video", "prompt", "model", "key"})

_canonical_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)

_DEEPEST = 32
_LONGEST_KEY = 500
_NOT_LETTERS = re.compile(r"[\W_]+")
# What people call the columns that are needed.
_OTHER_NAMES = {
    "video": frozenset(
        {
            *("file", "filename", "id", "input", "link", "path", "source", "sourceid"),
            *("sourcevideo", "taskid", "url", "videoid", "videourl", "videos"),
        }
    ),
    "prompt": frozenset(
        {
            *("caption", "description", "instruction", "instructions", "message", "prompts"),
            *("query", "text"),
        }
    ),
}


@frozen
class Line:
    """One job of a batch.

    Attributes:
        number: The line of the input on which it begins, from 1.
        request: What is to be bought; its ``key`` is set.
    """

    number: int
    request: RemixRequest


def canonical(name: str) -> str:
    """Return the name of a column or field: of ours in lower case, of any other as it is."""
    plain = name.strip().casefold()
    return plain if plain in KNOWN else name


@functools.lru_cache(maxsize=64)
def fault_of(names: tuple[str, ...], kind: str) -> str | None:
    """Return what is wrong with the names of a record, or ``None``.

    Args:
        names: As `canonical` returns them; an empty one names nothing.
        kind: What they are called, ``"column"`` or ``"field"``.
    """
    seen: set[str] = set()
    for name in filter(None, names):
        plain = name.strip().casefold()
        if plain in seen:
            return f"there are two {kind}s {quoted(name, 60)}: leave one"
        seen.add(plain)
    for needed, others in _OTHER_NAMES.items():
        if needed not in seen:
            return f"there is no {kind} {needed!r}{_hint(others, names)}"
    for name in names:
        plain = _NOT_LETTERS.sub("", name.casefold())
        if plain in {"id", "videoid"}:
            return (
                f"the {kind} {quoted(name, 60)} would be sent to the gateway beside 'video': "
                "call it 'key' if it names the job, else leave it out"
            )
        if plain == "extra":
            return f"there is a {kind} {quoted(name, 60)}: name each further {kind} by itself"
    return None


def _hint(others: frozenset[str], names: tuple[str, ...]) -> str:
    for name in names:
        if _NOT_LETTERS.sub("", name.casefold()) in others:
            return f": is it what is called {quoted(name, 60)}?"
    listed = ", ".join(quoted(name, 40) for name in names[:6])
    return f", only {listed}" if listed else ""


@define(eq=False, repr=False)
class Records:
    """Makes the jobs of a batch from the records of its input.

    Args:
        troubles: Where to tell what is wrong.
        model: The model of the records that name none.
    """

    _troubles: Troubles
    _model: str
    lines: list[Line] = field(init=False, factory=list)
    _begins: dict[str, int] = field(init=False, factory=dict)
    _times: dict[str, int] = field(init=False, factory=dict)

    def __repr__(self) -> str:
        return f"<Records {len(self.lines)}>"

    def add(self, number: int, values: dict[str, Any]) -> None:
        """Take a record, or tell what is wrong with it.

        Args:
            number: The line on which it begins.
            values: By their `canonical` names, of which nothing is wrong.
        """
        try:
            request = self._request(values)
        except ConfigurationError as error:
            self._troubles.add(number, str(error))
            return
        key = str(request.key)
        earlier = self._begins.setdefault(key, number)
        if earlier != number:
            self._troubles.add(number, f"the key {quoted(key, 80)} is that of line {earlier} too")
            return
        self.lines.append(Line(number, request))

    def _request(self, values: dict[str, Any]) -> RemixRequest:
        if _too_deep(values):
            raise ConfigurationError(f"is nested deeper than {_DEEPEST} levels")
        video = _stripped(values.pop("video"))
        prompt = values.pop("prompt")
        model = _stripped(values.pop("model", None))
        model = self._model if model is None else model
        key = _stripped(values.pop("key", None))
        for name, value in (("video", video), ("prompt", prompt), ("key", key)):
            if isinstance(value, str) and "\0" in value:
                raise ConfigurationError(f"{name} holds a NUL character")
        if key is None:
            key = self._derived({"video": video, "prompt": prompt, "model": model, "extra": values})
        return RemixRequest(
            video_id=video,
            prompt=prompt,
            model=sys.intern(model) if type(model) is str else model,
            extra={sys.intern(name): value for name, value in values.items()},
            key=_checked_key(key),
        )

    def _derived(self, content: dict[str, Any]) -> str:
        """Return a key that an edited line loses and a moved line keeps."""
        text = _canonical_json.encode(content).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(text).hexdigest()[:16]
        times = self._times[digest] = self._times.get(digest, 0) + 1
        return digest if times == 1 else f"{digest}-{times}"


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ConfigurationError(
            f"key must be a text, not {json.dumps(key)[:40]}: put it in quotes"
        )
    if not key:
        raise ConfigurationError("key is empty: leave it out, or name the job")
    if len(key) > _LONGEST_KEY:
        raise ConfigurationError(f"key is longer than {_LONGEST_KEY} characters")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"key {quoted(key, 80)} holds a lone surrogate") from None
    return key


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
