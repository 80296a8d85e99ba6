"""Sample: so many submits, so many at a time, with the journal in a folder or with none."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from statistics import median

from workload import report

import octoremix

WARM_UP = 200


async def _main(base_url: str, folder: str, together: int, count: int) -> None:
    journal = Path(folder, "journal.db") if folder else None
    taken: list[float] = []
    left = 0

    async def submits() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await session.submit("video_1", prompt=f"make it snow {left}")
            taken.append(time.perf_counter() - began)

    async def all_submits(number: int) -> float:
        nonlocal left
        left = number
        taken.clear()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(together):
                group.create_task(submits())
        return time.perf_counter() - began

    poll = octoremix.PollPolicy(first_delay=3600)
    async with octoremix.Session(
        "sk-bench", base_url=base_url, journal=journal, poll=poll, submit_concurrency=together
    ) as session:
        await all_submits(min(WARM_UP, count))
        cpu = time.process_time()
        seconds = await all_submits(count)
        cpu = time.process_time() - cpu
    report(rate=count / seconds, median=median(taken) * 1000, cpu=cpu / count * 1e6)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
