"""A small server on loopback that answers polls and submits; ended by its stdin's end.

Below ``/repeats`` the answer about a task is always the same, below ``/changes`` its progress is
another one at every poll. A submit is accepted at once, whatever it asks for.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter

from aiohttp import web
from answers import answer

_polls: Counter[str] = Counter()
_accepted = itertools.count()


async def _handle(request: web.BaseRequest) -> web.Response:
    if request.method == "POST":
        await request.read()
        body = answer(f"video_{next(_accepted):08x}", "queued")
        return web.Response(body=body, content_type="application/json")
    _, mode, _, _, task_id = request.path.split("/")
    if mode == "changes":
        _polls[task_id] += 1
    body = answer(task_id, progress=_polls[task_id] % 100)
    return web.Response(body=body, content_type="application/json")


async def _serve() -> None:
    runner = web.ServerRunner(web.Server(_handle), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
