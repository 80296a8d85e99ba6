"""The bytes of a video on their way to the client."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from aiohttp import web
from attrs import frozen

from ._answers import content_error, hang_up
from ._canned import canned_chunks
from ._faults import Fault

_CHUNK = 256 * 1024


@frozen
class CannedContent:
    """The canned video, brought to ``size`` bytes."""

    size: int
    content_type: str = "video/mp4"

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes in order."""
        for chunk in canned_chunks(self.size):
            yield chunk


@frozen
class FileContent:
    """A file: rendered here, or the user's own."""

    path: Path
    size: int
    content_type: str

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes in order, read in a worker thread."""
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(None, self.path.open, "rb")
        try:
            while chunk := await loop.run_in_executor(None, file.read, _CHUNK):
                yield chunk
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
    return FileContent(path, status.st_size, kind)


async def send(
    request: web.Request,
    content: Content,
    headers: dict[str, str],
    faults: Sequence[Fault] = (),
) -> web.StreamResponse:
    """Stream ``content``; always whole: new-api forwards ``Range`` in some builds only."""
    names = {fault.name for fault in faults}
    truncated = "content_truncated" in names
    response = web.StreamResponse(headers=headers)
    response.content_type = content.content_type
    if "content_no_length" not in names:
        response.content_length = content.size
    response.headers["Cache-Control"] = "public, max-age=86400"
    left = content.size // 2 if truncated else content.size
    # A client that has left is no error of ours.
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        async with contextlib.aclosing(content.chunks()) as chunks:
            async for chunk in chunks:
                await response.write(chunk[:left])
                left -= len(chunk)
                if truncated and left <= 0:
                    hang_up(request)
                    break
    return response
