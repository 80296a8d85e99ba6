"""The API key, where no `repr`, `vars` or pickle finds it."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from multidict import CIMultiDict

from .errors import APIConnectionError, ConfigurationError, printable

__all__ = ["APIKey", "APIKeySource"]

APIKeySource = str | Callable[[], str | Awaitable[str]]

_FIX = "pass api_key= or set OCTOPUSX_API_KEY to the key from the OctopusX console"
_REDACTED = "[API key]"

_SHORTEST_SECRET = 8
"""Characters from which a key is blotted out: a stand-in like ``"id"`` is no secret, but part of
every answer."""

_KEYS_KEPT = 64
"""A callable's key may change while answers to calls with the last ones are still to come."""


class APIKey:
    """Authorises calls, and blots the key out of what comes back.

    Args:
        source: The key, or a callable that returns it, plain or awaitable, asked before each call.

    Raises:
        ConfigurationError: There is no key, or it is malformed.
    """

    __slots__ = ("_get", "_last", "_others", "_ready", "_ready_for", "_recent", "_spellings")

    def __init__(self, source: APIKeySource | None) -> None:
        self._last = ""
        self._others: Mapping[str, str] | None = None
        self._ready: CIMultiDict[str] = CIMultiDict()
        self._ready_for: object = None
        self._recent: deque[str] = deque(maxlen=_KEYS_KEPT)
        self._spellings: tuple[tuple[str, bytes], ...] = ()
        if callable(source):
            self._get = source
        else:
            problem = self._take(source)
            source = None  # a traceback shows the locals of its frames
            if problem is not None:
                raise ConfigurationError(problem)
            key = self._last
            self._get = lambda: key

    def __repr__(self) -> str:
        return "<APIKey>"

    def __reduce__(self) -> Any:
        raise TypeError("an API key can't be pickled; make the session where it is used")

    async def headers(self, others: Mapping[str, str]) -> CIMultiDict[str]:
        """Return a call's headers with the one that authorises it.

        They are the same object for the same ``others`` until the key changes: aiohttp copies it.

        Raises:
            ConfigurationError: The callable returned no usable key.
            APIConnectionError: The callable failed.
        """
        try:
            key = self._get()
            if not isinstance(key, str) and inspect.isawaitable(key):
                key = await key
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            failure = f"{type(error).__name__}: {printable(self.redact_text(str(error)))}"
        else:
            problem = self._take(key) if key != self._last or not key else None
            if problem is None:
                if others is not self._others or self._last is not self._ready_for:
                    self._others, self._ready_for = others, self._last
                    self._ready = CIMultiDict(others)
                    self._ready["Authorization"] = f"Bearer {self._last}"
                return self._ready
            del key  # a traceback shows the locals of its frames
            raise ConfigurationError(problem)
        raise APIConnectionError(
            f"nothing was sent, because the api_key callable failed: {failure}"
        )

    def redact(self, body: bytes) -> bytes:
        """Return an answer's body without the key, which some gateways repeat in their errors."""
        for _, spelling in self._spellings:
            if spelling in body:
                body = body.replace(spelling, _REDACTED.encode())
        return body

    def redact_text(self, text: str) -> str:
        """Return a text without the key."""
        for spelling, _ in self._spellings:
            text = text.replace(spelling, _REDACTED)
        return text

    def redact_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return headers without the key in their values."""
        for spelling, _ in self._spellings:
            for value in headers.values():
                if spelling in value:
                    return self._redacted(headers)
        return headers

    def _redacted(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        redacted = headers.copy()  # type: ignore[attr-defined]  # a multidict, which is a Mapping
        for name in headers:
            redacted[name] = self.redact_text(headers[name])
        return redacted  # type: ignore[no-any-return]  # the same multidict

    def _take(self, key: object) -> str | None:
        """Use a key from now on, or return what is wrong with it."""
        problem = _problem(key)
        if problem is not None:
            return f"{problem}, {_FIX}"
        self._last = str(key).strip()
        if len(self._last) >= _SHORTEST_SECRET and self._last not in self._recent:
            self._recent.append(self._last)
            forms = {form for known in self._recent for form in _spelled(known)}
            longest_first = sorted(forms, key=len, reverse=True)
            self._spellings = tuple((form, form.encode()) for form in longest_first)
        return None


def _spelled(key: str) -> tuple[str, ...]:
    """Return a key as it is, as JSON may write it, and as an address does."""
    return key, key.replace("/", "\\/"), quote(key, safe="")


def _problem(key: object) -> str | None:
    """Return what is wrong with a key, without repeating it."""
    if not isinstance(key, str) or not key.strip():
        return "the API key is missing"
    key = key.strip()
    if key.lower().startswith("bearer "):
        return "the API key begins with 'Bearer': leave that word out"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "the API key holds a space or a sign that no key has"
    return None
