"""A finished video's bytes into a file that is whole or not there."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from yarl import URL

from ._protocol import API, Response, read_error
from .errors import (
    APIError,
    ConfigurationError,
    DownloadError,
    IncompleteDownloadError,
    NotAVideoError,
    OctoremixError,
    ResultExpiredError,
    printable,
)
from .models import TaskStatus, Video, without_query

__all__ = ["Downloader", "check_target"]

MOST_REDIRECTS = 10
LONGEST_ERROR = 64 * 2**10
"""Bytes of a refusal's body that are read."""

# A video is not compressed again, and the announced length must be the file's.
_HEADERS = {"Accept": "video/*, application/octet-stream;q=0.9", "Accept-Encoding": "identity"}

_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"})
_SIGNATURE_END = 8

_EXPIRED = frozenset({403, 404, 410})


class Stream(Protocol):
    """An answer whose body is read in chunks."""

    url: URL
    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncGenerator[bytes, None]: ...


OpenStream = Callable[[URL, Mapping[str, str]], AbstractAsyncContextManager[Stream]]


def check_target(path: object) -> Path:
    """Return where a download is to go.

    Raises:
        ConfigurationError: It is no path, a folder, or in a folder that does not exist.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"path must be a str or a Path, not {type(path).__name__}")
    target = Path(os.fsdecode(path))
    if target.is_dir():
        raise ConfigurationError(f"{printable(target)!r} is a folder: name a file in it")
    if not target.parent.is_dir():
        raise ConfigurationError(f"the folder {printable(target.parent)!r} does not exist: make it")
    return target


class Downloader:
    """Fetches results.

    Args:
        api: Knows where the gateway itself serves a result.
        open_stream: Opens one address, without following a redirect.
    """

    def __init__(self, api: API, open_stream: OpenStream) -> None:
        self._api = api
        self._open_stream = open_stream

    async def download(self, video: Video, target: Path) -> Path:
        """Fetch a completed video to a file.

        The link that the gateway gave is tried first, then the gateway's own ``/content``.

        Raises:
            DownloadError: There is nothing to fetch, or it could not be fetched whole.
            APIConnectionError: No answer, or one that was cut off.
            APIError: The gateway refused.
        """
        if video.status is not TaskStatus.COMPLETED:
            raise DownloadError(
                f"task {printable(video.id)!r} is {video.status}, so there is no video to download",
                id=video.id,
            )
        content = self._api.content(video.id).url
        failure: OctoremixError | None = None
        for url in dict.fromkeys([*_links(video), content]):
            try:
                return await self._fetch(video.id, url, target)
            except (DownloadError, APIError) as error:
                failure = error
        assert failure is not None
        raise failure

    async def _fetch(self, task_id: str, url: URL, target: Path) -> Path:
        for _ in range(MOST_REDIRECTS):
            async with self._open_stream(url, _HEADERS) as stream:
                location = stream.headers.get("Location")
                if 300 <= stream.status < 400 and location:
                    url = _next_hop(task_id, url, location)
                    continue
                await self._check_answer(task_id, stream)
                return await _save(task_id, stream, target)
        raise DownloadError(
            f"the download of {printable(task_id)!r} was redirected {MOST_REDIRECTS} times",
            id=task_id,
            url=without_query(str(url)),
        )

    async def _check_answer(self, task_id: str, stream: Stream) -> None:
        """Raise unless the answer can be a video."""
        content_type = stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_page = content_type.endswith(("json", "html", "xml")) or content_type == "text/plain"
        if stream.status == 200 and not is_page:
            return
        shown = without_query(str(stream.url)) or ""
        about = f"the download of {printable(task_id)!r} from {printable(shown)}"
        if self._api.is_own(stream.url) and stream.status >= 400:
            body = b""
            async for chunk in stream.chunks():
                body += chunk
                if len(body) > LONGEST_ERROR:
                    break
            answer = Response(
                status=stream.status, headers=stream.headers, body=body[:LONGEST_ERROR]
            )
            raise read_error(answer, task_id)
        if stream.status in _EXPIRED:
            raise ResultExpiredError(f"{about} answered {stream.status}", id=task_id, url=shown)
        if stream.status != 200:
            raise DownloadError(f"{about} answered {stream.status}", id=task_id, url=shown)
        raise NotAVideoError(f"{about} brought {printable(content_type)}", id=task_id, url=shown)


def _links(video: Video) -> list[URL]:
    if video.url is None or not video.url.lower().startswith(("http://", "https://")):
        return []
    try:
        return [URL(video.url)]
    except ValueError:
        return []


def _next_hop(task_id: str, url: URL, location: str) -> URL:
    try:
        hop = url.join(URL(location))
    except ValueError:
        hop = URL()
    if hop.scheme not in {"http", "https"} or (url.scheme == "https" and hop.scheme == "http"):
        raise DownloadError(
            f"the download of {printable(task_id)!r} was redirected to "
            f"{printable(without_query(location))!r}, which is not followed",
            id=task_id,
            url=without_query(str(url)),
        )
    return hop


async def _save(task_id: str, stream: Stream, target: Path) -> Path:
    """Write the body beside the target, verify it, and only then give it the target's name."""
    loop = asyncio.get_running_loop()
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    file = await loop.run_in_executor(None, _create, part)
    try:
        try:
            await _write(task_id, stream, file)
            await loop.run_in_executor(None, _flush, file)
        finally:
            await loop.run_in_executor(None, file.close)
        await loop.run_in_executor(None, os.replace, part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return target


async def _write(task_id: str, stream: Stream, file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    shown = without_query(str(stream.url))
    about = f"the download of {printable(task_id)!r} from {printable(shown)}"
    beginning, written = b"", 0
    async for chunk in stream.chunks():
        if len(beginning) < _SIGNATURE_END:
            beginning += chunk[:_SIGNATURE_END]
            if len(beginning) >= _SIGNATURE_END and not _is_video(beginning):
                raise NotAVideoError(f"{about} has no video's signature", id=task_id, url=shown)
        await loop.run_in_executor(None, file.write, chunk)
        written += len(chunk)
    announced = stream.headers.get("Content-Length")
    if written < _SIGNATURE_END or (announced is not None and announced != str(written)):
        raise IncompleteDownloadError(
            f"{about} brought {written} of {announced or 'an unknown number of'} bytes",
            id=task_id,
            url=shown,
        )


def _is_video(beginning: bytes) -> bool:
    """Whether a file begins like MP4 or QuickTime (a box's type after its size) or WebM."""
    return beginning[4:8] in _FIRST_BOXES or beginning[:4] == b"\x1a\x45\xdf\xa3"


def _create(part: Path) -> BinaryIO:
    return part.open("xb")


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
