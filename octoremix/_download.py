"""A finished video's bytes into a file that is whole or not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from yarl import URL

from ._protocol import API, Response, read_error
from .errors import (
    APIConnectionError,
    APIError,
    ConfigurationError,
    DownloadError,
    IncompleteDownloadError,
    NotAVideoError,
    OctoremixError,
    ResultExpiredError,
    printable,
    quoted,
)
from .models import TaskStatus, Video, without_query

__all__ = ["Downloader", "check_target"]

_T = TypeVar("_T")

MOST_REDIRECTS = 10

# A video is not compressed again, and the announced length must be the file's.
_HEADERS = {"Accept": "video/*, application/octet-stream;q=0.9", "Accept-Encoding": "identity"}

_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"})
_SIGNATURE_END = 8

_EXPIRED = frozenset({403, 404, 410})

_NOT_IN_ADDRESSES = frozenset(' "<>\\^`{|}')

# What Windows says while a virus scanner or an indexer holds a file that was just written.
_HELD = frozenset({5, 32})
_PAUSES_WHILE_HELD = (0.1, 0.2, 0.4, 0.8)


class Stream(Protocol):
    """An answer whose body is read in chunks."""

    url: URL
    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncGenerator[bytes, None]: ...

    async def refusal(self) -> Response: ...


OpenStream = Callable[[URL, Mapping[str, str]], AbstractAsyncContextManager[Stream]]


def check_target(path: object) -> Path:
    """Return where a download is to go.

    Raises:
        ConfigurationError: It is no path, no name for a file, or in a folder that does not exist.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"path must be a str or a Path, not {type(path).__name__}")
    text = os.fsdecode(path)
    target = Path(text)
    mode = _mode(target)
    if stat.S_ISDIR(mode) or text.endswith(os.sep):
        raise ConfigurationError(f"{quoted(target)} is a folder: name a file in it")
    if mode and not stat.S_ISREG(mode):
        raise ConfigurationError(f"{quoted(target)} is no regular file: name another")
    if not stat.S_ISDIR(_mode(target.parent)):
        raise ConfigurationError(f"the folder {quoted(target.parent)} does not exist: make it")
    return target


def _mode(path: Path) -> int:
    """Return the mode of a file, or 0 where there is none."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:  # too long, in a closed folder, with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
    raise ConfigurationError(f"{quoted(path)} can't be written to: {reason}")


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
            DownloadError: There is nothing to fetch, or it could not be fetched or written whole.
            APIConnectionError: No answer, or one that was cut off.
            APIError: The gateway refused.
        """
        if video.status is not TaskStatus.COMPLETED:
            raise DownloadError(
                f"task {quoted(video.id)} is {video.status}, so there is no video to download",
                id=video.id,
            )
        content = self._api.content(video.id).url
        failures: list[OctoremixError] = []
        for url in dict.fromkeys([*_links(video), content]):
            try:
                return await self._fetch(video.id, url, target)
            except (APIConnectionError, APIError, DownloadError) as error:
                if isinstance(error.__cause__, OSError):
                    raise  # the disk's, which no other address mends
                error.id = video.id
                failures.append(error)
        # A cut may be mended by another attempt, whatever the other address said.
        raise next(filter(_is_cut, failures), failures[-1])

    async def _fetch(self, task_id: str, url: URL, target: Path) -> Path:
        for _ in range(MOST_REDIRECTS):
            if self._api.is_own(url):
                url = url.with_user(None)  # it would be sent in the place of the key
            async with self._open_stream(url, _HEADERS) as stream:
                location = stream.headers.get("Location")
                if 300 <= stream.status < 400 and location:
                    url = _next_hop(task_id, url, location)
                    continue
                await self._check_answer(task_id, stream)
                return await _save(task_id, stream, target)
        raise DownloadError(
            f"the download of {quoted(task_id)} was redirected {MOST_REDIRECTS} times",
            id=task_id,
            url=_shown(url),
        )

    async def _check_answer(self, task_id: str, stream: Stream) -> None:
        """Raise unless the answer can be a video."""
        content_type = stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_page = content_type.endswith(("json", "html", "xml")) or content_type == "text/plain"
        if stream.status == 200 and not is_page:
            return
        if self._api.is_own(stream.url) and stream.status >= 400:
            raise read_error(await stream.refusal(), task_id)
        shown = _shown(stream.url)
        about = f"the download of {quoted(task_id)} from {printable(shown)}"
        if stream.status in _EXPIRED:
            raise ResultExpiredError(f"{about} answered {stream.status}", id=task_id, url=shown)
        if stream.status != 200:
            raise DownloadError(f"{about} answered {stream.status}", id=task_id, url=shown)
        raise NotAVideoError(f"{about} brought {printable(content_type)}", id=task_id, url=shown)


def _is_cut(error: OctoremixError) -> bool:
    return isinstance(error, (APIConnectionError, IncompleteDownloadError))


def _links(video: Video) -> list[URL]:
    url = _address(video.url or "")
    return [url] if url is not None and url.scheme in {"http", "https"} and url.host else []


def _address(text: str) -> URL | None:
    """Read an address byte for byte, since a signature may depend on it; ``None`` if malformed."""
    as_it_is = text.isascii() and text.isprintable() and not set(text) & _NOT_IN_ADDRESSES
    try:
        url = URL(text, encoded=as_it_is)
        _ = url.host, url.port  # what is malformed in them comes up only now
    except ValueError:
        return None
    return url


def _next_hop(task_id: str, url: URL, location: str) -> URL:
    address = _address(location)
    hop = url.join(address) if address is not None else URL()
    if (
        hop.scheme not in {"http", "https"}
        or not hop.host
        or (url.scheme == "https" and hop.scheme == "http")
    ):
        target = _shown(hop) if hop.host else without_query(location) or ""
        raise DownloadError(
            f"the download of {quoted(task_id)} was redirected to {quoted(target)}, which is not "
            "followed",
            id=task_id,
            url=_shown(url),
        )
    return hop


def _shown(url: URL) -> str:
    """Return an address without what may be a permission: its user, query and fragment."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


async def _save(task_id: str, stream: Stream, target: Path) -> Path:
    """Write the body beside the target, verify it, and only then give it the target's name."""
    part = _Part(target.with_name(f"{target.name[:50]}.{os.urandom(4).hex()}.part"))
    try:
        await _in_thread(part.create)
        await _write(task_id, stream, part)
        await _in_thread(part.finish)
        await _rename(part.path, target)
    except BaseException as error:
        await _in_thread(part.discard)
        if not isinstance(error, OSError) or isinstance(error, OctoremixError):
            raise
        raise DownloadError(
            f"the download of {quoted(task_id)} can't be written to {quoted(target)}: "
            f"{error.strerror or error}",
            id=task_id,
            url=_shown(stream.url),
        ) from error
    return target


async def _write(task_id: str, stream: Stream, part: _Part) -> None:
    shown = _shown(stream.url)
    about = f"the download of {quoted(task_id)} from {printable(shown)}"
    beginning, written = b"", 0
    async with contextlib.aclosing(stream.chunks()) as chunks:
        async for chunk in chunks:
            if len(beginning) < _SIGNATURE_END:
                beginning += chunk[:_SIGNATURE_END]
                if len(beginning) >= _SIGNATURE_END and not _is_video(beginning):
                    raise NotAVideoError(f"{about} has no video's signature", id=task_id, url=shown)
            await _in_thread(part.write, chunk)
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


class _Part:
    """The file beside the target; its methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def create(self) -> None:
        self._file = self.path.open("xb")

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        self._file.write(chunk)

    def finish(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # what was not written yet may fail once more
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


async def _in_thread(work: Callable[..., _T], *args: object) -> _T:
    """Run in a thread and stay until it is done, also when cancelled: a thread can't be stopped."""
    job = asyncio.get_running_loop().run_in_executor(None, work, *args)
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        job.exception()  # is looked at, for nobody else will
        raise cancelled
    return job.result()


async def _rename(part: Path, target: Path) -> None:
    # Not in a thread, so that a cancellation comes before it or after it.
    for pause in _PAUSES_WHILE_HELD:
        try:
            part.replace(target)  # noqa: ASYNC240
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _HELD:
                raise
        else:
            return
        await asyncio.sleep(pause)
    part.replace(target)  # noqa: ASYNC240
