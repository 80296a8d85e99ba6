"""The durable record of paid work: one SQLite file, any number of processes of one machine.

==========  ================================================================
`states`    where a job may stand
`schema`    the tables, and how the file is opened
`files`     where it may lie, and who may read it
`owners`    which of the processes that have jobs still live
`jobs`      rows, to and from the library's values
`access`    one owner's access to the file
`steps`     what is written and read as a job goes on
`settling`  what is written and read where an earlier process has ended
`store`     both of these
`writer`    the thread that writes, and commits together what comes together
`ledger`    all of that, awaitable, for one session
`history`   the file read and pruned on its own
==========  ================================================================
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from datetime import timedelta

from attrs import field, frozen

from ..errors import ConfigurationError
from ..policies import check_count, check_seconds
from ..records import JournalEntry
from .files import check_path
from .jobs import Job
from .ledger import Ledger
from .states import State

__all__ = ["Job", "Ledger", "SQLiteJournal", "State"]


def _seconds(_: object, __: object, value: object) -> None:
    check_seconds("busy_timeout", value, zero=True)


@frozen
class SQLiteJournal:
    """A journal in one SQLite file, shared by any number of processes of one machine.

    It holds prompts and the links to the results, which may be signed: it is readable by its user
    alone. The API key is never in it.

    Attributes:
        path: The file; it and its folder are made where they are missing.
        store_prompts: Whether what was asked for is kept. Without it there is only a digest, by
            which a key that is used for another request is still found out. A job in doubt can then
            not be sent again from the journal alone.
        busy_timeout: Seconds to wait while other processes write.

    Raises:
        ConfigurationError: A setting is malformed.
    """

    path: str | os.PathLike[str] = field(converter=check_path)
    store_prompts: bool = field(default=True, kw_only=True)
    busy_timeout: float = field(default=30.0, kw_only=True, validator=_seconds)

    def open(self, base_url: str) -> Ledger:
        """Return the journal of one session, which opens the file when it is first used."""
        return Ledger(
            check_path(self.path),
            base_url,
            store_prompts=self.store_prompts,
            busy_timeout=self.busy_timeout,
        )

    async def history(
        self,
        *,
        states: Collection[str] | None = None,
        base_url: str | None = None,
        limit: int | None = None,
    ) -> list[JournalEntry]:
        """Return the jobs in the journal, the newest first. It needs no session.

        Args:
            states: Only jobs that stand so, for example ``["failed", "expired"]``.
            base_url: Only jobs of that gateway.
            limit: The most jobs, or ``None`` for all.

        Raises:
            ConfigurationError: A state that does not exist.
            JournalError: The file is missing or can't be read.
        """
        if states is not None:
            states = [states] if isinstance(states, str) else list(states)
            for state in states:
                if state not in list(State):
                    raise ConfigurationError(
                        f"states has {state!r}: choose from {', '.join(State)}"
                    )
        if limit is not None:
            check_count("limit", limit)
        from . import history  # noqa: PLC0415  # importing sqlite3 takes its time

        return await asyncio.to_thread(
            history.read,
            check_path(self.path),
            states=states,
            base_url=base_url,
            limit=limit,
            busy_timeout=self.busy_timeout,
        )

    async def prune(self, *, older_than: float | timedelta) -> int:
        """Erase jobs that were settled long ago, with their prompts and links.

        Open ones stay, whatever their age: those that are followed and those in doubt. A key that
        is erased buys again, also in a batch that still runs.

        Args:
            older_than: How long ago, in seconds or as a `timedelta`.

        Returns:
            How many were erased.

        Raises:
            JournalError: The file is missing or can't be written.
        """
        seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
        check_seconds("older_than", seconds, zero=True)
        from . import history  # noqa: PLC0415  # importing sqlite3 takes its time

        return await asyncio.to_thread(
            history.prune,
            check_path(self.path),
            older_than=seconds,
            busy_timeout=self.busy_timeout,
        )
