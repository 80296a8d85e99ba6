"""A journal read and pruned on its own, also while sessions write to it. All of it blocks."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from ..errors import JournalError, quoted
from ..records import JournalEntry
from .jobs import entry_of
from .schema import connect, named_errors, transaction
from .states import SETTLED_STATES

__all__ = ["prune", "read"]

_CHUNK = 1_000
"""Jobs that are erased in one transaction: others want to write too."""


@contextlib.contextmanager
def _opened(path: Path, busy_timeout: float) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise JournalError(f"there is no journal {quoted(path)}")
    connection = connect(path, busy_timeout)
    try:
        with named_errors(path):
            yield connection
    finally:
        connection.close()


def read(
    path: Path,
    *,
    states: Collection[str] | None,
    base_url: str | None,
    limit: int | None,
    busy_timeout: float,
) -> list[JournalEntry]:
    """Return jobs, the newest first; see `SQLiteJournal.history`."""
    conditions: list[str] = []
    values: list[str] = []
    if states is not None:
        conditions.append(f"state IN ({', '.join('?' * len(states))})")
        values += states
    if base_url is not None:
        conditions.append("base_url = ?")
        values.append(base_url)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    with _opened(path, busy_timeout) as connection:
        rows = connection.execute(
            "SELECT job.*, base_url FROM job JOIN gateway ON gateway.number = job.gateway"  # noqa: S608  # question marks alone
            f"{where} ORDER BY job.number DESC LIMIT ?",
            (*values, -1 if limit is None else limit),
        )
        return [entry_of(row) for row in rows]


def prune(path: Path, *, older_than: float, busy_timeout: float) -> int:
    """Erase settled jobs; see `SQLiteJournal.prune`."""
    before, erased = time.time() - older_than, 0
    settled = ", ".join(f"'{state}'" for state in SETTLED_STATES)
    chunk = (
        f"DELETE FROM job WHERE number IN (SELECT number FROM job WHERE state IN ({settled})"  # noqa: S608  # constants
        " AND coalesce(downloaded_at, settled_at) < ? LIMIT ?)"
    )
    with _opened(path, busy_timeout) as connection:
        # What is erased holds prompts and signed links: it is overwritten, in the log too.
        connection.execute("PRAGMA secure_delete = ON")
        while True:
            with transaction(connection):
                gone = connection.execute(chunk, (before, _CHUNK)).rowcount
            erased += gone
            if gone < _CHUNK:
                break
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return erased
