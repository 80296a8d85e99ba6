"""The steps of a job, from its intent to its file, one method for each."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence

from attrs import evolve

from .._wire import Reading
from ..errors import JournalError, KeyReusedError, quoted
from ..models import RemixRequest
from .access import Access
from .bulk import padded
from .jobs import Claim, Job, Place, digest_of, final_body
from .states import State

__all__ = ["Steps"]

_LONGEST_REASON = 500
_INSERT = (
    "INSERT INTO job (gateway, key, state, attempt, owner, digest, video_id, model, prompt, extra,"
    " created_at, intent_at) VALUES"
)
_ROW = "(?, ?, 'intent', 1, ?, ?, ?, ?, ?, ?, ?, ?)"
_IF_NEW = "ON CONFLICT (gateway, key) DO NOTHING"


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

    def claims(self, claims: Sequence[Claim]) -> list[Job | JournalError]:
        """Write that jobs are about to be sent, unless their keys forbid it.

        Args:
            claims: The jobs, each of another key.

        Returns:
            For each the job, to be sent if its state is now ``INTENT`` and it is ``fresh`` here;
            else what is known of it, or the `KeyReusedError` that its key meets.
        """
        added = self._added(claims)
        return [
            added[claim.key] if claim.key in added else self._claimed_again(claim)
            for claim in claims
        ]

    def _added(self, claims: Sequence[Claim]) -> dict[str, Job]:
        """Add the jobs whose keys are not known, and return them by their keys."""
        now = time.time()
        added: set[str] = set()
        for some in padded([(claim.key, self._values_of(claim, now)) for claim in claims]):
            statement = f"{_INSERT} {', '.join([_ROW] * len(some))} {_IF_NEW}"
            values = [value for _, row in some for value in row]
            done = self._connection.execute(statement, values)
            keys = {key for key, _ in some}
            if done.rowcount < len(keys):
                keys = self._last(done)
            added |= keys
        return {
            key: Job(
                key=key,
                state=State.INTENT,
                attempt=1,
                mine=True,
                fresh=True,
                digest=b"",
                intent_at=now,
            )
            for key in added
        }

    def _last(self, insert: sqlite3.Cursor) -> set[str]:
        """Return the keys of the rows that a statement added: theirs are the highest numbers."""
        if not insert.rowcount:
            return set()
        assert insert.lastrowid is not None
        rows = self._connection.execute(
            "SELECT key FROM job WHERE number > ?", (insert.lastrowid - insert.rowcount,)
        )
        return {row["key"] for row in rows}

    def _values_of(self, claim: Claim, now: float) -> tuple[object, ...]:
        request, keeps = claim.request, self._store_prompts
        return (
            self._gateway,
            claim.key,
            self._owner,
            digest_of(request),
            request.video_id,
            request.model,
            request.prompt if keeps else None,
            json.dumps(dict(request.extra)) if keeps else None,
            now,
            now,
        )

    def _claimed_again(self, claim: Claim) -> Job | JournalError:
        """Claim a job that is known, if it may be bought once more."""
        try:
            job = self.look(claim.request, claim.key)
        except KeyReusedError as error:
            return error
        assert job is not None
        if not claim.may_buy(job):
            return job
        # A doubt outlives an attempt that buys nothing: what it is about may still be charged.
        now = time.time()
        self._connection.execute(
            "UPDATE job SET paid_before = paid_before + (state != 'refused'), doubt_at ="
            " CASE state WHEN 'in_doubt' THEN coalesce(sent_at, intent_at) END,"
            " state = 'intent', attempt = attempt + 1, owner = ?, intent_at = ?, task_id = NULL,"
            " request_id = NULL, reason = NULL, sent_at = NULL,"
            " submitted_at = NULL, settled_at = NULL, final = NULL WHERE gateway = ? AND key = ?",
            (self._owner, now, self._gateway, job.key),
        )
        return evolve(
            job, state=State.INTENT, attempt=job.attempt + 1, mine=True, fresh=True, intent_at=now
        )

    def submitted(self, accepted: Sequence[tuple[Job, str]]) -> list[JournalError | None]:
        """Write that jobs were accepted; also where they had been taken for lost.

        Args:
            accepted: Jobs, each but once, and the ids of their tasks.

        Returns:
            For each nothing, or what is wrong: it was settled otherwise meanwhile.
        """
        now, updated = time.time(), 0
        for some in padded(accepted):
            keys = [job.key for job, _ in some]
            of_each = f"CASE key {'WHEN ? THEN ? ' * len(some)}END"
            updated += self._connection.execute(
                f"UPDATE job SET state = 'submitted', task_id = {of_each}, submitted_at = ?,"  # noqa: S608  # question marks alone
                f" reason = NULL WHERE gateway = ? AND key IN ({_marks(keys)})"
                f" AND attempt = {of_each} AND state IN ('intent', 'in_doubt')",
                [
                    *(value for job, task_id in some for value in (job.key, task_id)),
                    now,
                    self._gateway,
                    *keys,
                    *(value for job, _ in some for value in (job.key, job.attempt)),
                ],
            ).rowcount
        if updated == len(accepted):
            return [None] * len(accepted)
        return [self._not_submitted(job, task_id) for job, task_id in accepted]

    def _not_submitted(self, job: Job, task_id: str) -> JournalError | None:
        row = self._row(job.key)
        if row is not None and row["task_id"] == task_id:
            return None
        now = "gone" if row is None else row["state"]
        return JournalError(
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
        self._connection.execute(
            "UPDATE job SET state = 'in_doubt', reason = ?, sent_at = ?, request_id = ?"
            " WHERE gateway = ? AND key = ? AND attempt = ? AND state = 'intent'",
            (
                reason[:_LONGEST_REASON],
                sent_at,
                request_id,
                self._gateway,
                job.key,
                job.attempt,
            ),
        )

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
        for some in padded(keys):
            found = self._connection.execute(
                "SELECT coalesce(sum(paid_before + (state != 'refused')), 0) FROM job"  # noqa: S608  # question marks alone
                f" WHERE gateway = ? AND key IN ({_marks(some)})",
                (self._gateway, *some),
            ).fetchone()
            count += found[0]
        return count


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
