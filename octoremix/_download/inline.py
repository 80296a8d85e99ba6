"""A result that stands in its own link: ``data:video/mp4;base64,…``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from attrs import define
from yarl import URL

from ..errors import DownloadError, NotAVideoError, printable
from .links import Place, about

__all__ = ["Inline", "decode"]

LONGEST_LINK = 64 * 2**20
"""Characters of a ``data:`` address that are decoded at most."""

_CHUNK = 64 * 2**10


@define(eq=False)
class Inline:
    """Read like an answer to a download."""

    url: URL
    headers: Mapping[str, str]
    _content: memoryview
    status: int = 200

    async def read(self) -> bytes:
        """Return the next bytes, none at the end."""
        chunk, self._content = self._content[:_CHUNK], self._content[_CHUNK:]
        return bytes(chunk)


def decode(task_id: str, place: Place) -> Inline:
    """Decode the video in a link, in base64 or percent-encoded; it blocks.

    Raises:
        DownloadError: The link is too long, or can't be decoded.
        NotAVideoError: It holds something else.
    """
    said, shown = about(task_id, place.url), "data:…"
    if len(place.inline) > LONGEST_LINK:
        raise DownloadError(f"{said} is longer than {LONGEST_LINK} bytes", id=task_id, url=shown)
    head, _, text = place.inline[5:].partition(",")
    content_type, *parameters = (part.strip().lower() for part in head.split(";"))
    if not content_type.startswith("video/"):
        kind = printable(content_type or "text/plain", 60)
        raise NotAVideoError(f"{said} brought {kind}", id=task_id, url=shown)
    content = _decoded(text, in_base64="base64" in parameters)
    if content is None:
        raise DownloadError(f"{said} can't be decoded", id=task_id, url=shown)
    headers = {"Content-Type": content_type, "Content-Length": str(len(content))}
    return Inline(place.url, headers, memoryview(content))


def _decoded(text: str, *, in_base64: bool) -> bytes | None:
    if not text.isascii():
        return None
    content = unquote_to_bytes(text)
    if not in_base64:
        return content
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        return None
