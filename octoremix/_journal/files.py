"""The journal's file: where it may lie, and who may read it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from pathlib import Path

from ..errors import ConfigurationError, JournalError, quoted
from .owners import guard, owners_path

__all__ = ["check_path", "free_bytes", "prepare"]

# A write-ahead log is shared through memory, which machines don't share; their locks often lie.
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "davfs"),
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "ocfs2", "gfs2"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"),
    }
)

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def check_path(path: object) -> Path:
    """Return the path of a journal.

    Raises:
        ConfigurationError: It is no path of a file.
    """
    fix = "pass the path of a file, for example 'remixes.db'"
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"journal must be a path, not {type(path).__name__}: {fix}")
    text = os.fsdecode(path)
    if not text.strip() or "\0" in text or text == ":memory:" or text.startswith("file:"):
        raise ConfigurationError(f"journal {quoted(text)} is no path of a file: {fix}")
    return Path(text).absolute()


def prepare(path: Path) -> None:
    """Make a journal's file, and its folder, for its user alone; it blocks.

    Raises:
        JournalError: It can't be made, can't be written, or lies where locks can't be trusted.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = _file_system(path.resolve().parent)
        if kind is not None:
            raise JournalError(
                f"the journal {quoted(path)} lies on a network file system ({kind}), where SQLite's "
                "locks can't be trusted: choose a path on a disk of this machine"
            )
        _make(path)
    except OSError as error:
        raise JournalError(
            f"the journal {quoted(path)} can't be written: {error.strerror or error}; "
            "nothing was sent"
        ) from None


def _make(path: Path) -> None:
    # A process that closes any descriptor of a database loses SQLite's locks on it: nobody may open
    # the file between its making and its closing here.
    with guard:
        if not path.exists():
            # SQLite gives its further files the mode of the first.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _sync_folder(path.parent)
        elif not path.is_file():
            raise JournalError(
                f"the journal {quoted(path)} is no regular file: choose another path"
            )
        for each in (path, _beside(path, "-wal"), _beside(path, "-shm"), owners_path(path)):
            _tighten(each)
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, "no permission to write it")


def _beside(path: Path, suffix: str) -> Path:
    path = path.resolve()  # as SQLite does
    return path.with_name(path.name + suffix)


def _tighten(path: Path) -> None:
    """Take a file from everybody but its user, if it is there."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _sync_folder(folder: Path) -> None:
    """Make sure that the name of a file that was just made outlives a loss of power."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some file systems have no such call
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int | None:
    """Return how many bytes may still be written beside a file, or ``None`` if nobody knows."""
    try:
        found = os.statvfs(folder)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize


def _file_system(folder: Path) -> str | None:
    """Return the kind of the network file system that a folder lies on, or ``None``."""
    resolved = folder.resolve()
    if resolved.drive.startswith("\\\\"):
        return "a Windows share"
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux
        return None
    kind, longest = None, -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        escaped = before.split()[4]
        point = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), escaped))
        # The last of equal mount points hides those before it.
        if resolved.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = after.split()[0], len(point.parts)
    return kind if kind in _NETWORK else None
