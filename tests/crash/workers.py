"""The processes that the crash tests kill: a nursery, which forks workers as it is told.

A fresh interpreter takes longer to start than a whole round of the test; so one imports the
library once, opens nothing, and forks. It reads one JSON object a line, and writes one when a
worker has begun and when it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from tenacity import wait_fixed

import octoremix

TOLD, OUTCOME = "told", "outcome.json"
"""In a worker's folder: the ids that its callers were told, and what it found in the end."""


def session_of(order: dict[str, Any], **settings: Any) -> octoremix.Session:
    """Return a session with the journal of the folder, and no patience."""
    return octoremix.Session(
        "sk-emulator",
        base_url=order["url"],
        journal=Path(order["folder"], "journal.db"),
        poll=octoremix.PollPolicy(wait=wait_fixed(0.05), first_delay=0.05, stall_after=None),
        submit_concurrency=order["slots"],
        **settings,
    )


async def run(order: dict[str, Any]) -> Any:
    """Buy the jobs and wait for them, all at once; each id is noted when its caller has it."""
    folder = Path(order["folder"])
    told = os.open(folder / TOLD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def remix(number: int) -> None:
        key = f"key-{number}" if order["keys"] else None
        future = await session.submit("video_1", prompt=f"job {number}", key=key)
        os.write(told, f"{future.id}\n".encode())
        await future

    async with session_of(order) as session, asyncio.TaskGroup() as group:
        for number in range(order["jobs"]):
            group.create_task(remix(number))


async def resume(order: dict[str, Any]) -> Any:
    """Take up what was left, wait for it, and submit everything again where there are keys."""
    async with session_of(order) as session:
        futures = await session.resume()
        ended = await asyncio.gather(*futures, return_exceptions=True)
        if order["keys"]:
            ended += await asyncio.gather(
                *(_again(session, number) for number in range(order["jobs"])),
                return_exceptions=True,
            )
        doubts = await session.in_doubt()
        known = await session.history()
    return {
        "resumed": [future.id for future in futures],
        "errors": [repr(error) for error in ended if isinstance(error, BaseException)],
        "doubts": [doubt.request.prompt for doubt in doubts if doubt.request is not None],
        "ids": [entry.id for entry in known if entry.id is not None],
        "states": {entry.key: entry.status for entry in known},
    }


async def _again(session: octoremix.Session, number: int) -> None:
    with contextlib.suppress(octoremix.SubmitOutcomeUnknownError):  # counted among the doubts
        await session.remix("video_1", prompt=f"job {number}", key=f"key-{number}")


async def hold(order: dict[str, Any]) -> Any:
    """Follow what there is to follow, until the file `go` appears; tell what that was."""
    folder = Path(order["folder"])
    async with session_of(order) as session:
        if order["jobs"]:
            future = await session.submit("video_1", prompt="old", key="old")
            (folder / "submitted").touch()
        else:
            before = await session.resume()
            (folder / "looked").write_text(json.dumps([future.id for future in before]))
        while not (folder / order["until"]).exists():
            await asyncio.sleep(0.01)
        if order["jobs"]:
            return {"id": future.id, "done": future.done()}
        after = await session.resume()
        videos = [await future for future in after]
    return {"resumed": [video.id for video in videos]}


WORK = {"run": run, "resume": resume, "hold": hold}


def work(order: dict[str, Any]) -> int:
    """Do one order in this process, and leave its outcome in a file."""
    try:
        outcome = asyncio.run(WORK[order["work"]](order))
    except BaseException:  # noqa: BLE001  # the last frame of the process
        outcome = {"failed": traceback.format_exc()}
    path = Path(order["folder"], order.get("outcome", OUTCOME))
    part = path.with_suffix(".part")
    part.write_text(json.dumps(outcome))
    part.replace(path)
    return 0


def main() -> None:
    """Fork a worker for each line, and tell of its beginning and its end."""

    def tell(**news: int) -> None:
        os.write(1, json.dumps(news).encode() + b"\n")

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            tell(ended=pid, code=os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        # A worker that ends at once must not be told of before it is known.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            os._exit(work(json.loads(line)))
        tell(began=pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


if __name__ == "__main__":
    main()
