"""A batch's videos into its folder, under names that are safe and never another file's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from .._names import Names, NameTemplate
from ..errors import ConfigurationError, quoted
from ..models import RemixRequest, Video

__all__ = ["Saver"]

Download = Callable[[Video, Path], Awaitable[Path]]


class Places(Protocol):
    """Remembers where videos are saved."""

    def where(self, task_id: str) -> Awaitable[str | None]: ...

    def saving(self, task_id: str, path: Path) -> Awaitable[None]: ...

    def downloaded(self, task_id: str, path: Path) -> None: ...


class Saver:
    """Saves the videos of one batch.

    Where a video goes is remembered before it does, so that what an earlier run has saved is known
    by its place: a file that has its name is whole.

    Args:
        folder: Where to; it is made if it is missing.
        template: What the files are called.
        download: Fetches one video.
        places: The journal, or ``None``.
        concurrency: The most downloads at once.
        overwrite: Whether a file may be replaced that is not of the batch's own.

    Raises:
        ConfigurationError: The template or the folder is malformed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        template: str,
        download: Download,
        places: Places | None,
        *,
        concurrency: int,
        overwrite: bool,
    ) -> None:
        if not isinstance(folder, (str, os.PathLike)):
            raise ConfigurationError(
                f"download_to must be the path of a folder, not {type(folder).__name__}"
            )
        self._folder = Path(folder).absolute()
        self._template = NameTemplate(template)
        self._download = download
        self._places = places
        self._slots = asyncio.Semaphore(concurrency)
        self._overwrite = overwrite
        self._names = Names(self._template)

    def __repr__(self) -> str:
        return f"<Saver to {self._folder}>"

    async def prepare(self) -> None:
        """Make the folder, and note what lies in it.

        Raises:
            ConfigurationError: It can't be made or written to; nothing was bought.
        """
        found = await asyncio.to_thread(_prepared, self._folder)
        self._names = Names(self._template, taken=() if self._overwrite else found)

    async def save(self, video: Video, request: RemixRequest, index: int) -> Path:
        """Save a video, unless an earlier run has.

        Raises:
            DownloadError: It could not be fetched or written.
        """
        async with self._slots:
            path = await self._saved_before(video.id)
            if path is not None and await asyncio.to_thread(path.is_file):
                saved = path
            else:
                path = path or self._folder / self._name(video, request, index)
                if self._places is not None:
                    await self._places.saving(video.id, path)
                saved = await self._download(video, path)
            if self._places is not None:
                self._places.downloaded(video.id, saved)
            return saved

    async def _saved_before(self, task_id: str) -> Path | None:
        """Return where an earlier run saved a video, or meant to."""
        known = None if self._places is None else await self._places.where(task_id)
        if known is None:
            return None
        before = Path(known)
        here = self._folder / before.name
        # A folder that was moved has its files with it.
        if before == here or not await asyncio.to_thread(before.exists):
            self._names.hold(before.name, task_id)
            return here
        return None

    def _name(self, video: Video, request: RemixRequest, index: int) -> str:
        fields = {
            "key": request.key,
            "id": video.id,
            "index": index,
            "video": request.video_id,
            "model": request.model,
            "prompt": request.prompt,
        }
        return self._names.take(fields, request.key or video.id)


def _prepared(folder: Path) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise ConfigurationError(
            f"the folder {quoted(folder)} can't be used: {error.strerror or error}; nothing was "
            "bought"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the folder {quoted(folder)} can't be written to; nothing was bought"
        )
    return found
