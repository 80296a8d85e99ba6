"""A finished video's bytes: into a file that is whole or not there, or to whoever reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from .._protocol import API
from ..errors import DownloadError, quoted
from ..models import TaskStatus, Video
from ..policies import RetryPolicy, Sleep
from .answer import Opener, OpenStream
from .body import Body
from .file import Part, check_target, save
from .links import Place
from .search import Search
from .stream import DownloadStream
from .threads import in_thread

__all__ = ["DownloadStream", "Downloader", "check_target"]


class Downloader:
    """Fetches results.

    Args:
        api: Knows where the gateway itself serves a result.
        open_stream: Opens one address, without following a redirect.
        retrieve: Asks for a task, for a link that has not expired.
        policy: How often a place is asked, and after which pauses.
    """

    def __init__(
        self,
        api: API,
        open_stream: OpenStream,
        retrieve: Callable[[str], Awaitable[Video]],
        policy: RetryPolicy,
    ) -> None:
        self._api = api
        self._opener = Opener(api, open_stream)
        self._retrieve = retrieve
        self._policy = policy

    async def download(
        self,
        video: Video,
        target: Path,
        max_size: int | None = None,
        *,
        replace: bool = True,
        sleep: Sleep = asyncio.sleep,
    ) -> Path:
        """Fetch a completed video to a file.

        Args:
            video: The video.
            target: The file.
            max_size: The most bytes, or ``None``.
            replace: Whether a file of that name is replaced.
            sleep: Waits for so many seconds before another attempt.

        Raises:
            DownloadError: There is nothing to fetch, or it could not be fetched or written whole.
            APIConnectionError: No answer, or one that was cut off too often.
            APIError: The gateway refused.
        """

        async def fetch(place: Place) -> Path:
            part = Part(target)
            restart = partial(in_thread, part.restart)
            body = self._body(video, place, max_size, restart, sleep)
            try:
                await body.start()
                return await save(body, part, target, replace=replace)
            finally:
                place.spent = body.begun
                await body.aclose()

        return await self._search(video, sleep).run(fetch)

    @asynccontextmanager
    async def open(
        self, video: Video, max_size: int | None = None
    ) -> AsyncGenerator[DownloadStream, None]:
        """Open a completed video for reading; see `download`."""

        async def begin(place: Place) -> Body:
            body = self._body(video, place, max_size, None, asyncio.sleep)
            try:
                await body.start()
            except BaseException:
                place.spent = body.begun
                await body.aclose()
                raise
            return body

        stream = DownloadStream(await self._search(video, asyncio.sleep).run(begin))
        try:
            yield stream
        finally:
            await stream._close()

    def _search(self, video: Video, sleep: Sleep) -> Search:
        if video.status is not TaskStatus.COMPLETED:
            raise DownloadError(
                f"task {quoted(video.id)} is {video.status}, so there is no video to download",
                id=video.id,
            )
        content = Place(self._api.content(video.id).url)
        return Search(video, content, self._retrieve, self._policy, sleep)

    def _body(
        self,
        video: Video,
        place: Place,
        max_size: int | None,
        restart: Callable[[], Awaitable[None]] | None,
        sleep: Sleep,
    ) -> Body:
        return Body(
            video.id,
            partial(self._opener.open, video.id, place),
            self._policy,
            max_size=max_size,
            restart=restart,
            sleep=sleep,
        )
