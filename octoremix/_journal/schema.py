"""The journal's tables, and how its file is opened."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import JournalBusyError, JournalError, printable, quoted
from .owners import is_inherited

__all__ = [
    "connect",
    "named_errors",
    "transaction",
]

APPLICATION_ID = 0x6F63746F
"""«octo», in the header of the file."""

VERSION = 1


# A job is found by its key when it is submitted, and by its task when that ends. Those that are
# open are few among many, and looked for at every start. Of an index by `state` the upkeep would
# cost more than all else in the record of a submit: this one is not touched from the intent on.
_TABLES = """
CREATE TABLE gateway (
    number INTEGER PRIMARY KEY,
    base_url TEXT NOT NULL UNIQUE
);
CREATE TABLE owner (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    process INTEGER NOT NULL,
    opened_at REAL NOT NULL
);
CREATE TABLE job (
    number INTEGER PRIMARY KEY,
    gateway INTEGER NOT NULL REFERENCES gateway,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    digest BLOB NOT NULL,
    video_id TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT,
    extra TEXT,
    task_id TEXT,
    request_id TEXT,
    reason TEXT,
    created_at REAL NOT NULL,
    intent_at REAL NOT NULL,
    sent_at REAL,
    doubt_at REAL,
    submitted_at REAL,
    settled_at REAL,
    downloaded_at REAL,
    path TEXT,
    final BLOB,
    paid_before INTEGER NOT NULL DEFAULT 0,
    UNIQUE (gateway, key)
);
CREATE INDEX job_by_task ON job (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX job_open ON job (gateway) WHERE settled_at IS NULL;
"""

_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # an answer is given only when the disk has what it tells
    "PRAGMA fullfsync = ON",  # macOS: down to the medium
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA journal_size_limit = 67108864",
)

_LEAST_PAUSE = 0.01


def connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open a journal's file and make sure that it is one; it blocks.

    Raises:
        JournalError: It is something else, damaged, or of a newer version; nothing was changed.
        JournalBusyError: Others held it for longer than ``busy_timeout`` seconds.
    """
    if is_inherited(path):
        raise JournalError(
            f"the journal {quoted(path)} was open when this process was forked, and can't be "
            "shared over a fork: fork before it is opened, or start processes afresh "
            "(multiprocessing's 'spawn'); nothing was sent"
        )
    with named_errors(path):
        connection = sqlite3.connect(
            path, timeout=busy_timeout, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        try:
            fresh = _is_fresh(connection, path)
            _use_write_ahead_log(connection, path, busy_timeout)
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            if fresh:
                _make_tables(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _is_fresh(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the tables have still to be made, and raise for another program's file."""
    # In this order: another process may make the tables in between, and its id comes with them.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = _value(connection, "application_id")
    if application == APPLICATION_ID:
        version = _value(connection, "user_version")
        if version > VERSION:
            raise JournalError(
                f"the journal {quoted(path)} was written by a newer octoremix (its version is "
                f"{version}, this one reads up to {VERSION}): upgrade octoremix; nothing was sent"
            )
        return False
    if application or tables:
        raise JournalError(
            f"{quoted(path)} is another program's database, not a journal of octoremix: choose "
            "another path; nothing was changed or sent"
        )
    return True


def _use_write_ahead_log(connection: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
    """Switch the file to its write-ahead log; while others do the same, SQLite doesn't wait."""
    until = time.monotonic() + busy_timeout
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(_LEAST_PAUSE)
        else:
            break
    if mode != "wal":
        raise JournalError(
            f"the journal {quoted(path)} lies where SQLite can't share memory between processes "
            f"(its journal mode stays {printable(mode)}): choose a path on a disk of this machine"
        )


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    with transaction(connection):
        if _is_fresh(connection, path):  # else another process was faster
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Keep all or nothing of what is written in the block, and only when it is on the disk."""
    if connection.in_transaction:  # the end of the last one failed too
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends some by itself, as on a full disk
            connection.execute("ROLLBACK")
        raise


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into those of this library."""
    try:
        yield
    except sqlite3.Error as error:
        raise journal_error(path, error) from None


_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_READONLY: "it can only be read: check its permissions and its disk's",
    sqlite3.SQLITE_CANTOPEN: "check its folder's permissions",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_NOTADB: "it is no journal of octoremix: choose another path",
    sqlite3.SQLITE_CORRUPT: "it is damaged: keep a copy of it, and choose another path",
}


def journal_error(path: Path, error: sqlite3.Error) -> JournalError:
    """Return what an error of SQLite's means, and what to do."""
    if _is_busy(error):
        return JournalBusyError(
            f"the journal {quoted(path)} was held by other processes for too long: raise "
            "busy_timeout= of SQLiteJournal, or find what holds it"
        )
    advice = _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
    return JournalError(
        f"the journal {quoted(path)} can't be used: {printable(error)}"
        + (f"; {advice}" if advice else "")
    )
