"""What the journal knows: followed again, settled, read."""

from __future__ import annotations

from collections.abc import Collection

from .._journal import State
from ..futures import RemixFuture
from ..records import InDoubt, JournalEntry
from .core import SessionCore

__all__ = ["Record"]


class Record(SessionCore):
    """What a session does with its journal."""

    async def resume(self) -> list[RemixFuture]:
        """Follow every unfinished task of the journal whose process is gone.

        What such a process had sent without hearing an answer is in doubt from then on; see
        `in_doubt`. Jobs of another base URL are left alone and named in a warning: a key is never
        sent to an address that was read from a file. Jobs of a process that lives are its own.

        Returns:
            The futures of the tasks that this session follows for the journal.

        Raises:
            ConfigurationError: The session has no journal.
            JournalError: The journal can't be used.
        """
        return await self._buyer.recovery().resume()

    async def in_doubt(self, *, evidence: bool = False) -> list[InDoubt]:
        """Return the jobs of the journal that may exist and may have been charged.

        Args:
            evidence: Look once at the key's own log (at most once a minute, since the gateway
                allows few looks), and mark each job as ``"charged"``, ``"not seen"`` or
                ``"unavailable"``. It changes nothing: a log may lag.

        Raises:
            ConfigurationError: The session has no journal.
            JournalError: The journal can't be used.
        """
        return await self._buyer.recovery().in_doubt(evidence=evidence)

    async def adopt(self, doubt: InDoubt, task_id: str) -> RemixFuture:
        """Settle a doubt: this is its task, as the console of the gateway shows it.

        Raises:
            ConfigurationError: The id is malformed, or the session has no journal.
            JournalError: The doubt is settled already, or the task is that of another job.
        """
        return await self._buyer.recovery().adopt(doubt, task_id)

    async def resubmit(self, doubt: InDoubt) -> RemixFuture:
        """Settle a doubt: buy the job once more, **which pays twice if it was bought**.

        Raises:
            JournalError: The doubt is settled already, or the journal stores no prompts.
            OctoremixError: As `submit` raises.
        """
        request = await self._buyer.recovery().request_of(doubt)
        bought = await self._buyer.buy(
            request, again=frozenset({State.IN_DOUBT}), attempt=doubt.attempt
        )
        return bought.future

    async def abandon(self, doubt: InDoubt) -> None:
        """Settle a doubt: the job is given up, whatever became of it.

        Its key buys nothing any more, unless it is submitted with ``retry_failed=True``.

        Raises:
            JournalError: The doubt is settled already.
        """
        await self._buyer.recovery().abandon(doubt)

    async def history(
        self, *, states: Collection[str] | None = None, limit: int | None = None
    ) -> list[JournalEntry]:
        """Return the jobs of this session's base URL in the journal, the newest first.

        Args:
            states: Only jobs that stand so, for example ``["failed", "expired"]``.
            limit: The most jobs, or ``None`` for all.

        Raises:
            ConfigurationError: The session has no journal, or there is no such state.
            JournalError: The journal can't be read.
        """
        self._buyer.recovery()
        assert self._ledger is not None
        assert self._journal is not None
        await self._ledger.open()
        await self._ledger.flush()
        return await self._journal.history(states=states, base_url=self.base_url, limit=limit)
