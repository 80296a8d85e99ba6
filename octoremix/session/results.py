"""The videos themselves: into a file, or as a stream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from .._download import DownloadStream, check_target
from ..futures import RemixFuture
from ..models import TaskStatus, Video, check_task_id
from ..policies import Sleep, check_count
from .core import SessionCore

__all__ = ["Results"]


class Results(SessionCore):
    """What a session does with finished videos."""

    async def download(
        self,
        video: str | Video | RemixFuture,
        path: str | os.PathLike[str],
        *,
        max_size: int | None = None,
    ) -> Path:
        """Fetch a finished video to a file, which is whole or not there.

        It is written to a ``.part`` file beside the target, verified, and renamed; a file of that
        name is replaced. After a cut it is resumed where it was, if its server can.

        Args:
            video: The id of a task, a `Video`, or a `RemixFuture`, which is awaited first.
            path: The file to write, in a folder that exists.
            max_size: The most bytes, or ``None`` for any number.

        Returns:
            The path.

        Raises:
            ConfigurationError: The path can't be written to.
            DownloadError: There is no video, or it could not be fetched whole.
            OctoremixError: As awaiting the future or `retrieve` raises.
        """
        return await self._saved(video, path, max_size)

    async def _saved(
        self,
        video: str | Video | RemixFuture,
        path: str | os.PathLike[str],
        max_size: int | None = None,
        *,
        replace: bool = True,
        sleep: Sleep = asyncio.sleep,
    ) -> Path:
        target = check_target(path)
        completed = await self._completed(video, max_size)
        saved = await self._downloader.download(
            completed, target, max_size, replace=replace, sleep=sleep
        )
        if self._ledger is not None:
            self._ledger.downloaded(completed, saved)
        return saved

    @asynccontextmanager
    async def open(
        self, video: str | Video | RemixFuture, *, max_size: int | None = None
    ) -> AsyncGenerator[DownloadStream, None]:
        """Open a finished video, for reading it without a file: ``async with session.open(…)``.

        It is verified and resumed as by `download`. What was read can't be taken back, though:
        where a server can't go on after a cut, that is an `IncompleteDownloadError`.

        Args:
            video: See `download`.
            max_size: See `download`.

        Yields:
            The stream, a `DownloadStream`.

        Raises:
            DownloadError: There is no video, or it can't be fetched.
            OctoremixError: As awaiting the future or `retrieve` raises.
        """
        completed = await self._completed(video, max_size)
        async with self._downloader.open(completed, max_size) as stream:
            yield stream

    async def _completed(self, video: str | Video | RemixFuture, max_size: int | None) -> Video:
        """Return the video that is to be fetched, as far as it is known to be there."""
        if max_size is not None:
            check_count("max_size", max_size)
        self._bind()
        if isinstance(video, RemixFuture):
            return await video
        if not isinstance(video, Video):
            return await self._queries.retrieve(check_task_id(video))
        if video.status is not TaskStatus.COMPLETED:
            return await self._queries.retrieve(video.id)
        return video
