"""Sample: so many jobs through one session in waves, and the memory that is left after each."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
from array import array
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from answers import answer
from canned import canned
from workload import saturated

import octoremix
from octoremix._protocol import Request, Response

WAVE = 10_000

_numbers = itertools.count()
_polled: set[str] = set()


def gateway(request: Request, task_id: str) -> Response:
    """Answer a submit with a new task, and a poll with one of the ends that a task may have."""
    if request.method == "POST":
        accepted = answer(f"video_{next(_numbers)}", status="queued")
        return Response(status=200, headers={}, body=accepted)
    number = int(task_id.rpartition("_")[2])
    if number % 10 < 3 and task_id not in _polled:  # not yet, or not answered
        _polled.add(task_id)
        if number % 10 == 0:
            return Response(status=502, headers={}, body=b"<html>bad gateway</html>")
        return Response(status=200, headers={}, body=answer(task_id))
    _polled.discard(task_id)
    end = "failed" if number % 10 == 5 else "completed"
    return Response(status=200, headers={}, body=answer(task_id, status=end))


async def wave(session: octoremix.Session) -> None:
    """Buy some jobs, track the others, and wait for all in one way or another."""
    waits: list[Coroutine[Any, Any, object]] = []
    for number in range(WAVE):
        if number % 20 == 0:
            future = await session.submit("video_123", prompt="make it snow")
        else:
            future = session.track(f"video_{next(_numbers)}")
        if number % 100 == 50:
            future.detach()
        elif number % 4 == 0:
            waits.append(future.wait(timeout=3600))
        elif number % 4 == 1:
            waits.append(last_update(future))
    await asyncio.gather(*waits, return_exceptions=True)
    while session.pending:  # noqa: ASYNC110  # many of them are watched by nobody
        await asyncio.sleep(0.001)


async def last_update(future: octoremix.RemixFuture) -> None:
    async for _ in future.updates():
        pass


async def _main(waves: int) -> None:
    blocks, resident = array("q"), array("q")  # which hold no objects of their own
    with canned(gateway):
        async with octoremix.Session("sk-bench", poll=saturated()) as session:
            for _ in range(waves):
                await wave(session)
                _polled.clear()  # of those that were detached
                await asyncio.sleep(0.01)  # asyncio lets go of what just ended in its next rounds
                gc.collect()
                blocks.append(sys.getallocatedblocks())
                resident.append(_resident())
    print(json.dumps({"blocks": list(blocks), "resident": list(resident)}))


def _resident() -> int:
    """Return the bytes of this process that are in memory, or 0 where that is not told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
