"""A file that is whole or not there: written beside the target, then renamed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigurationError, DownloadError, OctoremixError, quoted
from .body import Body
from .threads import in_thread

__all__ = ["Part", "check_target", "save"]

# What Windows says while a virus scanner or an indexer holds a file that was just written.
_HELD = frozenset({5, 32})
_PAUSES_WHILE_HELD = (0.1, 0.2, 0.4, 0.8)


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


class Part:
    """The file beside the target; its methods block.

    Args:
        target: What it is to become.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name[:50]}.{os.urandom(4).hex()}.part")
        self._file: BinaryIO | None = None

    def create(self) -> None:
        self._file = self.path.open("xb")

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        self._file.write(chunk)

    def restart(self) -> None:
        """Forget what was written."""
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()

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


async def save(body: Body, part: Part, target: Path, *, replace: bool) -> Path:
    """Write a body beside the target, to its verified end, and only then give it that name.

    Args:
        body: The body.
        part: The file beside the target.
        target: The file.
        replace: Whether another file of that name is replaced, or left, which is a `FileExistsError`.

    Raises:
        OctoremixError: The body failed.
        DownloadError: The disk did; its ``__cause__`` is the `OSError`.
    """
    try:
        await in_thread(part.create)
        while chunk := await body.read():
            await in_thread(part.write, chunk)
        await in_thread(part.finish)
        if replace or not _linked(part.path, target):
            await _rename(part.path, target)
    except BaseException as error:
        await in_thread(part.discard)
        if not isinstance(error, OSError) or isinstance(error, OctoremixError):
            raise
        raise DownloadError(
            f"the download of {quoted(body.id)} can't be written to {quoted(target)}: "
            f"{error.strerror or error}",
            id=body.id,
            url=body.url,
        ) from error
    return target


def _linked(part: Path, target: Path) -> bool:
    """Give the file a name that nobody has, and return whether the disk can do that.

    Raises:
        FileExistsError: Somebody has it.
    """
    try:
        target.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # no such links on this disk: at least look
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        return False
    with contextlib.suppress(OSError):
        part.unlink()
    return True


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
