"""The journal of one session: every step of a job, awaitable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._wire import Reading
from ..errors import JournalError, printable
from ..models import RemixRequest, TaskStatus, Video
from ..records import InDoubt
from .bulk import Bulk
from .jobs import Claim, Job, Place
from .writer import Writer

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Ledger"]

log = logging.getLogger("octoremix")


class Ledger:
    """Keeps what a session buys. Each future is done when the disk has what it tells.

    Args:
        path: The database.
        base_url: The gateway.
        store_prompts: Whether what was asked for is kept, or only a digest of it.
        busy_timeout: Seconds to wait while other processes write.
    """

    def __init__(
        self, path: Path, base_url: str, *, store_prompts: bool, busy_timeout: float
    ) -> None:
        self.path = path
        self.store_prompts = store_prompts

        def open_store() -> Store:
            # In the thread, and only where there is a journal: importing sqlite3 takes its time.
            from .store import Store  # noqa: PLC0415

            return Store(path, base_url, store_prompts=store_prompts, busy_timeout=busy_timeout)

        self._writer = Writer(open_store)

    def __repr__(self) -> str:
        return f"<Ledger in {self.path}>"

    async def open(self) -> None:
        """Make sure that the journal can be used.

        Raises:
            JournalError: It can't; nothing was sent.
        """
        await self._writer.run(lambda _: None)

    async def flush(self) -> None:
        """Wait until all that was recorded until now is on the disk."""
        await self._writer.flush()

    async def aclose(self) -> None:
        """Write what is left, and let go of the jobs."""
        await self._writer.aclose()

    def look(self, request: RemixRequest, key: str) -> asyncio.Future[Job | None]:
        """Return what is known of a key; see `Store.look`."""
        return self._writer.run(lambda store: store.look(request, key))

    def claim(
        self, request: RemixRequest, key: str, may_buy: Callable[[Job], bool]
    ) -> asyncio.Future[Job]:
        """Announce a purchase; see `Store.claims`.

        Args:
            request: The job.
            key: Its key.
            may_buy: Asked in the writer's thread.
        """
        return self._writer.run(
            Bulk(_claims, key, Claim(request, key, may_buy)),
            undo=lambda store: store.withdrawn(key),
        )

    def submitted(self, job: Job, task_id: str) -> asyncio.Future[None]:
        """Record that a job was accepted."""
        return self._writer.run(Bulk(_submitted, job.key, (job, task_id)), record=True)

    def refused(self, job: Job, reason: str, request_id: str | None) -> asyncio.Future[None]:
        """Record that a job was not bought."""
        return self._writer.run(lambda store: store.refused(job, reason, request_id), record=True)

    def withdrawn(self, key: str) -> asyncio.Future[None]:
        """Record that a job was not sent after all."""
        return self._writer.run(lambda store: store.withdrawn(key), record=True)

    def in_doubt(
        self, job: Job, reason: str, sent_at: float, request_id: str | None
    ) -> asyncio.Future[None]:
        """Record that a job may have been bought."""
        return self._writer.run(
            lambda store: store.in_doubt(job, reason, sent_at, request_id), record=True
        )

    def ended(self, reading: Reading) -> None:
        """Record how a task ended; nobody waits for it."""
        self._later(lambda store: store.ended(reading), reading.task_id)

    def downloaded(self, video: Video, path: Path) -> None:
        """Record where a video was saved, and so that its task has ended; nobody waits for it."""
        with contextlib.suppress(ValueError):
            reading = Reading.of(video)
            if reading.status is TaskStatus.COMPLETED:
                self.ended(reading)
        shown = _as_text(path)
        self._later(lambda store: store.downloaded(video.id, shown), video.id)

    def saving(self, task_id: str, path: Path) -> asyncio.Future[None]:
        """Record where a video is going to be saved."""
        shown = _as_text(path)
        return self._writer.run(lambda store: store.saving(task_id, shown))

    def where(self, task_id: str) -> asyncio.Future[Place | None]:
        """Return where a video was saved, or was going to be."""
        return self._writer.run(lambda store: store.where(task_id))

    def paid(self, keys: Sequence[str]) -> asyncio.Future[int]:
        """Return how many jobs of these keys were bought, or may have been."""
        return self._writer.run(lambda store: store.paid(keys))

    def unfinished(self) -> asyncio.Future[tuple[list[Job], dict[str, int]]]:
        """Take over what nobody follows; see `Store.unfinished` and `Store.elsewhere`."""
        return self._writer.run(lambda store: (store.unfinished(), store.elsewhere()))

    def doubts(self) -> asyncio.Future[list[InDoubt]]:
        """Return the jobs in doubt; see `Store.doubts`."""
        return self._writer.run(lambda store: store.doubts())

    def check_doubt(self, doubt: InDoubt) -> asyncio.Future[None]:
        """Raise unless a doubt is still one; see `Store.doubtful`."""

        def check(store: Store) -> None:
            store.doubtful(doubt)

        return self._writer.run(check)

    def adopt(self, doubt: InDoubt, task_id: str) -> asyncio.Future[Job]:
        """Settle a doubt by its task; see `Store.adopt`."""
        return self._writer.run(lambda store: store.adopt(doubt, task_id))

    def abandon(self, doubt: InDoubt) -> asyncio.Future[None]:
        """Give a job in doubt up; see `Store.abandon`."""
        return self._writer.run(lambda store: store.abandon(doubt))

    def submits_of(self, video_id: str) -> asyncio.Future[list[float]]:
        """Return when remixes were surely accepted; see `Store.submits_of`."""
        return self._writer.run(lambda store: store.submits_of(video_id))

    def _later(self, work: Callable[[Store], None], task_id: str) -> None:
        def tell(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is not None:
                # Its future is finished all the same: the gateway can be asked again.
                log.error(
                    "the end of task %s is not in the journal: %s",
                    printable(task_id),
                    done.exception(),
                )

        self._writer.run(work, record=True).add_done_callback(tell)


def _claims(store: Store, claims: Sequence[Claim]) -> list[Job | JournalError]:
    return store.claims(claims)


def _submitted(store: Store, accepted: Sequence[tuple[Job, str]]) -> list[JournalError | None]:
    return store.submitted(accepted)


def _as_text(path: Path) -> str:
    """Return a path as SQLite takes it; the name of a file may hold bytes that are no text."""
    return str(path).encode(errors="backslashreplace").decode()
