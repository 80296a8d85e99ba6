"""From an address to an answer that can be a video, over redirects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Protocol

from yarl import URL

from .._protocol import API, Response, read_content_error, retry_after
from ..errors import (
    APIError,
    DownloadError,
    NotAVideoError,
    ResultExpiredError,
    TaskNotFoundError,
    printable,
    quoted,
)
from .inline import decode
from .links import MOST_REDIRECTS, Place, about, next_hop, shown
from .threads import in_thread

__all__ = ["EXPIRED", "HTTPStream", "OpenStream", "Opener", "Stream"]

EXPIRED = frozenset({403, 404, 410})
"""What a link's server answers when the link is no longer good."""

# A video is not compressed again, and the announced length must be the file's.
_HEADERS = {"Accept": "video/*, application/octet-stream;q=0.9", "Accept-Encoding": "identity"}

_OF_A_RANGE = frozenset({HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})


class Stream(Protocol):
    """A result that is read in chunks."""

    url: URL
    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes: ...


class HTTPStream(Stream, Protocol):
    """The same of an answer, which may be a refusal."""

    async def refusal(self) -> Response: ...


OpenStream = Callable[[URL, Mapping[str, str]], AbstractAsyncContextManager[HTTPStream]]


class Opener:
    """Opens the place of a result.

    Args:
        api: Knows the gateway's own origin.
        open_stream: Opens one address, without following a redirect.
    """

    def __init__(self, api: API, open_stream: OpenStream) -> None:
        self._api = api
        self._open_stream = open_stream

    @asynccontextmanager
    async def open(
        self, task_id: str, place: Place, headers: Mapping[str, str]
    ) -> AsyncGenerator[Stream, None]:
        """Open a place.

        Args:
            task_id: The task, for errors.
            place: The place.
            headers: Further headers: those that ask for a range. Only then may the answer be 206,
                or 416, which has no video.

        Raises:
            DownloadError: What came is no video, or was redirected to where it is not fetched from.
            APIConnectionError: There was no answer.
            APIError: The gateway refused.
        """
        if place.inline:
            yield await in_thread(decode, task_id, place)
            return
        url = place.url
        for _ in range(MOST_REDIRECTS):
            if self._api.is_own(url):
                url = url.with_user(None)  # it would be sent in the place of the key
            async with self._opened(url, headers) as stream:
                location = stream.headers.get("Location")
                if 300 <= stream.status < 400 and location:
                    url = next_hop(task_id, url, location)
                    continue
                if not headers or stream.status not in _OF_A_RANGE:
                    await self._check_status(task_id, stream)
                if stream.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    _check_kind(task_id, stream)
                yield stream
                return
        raise DownloadError(
            f"the download of {quoted(task_id)} was redirected {MOST_REDIRECTS} times",
            id=task_id,
            url=shown(url),
        )

    @asynccontextmanager
    async def _opened(
        self, url: URL, headers: Mapping[str, str]
    ) -> AsyncGenerator[HTTPStream, None]:
        try:
            async with self._open_stream(url, {**_HEADERS, **headers}) as stream:
                yield stream
        except DownloadError as error:
            error.url = error.url or shown(url)
            raise

    async def _check_status(self, task_id: str, stream: HTTPStream) -> None:
        status = stream.status
        if status == HTTPStatus.OK:
            return
        where = shown(stream.url)
        if self._api.is_own(stream.url) and status >= 400:
            refusal = read_content_error(await stream.refusal(), task_id)
            if not _is_gone(refusal):
                raise refusal
        what = f"{about(task_id, stream.url)} answered {status}"
        if status in EXPIRED:
            raise ResultExpiredError(what, id=task_id, url=where, status=status)
        asked = retry_after(Response(status=status, headers=stream.headers, body=b""))
        raise DownloadError(what, id=task_id, url=where, status=status, retry_after=asked)


def _is_gone(refusal: APIError) -> bool:
    """Whether the gateway, which knows the task, has no more of its result."""
    gone = refusal.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
    return gone and not isinstance(refusal, TaskNotFoundError)


def _check_kind(task_id: str, stream: Stream) -> None:
    """Raise if an answer's headers say that it is no video, or that it is encoded once more."""
    content_type = stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    coding = stream.headers.get("Content-Encoding", "").strip().lower()
    is_page = content_type.endswith(("json", "html", "xml")) or content_type == "text/plain"
    if is_page or content_type.startswith("multipart/"):
        brought = content_type
    elif coding not in {"", "identity"}:
        # It is not decoded: a few bytes can become gigabytes.
        brought = f"an answer in the coding {coding}, though none was wanted"
    else:
        return
    what = f"{about(task_id, stream.url)} brought {printable(brought)}"
    raise NotAVideoError(what, id=task_id, url=shown(stream.url))
