"""The bytes of a finished video, and their way to the client."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

from aiohttp import web
from attrs import frozen

from ._answers import content_error, hang_up
from ._canned import canned_chunks
from ._faults import Fault

_CHUNK = 256 * 1024
_STEPS = 10  # pieces in which a slow answer comes
_CANNED_AT = 1_735_689_600.0  # when the canned video was last changed, as a Unix time


@frozen
class CannedContent:
    """The canned video, brought to ``size`` bytes."""

    size: int
    content_type: str = "video/mp4"
    changed_at: float = _CANNED_AT

    async def chunks(self, part: range) -> AsyncGenerator[bytes, None]:
        """The bytes of a part in their order."""
        at = 0
        for chunk in canned_chunks(self.size):
            if at >= part.stop:
                return
            if piece := chunk[max(0, part.start - at) : part.stop - at]:
                yield piece
            at += len(chunk)


@frozen
class FileContent:
    """A file: rendered here, or the user's own."""

    path: Path
    size: int
    content_type: str
    changed_at: float

    async def chunks(self, part: range) -> AsyncGenerator[bytes, None]:
        """The bytes of a part in their order, read in a worker thread."""
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(None, self.path.open, "rb")
        left = len(part)
        try:
            await loop.run_in_executor(None, file.seek, part.start)
            while chunk := await loop.run_in_executor(None, file.read, min(left, _CHUNK)):
                yield chunk
                left -= len(chunk)
        finally:
            await loop.run_in_executor(None, file.close)


Content = CannedContent | FileContent


async def open_file(path: Path) -> FileContent:
    """The content of a file, or a 502 where it is gone, as when an upstream's link is."""
    try:
        status = await asyncio.get_running_loop().run_in_executor(None, path.stat)
    except OSError:
        raise content_error(502, "Failed to fetch video content", "server_error") from None
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    return FileContent(path, status.st_size, kind, status.st_mtime)


def _tag(content: Content) -> str:
    """A strong validator: equal for equal bytes."""
    return f'"{content.size:x}-{content.changed_at:.6f}"'


# One range; of several, as of any other unit, a server may send the whole (RFC 9110, 14.2).
_RANGE = re.compile(
    r"bytes=(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-(?P<tail>[0-9]{1,18}))"
)


def wanted_range(headers: Mapping[str, str], content: Content) -> range | None:
    """The bytes that a request asks for.

    Args:
        headers: Those of the request.
        content: What it is about.

    Returns:
        The numbers of the bytes, none of them if there are none such; None for the whole.
    """
    asked = _RANGE.fullmatch(headers.get("Range", "").strip())
    if asked is None or not _is_unchanged(headers.get("If-Range"), content):
        return None
    size = content.size
    if asked["tail"]:
        return range(max(0, size - int(asked["tail"])), size)
    first = int(asked["first"])
    end = int(asked["last"]) + 1 if asked["last"] else max(first + 1, size)
    if end <= first:
        return None  # no range at all
    return range(first, min(end, size))


def _is_unchanged(condition: str | None, content: Content) -> bool:
    """Whether ``If-Range`` is fulfilled, by a tag or by a date."""
    if condition is None or condition == _tag(content):
        return True
    try:
        return int(parsedate_to_datetime(condition).timestamp()) == int(content.changed_at)
    except (ValueError, OverflowError, OSError):
        return False


async def send(
    request: web.Request,
    content: Content,
    headers: dict[str, str],
    faults: Sequence[Fault] = (),
) -> web.StreamResponse:
    """Stream ``content``, or the part of it that is asked for.

    Args:
        request: A GET, or a HEAD, which is answered without the bytes.
        content: The bytes.
        headers: What the answer carries besides.
        faults: What goes wrong with it.
    """
    by_name = {fault.name: fault for fault in faults}
    ranged = "content_no_range" not in by_name
    part = wanted_range(request.headers, content) if ranged else None
    sent = range(content.size) if part is None else part
    response = web.StreamResponse(status=200 if part is None else 206 if part else 416)
    response.headers.update({"Cache-Control": "public, max-age=86400"} | headers)
    if ranged:
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["ETag"] = _tag(content)
        response.headers["Last-Modified"] = formatdate(content.changed_at, usegmt=True)
    if part is not None:
        shown = f"{part[0]}-{part[-1]}" if part else "*"
        response.headers["Content-Range"] = f"bytes {shown}/{content.size}"
    response.content_type = content.content_type
    if "content_no_length" not in by_name or not sent:
        response.content_length = len(sent)
    # A client that has left is no error of ours.
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        if request.method != "HEAD" and sent:
            cut = by_name.get("content_timeout") or by_name.get("content_truncated")
            await _write(request, response, content, sent, cut)
    return response


async def _write(
    request: web.Request,
    response: web.StreamResponse,
    content: Content,
    sent: range,
    cut: Fault | None,
) -> None:
    """Write the bytes of a part; with a fault half of them, over its time, and then hang up."""
    total = len(sent) if cut is None else len(sent) // 2
    seconds = 0.0 if cut is None else cut.seconds
    step = max(1, total // _STEPS) if seconds else _CHUNK
    part = sent[:total]
    async with contextlib.aclosing(content.chunks(part)) as chunks:
        async for chunk in chunks:
            for piece in (chunk[start : start + step] for start in range(0, len(chunk), step)):
                await asyncio.sleep(seconds * len(piece) / total)
                await response.write(piece)
    if cut is not None:
        hang_up(request)
