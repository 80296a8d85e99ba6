"""The API key, where no `repr`, `vars` or pickle finds it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .errors import ConfigurationError

__all__ = ["APIKey", "APIKeySource"]

APIKeySource = str | Callable[[], str | Awaitable[str]]

_FIX = "pass api_key= or set OCTOPUSX_API_KEY to the key from the OctopusX console"
_REDACTED = "[API key]"


class APIKey:
    """Authorises calls, and blots the key out of what comes back.

    Args:
        source: The key, or a callable that returns it, plain or awaitable, asked before each call.

    Raises:
        ConfigurationError: There is no key, or it is malformed.
    """

    __slots__ = ("_get", "_last")

    def __init__(self, source: APIKeySource | None) -> None:
        self._last = ""
        if callable(source):
            self._get = source
        else:
            self._last = key = check_key(source)
            self._get = lambda: key

    def __repr__(self) -> str:
        return "<APIKey>"

    def __reduce__(self) -> Any:
        raise TypeError("an API key can't be pickled; make the session where it is used")

    async def headers(self) -> dict[str, str]:
        """Return the header that authorises one call.

        Raises:
            ConfigurationError: The callable returned no usable key.
        """
        key = self._get()
        if inspect.isawaitable(key):
            key = await key
        if key is not self._last:
            self._last = check_key(key)
        return {"Authorization": f"Bearer {self._last}"}

    def redact(self, body: bytes) -> bytes:
        """Return an answer's body without the key, which some gateways repeat in their errors."""
        key = self._last.encode()
        return body.replace(key, _REDACTED.encode()) if key and key in body else body

    def redact_text(self, text: str) -> str:
        """Return a text without the key."""
        return text.replace(self._last, _REDACTED) if self._last else text

    def redact_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return headers without the key in their values."""
        for value in headers.values():
            if self._last and self._last in value:
                break
        else:
            return headers
        redacted = headers.copy()  # type: ignore[attr-defined]  # a multidict, which is a Mapping
        for name in headers:
            redacted[name] = self.redact_text(headers[name])
        return redacted  # type: ignore[no-any-return]  # the same multidict


def check_key(key: object) -> str:
    """Return the key without the white space around it.

    Raises:
        ConfigurationError: It is missing or malformed; the message does not repeat it.
    """
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError(f"the API key is missing: {_FIX}")
    key = key.strip()
    if key.lower().startswith("bearer "):
        raise ConfigurationError(f"the API key begins with 'Bearer': leave that word out, {_FIX}")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"the API key holds a space or a sign that no key has: {_FIX}")
    return key
