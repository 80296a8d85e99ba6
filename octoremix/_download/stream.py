"""A result that is read in chunks."""

from __future__ import annotations

from typing import Self

from ..errors import DownloadError, printable, quoted
from .body import Body

__all__ = ["DownloadStream"]


class DownloadStream:
    """A video on its way, for whom it need not be a file; `Session.open` gives it.

    Iterate over it once, with ``async for``. Its first bytes were looked at already, and **only an
    iteration that ends by itself brought all of it**: what fails on the way raises, and what was
    read until then is worth nothing.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._closed = False

    def __repr__(self) -> str:
        size = "of unknown length" if self.length is None else f"of {self.length} bytes"
        return f"<octoremix.DownloadStream of {quoted(self.id)}, {size}>"

    @property
    def id(self) -> str:
        """The task."""
        return self._body.id

    @property
    def url(self) -> str:
        """Where it comes from, without the query; ``"data:…"`` for a link that holds it."""
        return self._body.url or ""

    @property
    def length(self) -> int | None:
        """How many bytes it has, or ``None`` where the server does not tell."""
        return self._body.length

    @property
    def content_type(self) -> str:
        """What its server calls it, for example ``"video/mp4"``; perhaps empty."""
        return printable(self._body.content_type, 100)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes, as many as have come.

        Raises:
            DownloadError: It is not whole, larger than ``max_size``, or was closed before.
            APIConnectionError: It was cut off too often.
            APIError: The gateway refused to go on.
        """
        if self._closed:
            raise DownloadError("the stream is closed: read it inside its async with", id=self.id)
        chunk = await self._body.read()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _close(self) -> None:
        self._closed = True
        await self._body.aclose()
