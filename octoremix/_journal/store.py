"""What is written and read, one method for each step of a job. All of it blocks.

Every method is one part of a transaction that the caller opens; none of them commits.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attrs import evolve

from .._wire import Reading
from ..errors import JournalError, KeyReusedError, quoted
from ..models import RemixRequest
from ..records import PROCESS_ENDED, InDoubt
from .files import free_bytes, prepare
from .jobs import Job, Place, digest_of, doubt_of, final_body, job_of, request_of
from .owners import BUSY, OwnerLocks, owners_path
from .schema import connect, named_errors, transaction
from .states import State

__all__ = ["Store"]

RESERVE = 2**20
"""Bytes that are left free on the disk for the records of what is out already."""

_LONGEST_REASON = 500
_MOST_VALUES = 500

_TRIES = 100
"""Numbers of owners to try: some are taken where a file was deleted while it was in use."""


class Store:
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
        return f"<Store at {self._path}>"

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

    def look(self, request: RemixRequest, key: str) -> Job | None:
        """Return what is known of a key, after settling what a dead owner left of it.

        Raises:
            KeyReusedError: The key was used for another request.
        """
        row = self._row(key)
        if row is None:
            return None
        if row["digest"] != digest_of(request):
            raise KeyReusedError(
                f"the key {quoted(key, 80)} was used for another remix (of video "
                f"{quoted(row['video_id'], 80)}): choose another key, or submit what it stands for"
            )
        return self._job(self._settled_by_death(row))

    def claim(self, request: RemixRequest, key: str, may_buy: Callable[[Job], bool]) -> Job:
        """Write that a job is about to be sent, unless its key forbids it.

        Args:
            request: The job.
            key: Its key.
            may_buy: Whether a job that is known may be bought once more.

        Returns:
            The job, to be sent if its state is now ``INTENT`` and it is ``fresh`` here; else what
            is known of it.

        Raises:
            KeyReusedError: The key was used for another request.
        """
        now = time.time()
        keeps = self._store_prompts
        added = self._connection.execute(
            "INSERT INTO job (gateway, key, state, attempt, owner, digest, video_id, model, prompt,"
            " extra, created_at, intent_at) VALUES (?, ?, 'intent', 1, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (gateway, key) DO NOTHING",
            (
                self._gateway,
                key,
                self._owner,
                digest_of(request),
                request.video_id,
                request.model,
                request.prompt if keeps else None,
                json.dumps(dict(request.extra)) if keeps else None,
                now,
                now,
            ),
        )
        if added.rowcount:
            assert added.lastrowid is not None
            return Job(
                number=added.lastrowid,
                key=key,
                state=State.INTENT,
                attempt=1,
                mine=True,
                fresh=True,
                digest=b"",
                intent_at=now,
            )
        job = self.look(request, key)
        assert job is not None
        if not may_buy(job):
            return job
        # A doubt outlives an attempt that buys nothing: what it is about may still be charged.
        self._connection.execute(
            "UPDATE job SET paid_before = paid_before + (state != 'refused'),"
            " doubt_at = iif(state = 'in_doubt', coalesce(sent_at, intent_at), NULL),"
            " state = 'intent', attempt = attempt + 1, owner = ?, intent_at = ?, task_id = NULL,"
            " request_id = NULL, reason = NULL, sent_at = NULL,"
            " submitted_at = NULL, settled_at = NULL, final = NULL WHERE number = ?",
            (self._owner, now, job.number),
        )
        return evolve(
            job, state=State.INTENT, attempt=job.attempt + 1, mine=True, fresh=True, intent_at=now
        )

    def submitted(self, job: Job, task_id: str) -> None:
        """Write that a job was accepted; also where it had been taken for lost.

        Raises:
            JournalError: It was settled otherwise meanwhile.
        """
        self._update(
            job, "'intent', 'in_doubt'", state=State.SUBMITTED, task_id=task_id,
            submitted_at=time.time(), reason=None,
        )  # fmt: skip
        row = self._row(job.key)
        if row is None or row["task_id"] != task_id:
            now = "gone" if row is None else row["state"]
            raise JournalError(
                f"the job {quoted(job.key, 80)} was settled otherwise meanwhile: it is {now}"
            )

    def refused(self, job: Job, reason: str, request_id: str | None) -> None:
        """Write that an attempt bought nothing; an earlier one that was in doubt still is."""
        row = self._row(job.key)
        if row is not None and row["attempt"] == job.attempt:
            self._bought_nothing(row, reason, request_id)

    def withdrawn(self, key: str) -> None:
        """Write that a job of this owner was not sent after all."""
        row = self._row(key)
        if row is not None and row["owner"] == self._owner:
            self._bought_nothing(row, "its caller left before it was sent", None)

    def _bought_nothing(self, row: sqlite3.Row, reason: str, request_id: str | None) -> None:
        doubted = row["doubt_at"]
        if doubted is None:
            state, settled_at = State.REFUSED, time.time()
        else:
            state, settled_at = State.IN_DOUBT, None
            reason = f"an earlier attempt may have bought it; the last did not: {reason}"
        self._connection.execute(
            "UPDATE job SET state = ?, reason = ?, request_id = ?, sent_at = ?, settled_at = ?,"
            " paid_before = paid_before - (doubt_at IS NOT NULL)"
            " WHERE number = ? AND state = 'intent'",
            (state, reason[:_LONGEST_REASON], request_id, doubted, settled_at, row["number"]),
        )

    def in_doubt(self, job: Job, reason: str, sent_at: float, request_id: str | None) -> None:
        """Write that a job may have been bought."""
        self._update(
            job, "'intent'", state=State.IN_DOUBT, reason=reason[:_LONGEST_REASON],
            sent_at=sent_at, request_id=request_id,
        )  # fmt: skip

    def ended(self, reading: Reading) -> None:
        """Write how a task ended, if it is one of a job's."""
        self._connection.execute(
            "UPDATE job SET state = ?, final = ?, settled_at = ?"
            " WHERE task_id = ? AND gateway = ? AND state = 'submitted'",
            (
                str(reading.status),
                final_body(reading, prompts=self._store_prompts),
                time.time(),
                reading.task_id,
                self._gateway,
            ),
        )

    def downloaded(self, task_id: str, path: str) -> None:
        """Write where a task's video was saved, if it is one of a job's."""
        self._connection.execute(
            "UPDATE job SET state = 'downloaded', path = ?, downloaded_at = ?"
            " WHERE task_id = ? AND gateway = ? AND state IN ('completed', 'downloaded')",
            (path, time.time(), task_id, self._gateway),
        )

    def saving(self, task_id: str, path: str) -> None:
        """Write where a task's video is going to be saved."""
        self._connection.execute(
            "UPDATE job SET path = ? WHERE task_id = ? AND gateway = ?",
            (path, task_id, self._gateway),
        )

    def where(self, task_id: str) -> Place | None:
        """Return where a task's video was saved, or was going to be."""
        found = self._connection.execute(
            "SELECT path, state FROM job WHERE task_id = ? AND gateway = ? AND path IS NOT NULL",
            (task_id, self._gateway),
        ).fetchone()
        return None if found is None else Place(found["path"], found["state"] == State.DOWNLOADED)

    def paid(self, keys: Sequence[str]) -> int:
        """Return how often jobs of these keys were bought, or may have been."""
        count = 0
        for start in range(0, len(keys), _MOST_VALUES):
            some = keys[start : start + _MOST_VALUES]
            marks = ", ".join("?" * len(some))
            found = self._connection.execute(
                "SELECT coalesce(sum(paid_before + (state != 'refused')), 0) FROM job"  # noqa: S608  # question marks alone
                f" WHERE gateway = ? AND key IN ({marks})",
                (self._gateway, *some),
            ).fetchone()
            count += found[0]
        return count

    def adopt(self, doubt: InDoubt, task_id: str) -> Job:
        """Write which task a job in doubt became.

        Raises:
            JournalError: The doubt is settled already, or another job has the task.
        """
        other = self._connection.execute(
            "SELECT key FROM job WHERE task_id = ? AND gateway = ?", (task_id, self._gateway)
        ).fetchone()
        if other is not None:
            raise JournalError(
                f"task {quoted(task_id, 80)} is that of the job {quoted(other['key'], 80)}: "
                "nothing was changed",
                id=task_id,
            )
        row = self.doubtful(doubt)
        self._connection.execute(
            "UPDATE job SET state = 'submitted', task_id = ?, submitted_at = ?, owner = ?,"
            " reason = NULL WHERE number = ?",
            (task_id, row["sent_at"] or row["intent_at"], self._owner, row["number"]),
        )
        return self._job(self._again(row))

    def abandon(self, doubt: InDoubt) -> None:
        """Write that a job in doubt is given up.

        Raises:
            JournalError: The doubt is settled already.
        """
        row = self.doubtful(doubt)
        self._connection.execute(
            "UPDATE job SET state = 'abandoned', settled_at = ? WHERE number = ?",
            (time.time(), row["number"]),
        )

    def doubtful(self, doubt: InDoubt) -> sqlite3.Row:
        """Return the row of a doubt.

        Raises:
            JournalError: The doubt is settled already.
        """
        row = self._row(doubt.key)
        if row is None or row["state"] != State.IN_DOUBT or row["attempt"] != doubt.attempt:
            now = "gone" if row is None else row["state"]
            raise JournalError(
                f"the doubt about the job {quoted(doubt.key, 80)} is settled already: it is {now}"
            )
        return row

    def doubts(self) -> list[InDoubt]:
        """Return the jobs of this gateway that are in doubt, after settling what the dead left."""
        for row in self._open(State.INTENT):
            self._settled_by_death(row)
        return [doubt_of(row) for row in self._open(State.IN_DOUBT)]

    def unfinished(self) -> list[Job]:
        """Return the tasks of this gateway that this owner is to follow.

        They are its own and those of owners that are gone, which become its own. What these had
        not got an answer for is in doubt from now on.
        """
        alive: dict[int, bool] = {self._owner: False}
        for row in self._open(State.INTENT):
            self._settled_by_death(row)
        found = []
        for row in self._open(State.SUBMITTED):
            owner = row["owner"]
            if owner not in alive:
                alive[owner] = self._locks.is_alive(owner)
            if alive[owner]:
                continue
            if owner != self._owner:
                self._take_over(row)
            found.append(evolve(job_of(row, owner), request=request_of(row)))
        return found

    def elsewhere(self) -> dict[str, int]:
        """Return how many jobs of other gateways are unfinished, by base URL."""
        rows = self._connection.execute(
            "SELECT base_url FROM job JOIN gateway ON gateway.number = job.gateway"
            " WHERE gateway != ? AND settled_at IS NULL",
            (self._gateway,),
        )
        return Counter(row["base_url"] for row in rows)

    def submits_of(self, video_id: str) -> list[float]:
        """Return when the remixes of a video were accepted, those whose ids are known."""
        found = self._connection.execute(
            "SELECT submitted_at FROM job WHERE gateway = ? AND video_id = ?"
            " AND submitted_at IS NOT NULL",
            (self._gateway, video_id),
        )
        return [row["submitted_at"] for row in found]

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

    def _update(self, job: Job, from_states: str, **values: object) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._connection.execute(
            f"UPDATE job SET {columns} WHERE number = ? AND attempt = ?"  # noqa: S608  # constants
            f" AND state IN ({from_states})",
            (*values.values(), job.number, job.attempt),
        )
