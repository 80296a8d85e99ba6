"""Sample: a session that polls."""

from __future__ import annotations

import asyncio
import sys

from answers import task_ids
from workload import cpu_per_poll, report, saturated

import octoremix


async def _main(base_url: str, tasks: int, polls: int) -> None:
    async with octoremix.Session("sk-bench", base_url=base_url, poll=saturated()) as session:
        for task_id in task_ids(tasks):
            session.track(task_id)
        cpu = await cpu_per_poll(lambda: session.stats.polls_sent, polls)
    report(cpu=cpu)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
