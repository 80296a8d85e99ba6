"""aioresponses as it has to be for the aiohttp that is installed, for injecting exceptions.

aioresponses 0.7.9 makes `aiohttp.ClientResponse` objects without the ``stream_writer`` that aiohttp
3.14 asks for. It passes a `response_class` on, though, and one that fills the gap is enough.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import aiohttp
from aioresponses import aioresponses
from yarl import URL

_NEEDED = inspect.signature(aiohttp.ClientResponse.__init__).parameters


class Response(aiohttp.ClientResponse):
    """A response that no stream was written for."""

    def __init__(self, *args: Any, **arguments: Any) -> None:
        if "stream_writer" in _NEEDED:
            arguments.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **arguments)


class Answers(aioresponses):  # type: ignore[misc]  # it has no type hints
    """`aioresponses` whose answers can be made with any aiohttp that we support."""

    def add(self, url: Any, method: str = "GET", **options: Any) -> None:
        options.setdefault("response_class", Response)
        super().add(url, method, **options)

    def count(self, method: str) -> int:
        """How many requests of a method were made."""
        return sum(len(calls) for (used, _), calls in self.requests.items() if used == method)

    def last(self, method: str, url: str) -> dict[str, Any]:
        """The arguments of the last request."""
        arguments: dict[str, Any] = self.requests[method, URL(url)][-1].kwargs
        return arguments
