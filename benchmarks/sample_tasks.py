"""Sample: so many tasks followed, polled in the steady state, and closed."""

from __future__ import annotations

import asyncio
import sys
import time

from answers import answer, task_ids
from canned import canned
from pauses import Pauses
from workload import cpu_per_poll, reach, report, saturated

import octoremix
from octoremix._protocol import Request, Response

CHUNK = 100
"""How many tasks are followed before the loop gets a turn."""


async def follow(session: octoremix.Session, ids: list[str]) -> float:
    """Follow the tasks and return the seconds that it takes."""
    following = 0.0
    for start in range(0, len(ids), CHUNK):
        began = time.perf_counter()
        for task_id in ids[start : start + CHUNK]:
            session.track(task_id)
        following += time.perf_counter() - began
        await asyncio.sleep(0)
    return following


async def answer_all(session: octoremix.Session, tasks: int) -> None:
    """Wait until each task has been answered at least once: the steady state."""
    await reach(lambda: session.stats.polls_sent, session.stats.polls_sent + tasks)


def processing(_: Request, task_id: str) -> Response:
    return Response(status=200, headers={}, body=answer(task_id))


async def _main(base_url: str, tasks: int, polls: int) -> None:
    session = octoremix.Session("sk-bench", base_url=base_url, poll=saturated())
    ids = task_ids(tasks)
    with canned(processing):
        with Pauses() as followed:
            following = await follow(session, ids)
        await answer_all(session, tasks)
    cpu = await cpu_per_poll(lambda: session.stats.polls_sent, polls)
    with Pauses() as polled:
        await cpu_per_poll(lambda: session.stats.polls_sent, polls)
    assert session.stats.tasks_followed == tasks
    with Pauses() as closed:
        began = time.perf_counter()
        await session.aclose()
        closing = time.perf_counter() - began
    values = {}
    for name, pauses in {"followed": followed, "polled": polled, "closed": closed}.items():
        values[name] = pauses.longest_of_ours * 1000
        values[f"{name}_all"] = pauses.longest * 1000
    report(follow=following / tasks * 1e6, cpu=cpu, closing=closing, **values)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
