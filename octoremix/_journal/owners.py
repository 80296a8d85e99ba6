"""Who still lives: a lock for each owner of jobs, which the kernel frees when its process dies.

The locks are bytes of one file beside the database: owner 7 holds byte 7. They belong to a process
and not to a file descriptor, so that a child that is forked has none of them. That has a price: a
process that closes any descriptor of the file loses all its locks on it. Therefore a process opens
the file once, whatever number of journals it has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from pathlib import Path

from attrs import define, field

__all__ = ["BUSY", "OwnerLocks", "guard", "is_inherited", "owners_path"]

BUSY = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""What a lock that another process holds is told by."""

guard = threading.Lock()
"""Held while a file is opened or closed whose descriptors carry locks."""

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, byte: int) -> None:
        os.lseek(descriptor, byte, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int, byte: int) -> None:
        os.lseek(descriptor, byte, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, byte: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)

    def _unlock(descriptor: int, byte: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)

    # A child that is forked while another thread holds the guard would wait for it for ever.
    os.register_at_fork(
        before=guard.acquire, after_in_parent=guard.release, after_in_child=guard.release
    )


@define(eq=False)
class _File:
    """The one descriptor of a file in this process, and the owners whose bytes it locks."""

    descriptor: int
    held: set[int] = field(factory=set)
    users: int = 0


_files: dict[tuple[int, int, int], _File] = {}
"""By process, device and inode: a forked child finds its parent's under another name."""


def owners_path(path: Path) -> Path:
    """Return the file of the locks of a journal, the same one by whichever name it is opened."""
    path = path.resolve()
    return path.with_name(f"{path.name}-owners")


def is_inherited(path: Path) -> bool:
    """Whether a journal was in use when this process was forked.

    SQLite then takes the parent's locks for those of this process and asks for none: what is
    written here would be lost as soon as the parent closes the file.
    """
    try:
        process, *file = _name(owners_path(path).stat())
    except OSError:
        return False
    with guard:
        return any(other != process and file == rest for other, *rest in _files)


class OwnerLocks:
    """The locks of one journal's owners. Its methods block, and may be called from any thread.

    Whether an owner lives can only be seen by trying its lock, so two processes that look at the
    same time could each take the other's look for life: look in a write transaction of the
    database.

    Args:
        path: The file, made if it is missing.

    Raises:
        OSError: It can't be opened.
    """

    def __init__(self, path: Path) -> None:
        with guard:
            try:
                found = path.stat()
            except FileNotFoundError:
                found = None
            file = None if found is None else _files.get(_name(found))
            if file is None:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                found = os.fstat(descriptor)
                file = _files[_name(found)] = _File(descriptor)
            assert found is not None
            self._key, self._file = _name(found), file
            file.users += 1
        self._mine: set[int] = set()

    def __repr__(self) -> str:
        return f"<OwnerLocks of {len(self._mine)} owners>"

    def hold(self, owner: int) -> None:
        """Take an owner's lock, until `close` or the end of the process.

        Raises:
            OSError: Another owner holds it (see `BUSY`), or it can't be locked.
        """
        with guard:
            if owner in self._file.held:  # the kernel would let this process take it twice
                raise BlockingIOError(errno.EAGAIN, "another owner of this process holds it")
            _lock(self._file.descriptor, owner)
            self._file.held.add(owner)
            self._mine.add(owner)

    def is_alive(self, owner: int) -> bool:
        """Whether a process holds an owner's lock."""
        with guard:
            if owner in self._file.held:
                return True
            try:
                _lock(self._file.descriptor, owner)
            except OSError as error:
                if error.errno in BUSY:
                    return True
                raise
            _unlock(self._file.descriptor, owner)
            return False

    def close(self) -> None:
        """Give up the locks that were taken here."""
        with guard:
            for owner in self._mine:
                with contextlib.suppress(OSError):
                    _unlock(self._file.descriptor, owner)
                self._file.held.discard(owner)
            self._mine.clear()
            self._file.users -= 1
            if not self._file.users:
                os.close(self._file.descriptor)
                del _files[self._key]


def _name(found: os.stat_result) -> tuple[int, int, int]:
    return os.getpid(), found.st_dev, found.st_ino
