"""The steps of a job, from its intent to its file, one method for each."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence

from attrs import evolve

from .._wire import Reading
from ..errors import JournalError, KeyReusedError, quoted
from ..models import RemixRequest
from .access import Access
from .jobs import Job, Place, digest_of, final_body
from .states import State

__all__ = ["Steps"]

_LONGEST_REASON = 500
_MOST_VALUES = 500


class Steps(Access):
    """What is written and read as a job goes on."""

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
