"""Sample: the bare loop that octoremix is compared with, `aiohttp` GET plus `json.loads`."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

import aiohttp
from answers import task_ids
from workload import IN_FLIGHT, cpu_per_poll, report


async def _main(base_url: str, tasks: int, polls: int) -> None:
    polled = 0
    urls = itertools.cycle([f"{base_url}/v1/videos/{task_id}" for task_id in task_ids(tasks)])

    async def loop() -> None:
        nonlocal polled
        for url in urls:
            async with client.get(url) as response:
                json.loads(await response.read())
            polled += 1

    async with aiohttp.ClientSession(headers={"Authorization": "Bearer sk-bench"}) as client:
        loops = [asyncio.create_task(loop()) for _ in range(IN_FLIGHT)]
        cpu = await cpu_per_poll(lambda: polled, polls)
        for each in loops:
            each.cancel()
        await asyncio.wait(loops)
    report(cpu=cpu)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
