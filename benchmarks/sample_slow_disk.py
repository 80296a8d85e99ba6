"""Sample: how late the event loop is while each commit waits so many seconds for its disk."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from unittest import mock

from workload import report

import octoremix
from octoremix._journal.store import Store

TICK = 0.001

_transaction = Store.transaction


@contextlib.contextmanager
def _slow(store: Store) -> Iterator[None]:
    with _transaction(store):
        yield
        time.sleep(WAIT)  # as a system call does, it lets go of the interpreter


async def _lag(taken: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        taken.append(time.perf_counter() - due)


async def _main(base_url: str, folder: str, together: int, count: int) -> None:
    journal = Path(folder, "journal.db")
    poll = octoremix.PollPolicy(first_delay=3600)
    taken: list[float] = []
    left = count

    async def submits() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await session.submit("video_1", prompt="make it snow")

    async with octoremix.Session(
        "sk-bench", base_url=base_url, journal=journal, poll=poll, submit_concurrency=together
    ) as session:
        await session.submit("video_1", prompt="make it snow")
        with mock.patch.object(Store, "transaction", _slow):
            ticking = asyncio.create_task(_lag(taken))
            async with asyncio.TaskGroup() as group:
                for _ in range(together):
                    group.create_task(submits())
            ticking.cancel()
    report(p99=quantiles(taken, n=100)[98] * 1000, longest=max(taken) * 1000)


if __name__ == "__main__":
    WAIT = float(sys.argv[5])
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
