"""What others left: tasks that nobody follows, and doubts."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter

from attrs import evolve

from ..errors import JournalError, quoted
from ..records import InDoubt
from .access import Access
from .jobs import Job, doubt_of, job_of, request_of
from .states import State

__all__ = ["Settling"]


class Settling(Access):
    """What is read and written where an earlier process has ended."""

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
