"""Sample: the memory of so many tasks, when they are followed and when each was answered once."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc

from answers import task_ids
from canned import canned
from sample_tasks import answer_all, processing
from workload import report, saturated

import octoremix


async def _main(tasks: int) -> None:
    with canned(processing):
        async with octoremix.Session("sk-bench", poll=saturated()) as session:
            gc.collect()
            tracemalloc.start()
            # Their ids count: a session keeps those that the gateway gave.
            for task_id in task_ids(tasks):
                session.track(task_id)
            followed = _traced()
            await answer_all(session, tasks)
            answered = _traced()
            tracemalloc.stop()
    report(followed=followed / tasks, answered=answered / tasks)


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
