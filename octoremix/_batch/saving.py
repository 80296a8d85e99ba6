"""A batch's videos into its folder, under names that are safe and never another file's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol, Self

from attrs import define

from .._names import Names, NameTemplate
from ..errors import ConfigurationError, DownloadError, quoted
from ..models import RemixRequest, Video
from ..policies import Sleep

__all__ = ["Saver"]


class Download(Protocol):
    """Fetches one video to a file, and waits by ``sleep`` where another attempt may help."""

    def __call__(self, video: Video, path: Path, /, *, sleep: Sleep) -> Awaitable[Path]: ...


class Place(Protocol):
    """Where a video is saved, or (not ``done``) was to be."""

    @property
    def path(self) -> str: ...

    @property
    def done(self) -> bool: ...


class Places(Protocol):
    """Remembers where videos are saved; what was downloaded the download itself records."""

    def where(self, task_id: str) -> Awaitable[Place | None]: ...

    def saving(self, task_id: str, path: Path) -> Awaitable[None]: ...

    def downloaded(self, video: Video, path: Path) -> None: ...


@define(eq=False)
class _Slot:
    """One of the downloads at once; while it waits for its server, another has its turn."""

    _slots: asyncio.Semaphore
    _held: bool = False

    async def __aenter__(self) -> Self:
        await self._take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._let_go()

    async def sleep(self, seconds: float) -> None:
        self._let_go()
        await asyncio.sleep(seconds)
        await self._take()

    async def _take(self) -> None:
        await self._slots.acquire()
        self._held = True

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()


class Saver:
    """Saves the videos of one batch.

    Where a video goes is remembered before it does, so that what an earlier run has saved is known
    by its place: a file that has its name is whole.

    Args:
        folder: Where to; it is made if it is missing.
        template: What the files are called.
        download: Fetches one video; a `DownloadError` by a `FileExistsError` if a file is in its
            place that must not be replaced.
        places: The journal, or ``None``.
        concurrency: The most downloads at once, those not counted that wait for their server.
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
        async with _Slot(self._slots) as slot:
            path, recorded = await self._saved_before(video.id)
            if path is not None and await asyncio.to_thread(path.is_file):
                if self._places is not None and not recorded:
                    self._places.downloaded(video, path)
                return path
            while True:
                path = path or await self._new_place(video, request, index)
                if self._places is not None:
                    await self._places.saving(video.id, path)
                try:
                    return await self._download(video, path, sleep=slot.sleep)
                except DownloadError as error:
                    if not isinstance(error.__cause__, FileExistsError):
                        raise
                path = None  # somebody else's file has come to lie there meanwhile

    async def _saved_before(self, task_id: str) -> tuple[Path | None, bool]:
        """Return where an earlier run saved a video, or meant to, and whether that is recorded."""
        known = None if self._places is None else await self._places.where(task_id)
        if known is None:
            return None, False
        before = Path(known.path)
        here = self._folder / before.name
        # A folder that was moved has its files with it.
        if before == here or not await asyncio.to_thread(before.exists):
            owner = self._names.hold(before.name, task_id)
            # A file that was removed since then may have left its name to another job of this run.
            if owner is None or owner.rstrip("\0") == task_id:
                return here, before == here and known.done
        return None, False

    async def _new_place(self, video: Video, request: RemixRequest, index: int) -> Path:
        """Return a path that is nobody's, also where a file has come since the batch began."""
        fields = {
            "key": request.key,
            "id": video.id,
            "index": index,
            "video": request.video_id,
            "model": request.model,
            "prompt": request.prompt,
        }
        # Keys may be equal where there is no journal, ids are not.
        owner = video.id
        while True:
            path = self._folder / self._names.take(fields, owner)
            if self._overwrite or not await asyncio.to_thread(os.path.lexists, path):
                return path
            owner += "\0"


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
