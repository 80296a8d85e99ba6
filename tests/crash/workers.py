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
import warnings
from pathlib import Path
from typing import Any, NoReturn

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


async def old(order: dict[str, Any]) -> Any:
    """Buy one job, fork a child if that is wanted, and follow the job until told to end."""
    folder = Path(order["folder"])
    unused = session_of(order)
    async with session_of(order) as session:
        future = await session.submit("video_1", prompt="old", key="old")
        if order.get("fork") and not _fork():
            _as_child(folder, session, unused)
        (folder / "submitted").write_text(future.id)
        await _until(folder / "end-old")
        return {"done": future.done()}


async def new(order: dict[str, Any]) -> Any:
    """Resume beside a process that lives, and once more when told to."""
    folder = Path(order["folder"])
    async with session_of(order) as session:
        before = [future.id for future in await session.resume()]
        (folder / "looked").touch()
        await _until(folder / "look-again")
        videos = [await future for future in await session.resume()]
    return {"before": before, "after": [video.id for video in videos]}


async def tell(order: dict[str, Any]) -> Any:
    """Buy the jobs one after the other, and print the id of each."""
    async with session_of(order) as session:
        for number in range(order["jobs"]):
            future = await session.submit("video_1", prompt="a prompt", key=f"key-{number}-of-it")
            os.write(1, f"told {future.id}\n".encode())


async def _until(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


def _fork() -> int:
    with warnings.catch_warnings():
        # The journal's thread is not in the child, as Python warns: what that means is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _as_child(folder: Path, *sessions: octoremix.Session) -> NoReturn:
    """Try what sessions that were made before the fork can do here, and live on."""
    told = []
    for session in sessions:
        try:
            asyncio.run(session.submit("video_1", prompt="of the child", key="child"))
        except octoremix.OctoremixError as error:
            told.append(type(error).__name__)
        else:
            told.append("bought")
    (folder / "child.part").write_text(json.dumps(told))
    (folder / "child.part").replace(folder / "child")
    while True:
        signal.pause()


WORK = {"run": run, "resume": resume, "old": old, "new": new, "tell": tell}


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
    """Do the one order that was given, or fork a worker for each that comes."""
    if sys.argv[1:]:
        sys.exit(work(json.loads(sys.argv[1])))
    serve()


def serve() -> None:
    """Fork a worker for each line, and tell of its beginning and its end."""

    def news(**facts: int) -> None:
        os.write(1, json.dumps(facts).encode() + b"\n")

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            news(ended=pid, code=os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        # A worker that ends at once must not be told of before it is known.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            os._exit(work(json.loads(line)))
        news(began=pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


if __name__ == "__main__":
    main()
