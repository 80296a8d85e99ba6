"""Journals in the hands of tests: looked into, failing at a commit, or left as by a dead process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity

import octoremix
from octoremix._journal import access, schema
from octoremix._journal.store import Store

from .scripted import Answer

QUICK = octoremix.RetryPolicy(wait=tenacity.wait_fixed(1), attempts=3)
STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5)


def session(gateway: Any, journal: Any, **settings: Any) -> octoremix.Session:
    """Return a session with a journal, for any kind of gateway."""
    settings = {"retry": QUICK, "poll": STEADY, "journal": journal, **settings}
    return octoremix.Session("sk-secret", base_url=gateway.url, **settings)


def states(path: Path) -> dict[str, str]:
    """Return where each key stands on the disk, with its attempt where it is not the first."""
    rows = query(path, "SELECT key, state, attempt FROM job ORDER BY number")
    return {key: state if attempt == 1 else f"{state} {attempt}" for key, state, attempt in rows}


def query(path: Path, statement: str, *values: object) -> list[Any]:
    """Ask the file itself."""
    connection = sqlite3.connect(path)
    try:
        found = connection.execute(statement, values).fetchall()
        connection.commit()
    finally:
        connection.close()
    return found


def store_of(octo: octoremix.Session) -> Store:
    """Return what a session writes to."""
    assert octo._ledger is not None
    found = octo._ledger._writer._store
    assert found is not None
    return found


class _NoLocks:
    """Of a process that is dead."""

    def close(self) -> None:
        pass


async def die(octo: octoremix.Session) -> None:
    """Leave a session's journal as a process leaves it that is killed: nothing more is written."""
    assert octo._ledger is not None
    await octo._ledger.flush()
    dead: Any = store_of(octo)
    dead._connection.close()
    dead._locks.close()
    dead._locks = _NoLocks()


def watching(path: Path, seen: list[dict[str, str]], answer: Answer) -> Answer:
    """Answer, after noting what is on the disk while the request is out."""

    def watched(request: Any) -> Any:
        seen.append(states(path))
        return answer(request)

    return watched


def failure(text: str, code: int) -> sqlite3.OperationalError:
    """Return an error as SQLite raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def io_error() -> sqlite3.OperationalError:
    return failure("disk I/O error", sqlite3.SQLITE_IOERR)


class Disk:
    """Stands between journals and SQLite, and does at each commit what a test says.

    Attributes:
        commits: How many were asked for.
        before: Called with the number of a commit, which fails if it raises.
        after: Called once a commit is done; it is reported as failed if this raises.
        broken: What every statement raises, or ``None``.
    """

    def __init__(self) -> None:
        self.commits = 0
        self.before: Callable[[int], object] = lambda _: None
        self.after: Callable[[int], object] = lambda _: None
        self.broken: sqlite3.Error | None = None

    def connect(self, path: Path, busy_timeout: float) -> Any:
        return _Connection(schema.connect(path, busy_timeout), self)


class _Connection:
    def __init__(self, real: sqlite3.Connection, disk: Disk) -> None:
        self._real, self._disk = real, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        disk = self._disk
        if disk.broken is not None:
            raise disk.broken
        if statement != "COMMIT":
            return self._real.execute(statement, *values)
        disk.commits += 1
        disk.before(disk.commits)
        done = self._real.execute(statement)
        disk.after(disk.commits)
        return done


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk of all journals that the test opens."""
    found = Disk()
    monkeypatch.setattr(access, "connect", found.connect)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal may be made."""
    return tmp_path / "jobs.db"


async def entry(path: Path, key: str) -> octoremix.JournalEntry:
    """Return the record of one key."""
    (found,) = [each for each in await octoremix.SQLiteJournal(path).history() if each.key == key]
    return found
