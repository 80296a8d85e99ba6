"""One owner's access to the file: opened, locked, read and written. All of it blocks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import JournalError, quoted
from ..records import PROCESS_ENDED
from .files import free_bytes, prepare
from .jobs import Job, job_of
from .owners import BUSY, OwnerLocks, owners_path
from .schema import connect, named_errors, transaction
from .states import State

__all__ = ["Access"]

RESERVE = 2**20
"""Bytes that are left free on the disk for the records of what is out already."""

_TRIES = 100
"""Numbers of owners to try: some are taken where a file was deleted while it was in use."""


class Access:
    """One owner's access to a journal, used by one thread.

    Args:
        path: The database.
        base_url: The gateway whose jobs this owner buys.
        store_prompts: Whether what was asked for is kept, or only a digest of it.
        busy_timeout: Seconds to wait while other processes write.

    Raises:
        JournalError: The journal can't be used.
    """

    def __init__(
        self, path: Path, base_url: str, *, store_prompts: bool, busy_timeout: float
    ) -> None:
        self._path = path
        self._store_prompts = store_prompts
        prepare(path)
        self._connection = connect(path, busy_timeout)
        try:
            locks = owners_path(path)
            try:
                self._locks = OwnerLocks(locks)
            except OSError as error:
                raise JournalError(
                    f"{quoted(locks)}, beside the journal, can't be opened: {error.strerror}"
                ) from None
            with self.transaction():
                self._gateway = self._register_gateway(base_url)
                self._owner = self._register_owner()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._path}>"

    def close(self) -> None:
        """Let go of the file and of the jobs."""
        self._connection.close()
        locks: OwnerLocks | None = getattr(self, "_locks", None)
        if locks is not None:
            locks.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep what is written in the block, all of it or nothing.

        Raises:
            JournalError: It could not be kept; nothing was.
        """
        with named_errors(self._path), transaction(self._connection):
            yield

    def check_room(self) -> None:
        """Raise unless the disk has room for the records of what would be sent now.

        Raises:
            JournalError: It has not.
        """
        free = free_bytes(self._path.parent)
        if free is not None and free < RESERVE:
            raise JournalError(
                f"the disk of the journal {quoted(self._path)} is full: make room on it; "
                "nothing was sent"
            )

    def _register_gateway(self, base_url: str) -> int:
        execute = self._connection.execute
        execute("INSERT OR IGNORE INTO gateway (base_url) VALUES (?)", (base_url,))
        found = execute("SELECT number FROM gateway WHERE base_url = ?", (base_url,)).fetchone()
        return int(found["number"])

    def _register_owner(self) -> int:
        reason = None
        for _ in range(_TRIES):
            added = self._connection.execute(
                "INSERT INTO owner (process, opened_at) VALUES (?, ?)", (os.getpid(), time.time())
            )
            owner = added.lastrowid
            assert owner is not None
            try:
                self._locks.hold(owner)  # before anybody can see that there is such an owner
            except OSError as error:
                reason = error.strerror
                if error.errno not in BUSY:
                    break
            else:
                return owner
        raise JournalError(
            f"the journal {quoted(self._path)} lies where files can't be locked ({reason}): choose "
            "a path on a disk of this machine"
        )

    def _row(self, key: str) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._connection.execute(
            "SELECT * FROM job WHERE gateway = ? AND key = ?", (self._gateway, key)
        ).fetchone()
        return found

    def _again(self, row: sqlite3.Row) -> sqlite3.Row:
        found: sqlite3.Row = self._connection.execute(
            "SELECT * FROM job WHERE number = ?", (row["number"],)
        ).fetchone()
        return found

    def _open(self, state: State) -> Iterator[sqlite3.Row]:
        return iter(
            self._connection.execute(
                # In these words the index of the open ones serves.
                "SELECT * FROM job WHERE gateway = ? AND settled_at IS NULL AND state = ?"
                " ORDER BY number",
                (self._gateway, state),
            ).fetchall()
        )

    def _job(self, row: sqlite3.Row) -> Job:
        return job_of(row, self._owner)

    def _settled_by_death(self, row: sqlite3.Row) -> sqlite3.Row:
        """Settle what an owner that is gone left of a job: nobody will hear of its answer."""
        open_still = row["state"] in {State.INTENT, State.SUBMITTED}
        if not open_still or row["owner"] == self._owner or self._locks.is_alive(row["owner"]):
            return row
        if row["state"] == State.INTENT:
            self._connection.execute(
                "UPDATE job SET state = 'in_doubt', reason = ? WHERE number = ?",
                (PROCESS_ENDED, row["number"]),
            )
        else:
            self._take_over(row)
        return self._again(row)

    def _take_over(self, row: sqlite3.Row) -> None:
        self._connection.execute(
            "UPDATE job SET owner = ? WHERE number = ?", (self._owner, row["number"])
        )
