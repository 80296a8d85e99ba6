"""The file that a video is saved to, checked before anything is paid for."""

from __future__ import annotations

import os
from pathlib import Path

from .. import ConfigurationError, DownloadError, Session, Video
from ..errors import printable
from ._output import Output
from ._text import human_size

__all__ = ["check_target", "make_folder", "save", "tell_saved"]


def check_target(target: Path, *, force: bool) -> None:
    """Make sure that a file can be written.

    Raises:
        ConfigurationError: Its folder is missing or can't be written to, or something is there.
    """
    shown, folder = printable(target), target.parent
    if target.is_dir():
        raise ConfigurationError(f"{shown} is a folder: name a file in it with --out")
    if not folder.is_dir():
        raise ConfigurationError(f"the folder {printable(folder)} does not exist: make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"the folder {printable(folder)} can't be written to")
    if target.exists() and not (force and target.is_file()):
        what = "exists already: --force replaces it" if target.is_file() else "is no regular file"
        raise ConfigurationError(f"{shown} {what}")


async def save(session: Session, video: Video, target: Path, *, force: bool) -> None:
    """Download a video to a file that was checked before.

    Raises:
        DownloadError: Something has come to lie there meanwhile.
        OctoremixError: As `Session.download` raises.
    """
    try:
        check_target(target, force=force)
    except ConfigurationError as error:
        raise DownloadError(str(error), id=video.id) from None
    await session.download(video, _absolute(target))


def _absolute(target: Path) -> Path:
    """Return where a file is for whoever reads of it in a journal, in whatever folder."""
    return target.absolute()


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing.

    Raises:
        ConfigurationError: It can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {printable(folder)} can't be made: {error.strerror}"
        ) from None


def tell_saved(output: Output, video: Video, target: Path) -> None:
    """Say where a video was saved."""
    output.event("done", id=video.id, video=video, file=str(target))
    output.note(f"saved {human_size(target.stat().st_size)}")
    if not output.json:
        output.write(printable(target, 4096))
