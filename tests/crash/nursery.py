"""The tests' side of the processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

from attrs import define, field

from .workers import OUTCOME

ROOT = Path(__file__).parents[2]


@define(eq=False)
class Worker:
    """One process.

    Attributes:
        pid: Its number.
        ended: Its exit code when it has ended, negative for a signal.
    """

    pid: int
    folder: Path
    outcome_name: str
    ended: asyncio.Future[int] = field(repr=False)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):  # its end is on its way here
                os.kill(self.pid, signal.SIGKILL)

    async def outcome(self) -> Any:
        """Wait for its end and return what it found."""
        code = await self.ended
        assert code == 0, f"the worker ended with {code}"
        found = json.loads((self.folder / self.outcome_name).read_text())
        assert found is None or "failed" not in found, found["failed"]
        return found


@define(eq=False)
class Nursery:
    """Starts workers by a process that has imported the library; ends them when it is left."""

    _process: asyncio.subprocess.Process = field(init=False)
    _reading: asyncio.Task[None] = field(init=False)
    _begun: asyncio.Queue[int] = field(factory=asyncio.Queue, init=False)
    _workers: dict[int, Worker] = field(factory=dict, init=False)
    _starting: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "tests.crash.workers"),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        # All of them at once, and those that nobody has been told of yet.
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def start(
        self, work: str, folder: Path, *, outcome: str = OUTCOME, **order: Any
    ) -> Worker:
        """Start a worker; see `workers.WORK`."""
        order |= {"work": work, "folder": str(folder), "outcome": outcome}
        async with self._starting:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            ended = asyncio.get_running_loop().create_future()
            pid = await self._begun.get()
            worker = Worker(pid, folder, outcome, ended)
            self._workers[pid] = worker
            return worker

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            news = json.loads(line)
            if "began" in news:
                self._begun.put_nowait(news["began"])
            else:
                # One that ended at once is told of before its starter has taken its number.
                while news["ended"] not in self._workers:
                    await asyncio.sleep(0)
                self._workers.pop(news["ended"]).ended.set_result(news["code"])
