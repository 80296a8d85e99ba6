"""What a session promises is on the disk before, as the system calls of a run show."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen

from octoremix.testing import Emulator

from ..programs import find_program
from .nursery import ROOT

JOBS = 3

CALLS = "trace=write,pwrite64,fsync,fdatasync,sendto,sendmsg,writev"

# "PID call(3</path>, …", and the end of a call that was interrupted by another thread's.
_BEGUN = re.compile(r"\d+ +(?P<call>\w+)\(\d+<(?P<file>[^>]*)>(?P<rest>.*)")
_RESUMED = re.compile(r"\d+ +<\.\.\. (?P<call>\w+) resumed>")


@frozen
class Call:
    """One moment of a trace.

    Attributes:
        kind: ``"log"`` for a write to the write-ahead log, ``"sync"`` for a sync of it that has
            ended, ``"post"`` for one that begins to leave, ``"told"`` for an id that is printed.
        content: What was written.
    """

    kind: str
    content: str


def read_trace(text: str) -> list[Call]:
    """Return what counts of a trace, in its order: writes as they begin, syncs as they end."""
    calls: list[Call] = []
    for line in text.splitlines():
        if resumed := _RESUMED.match(line):
            if resumed["call"] in {"fsync", "fdatasync"}:
                calls.append(Call("sync", ""))
        elif begun := _BEGUN.match(line):
            rest = begun["rest"]
            if begun["call"] in {"fsync", "fdatasync"}:
                if begun["file"].endswith("-wal") and "<unfinished" not in rest:
                    calls.append(Call("sync", ""))
            elif begun["file"].endswith("-wal"):
                calls.append(Call("log", rest))
            elif '"POST /v1/videos/' in rest:
                calls.append(Call("post", rest))
            elif '"told ' in rest:
                calls.append(Call("told", rest))
    return calls


def assert_synced(before: list[Call], content: str) -> None:
    """Fail unless something was written to the log, and all of the log was synced after it."""
    last = max(at for at, call in enumerate(before) if call.kind == "log")
    assert any(content in call.content for call in before[: last + 1]), f"{content}: never written"
    assert any(call.kind == "sync" for call in before[last:]), f"{content}: written, not synced"


@pytest.mark.needs("strace")
@pytest.mark.asyncio(loop_factories=["real"])
async def test_each_promise_is_synced_before_it_is_given(tmp_path: Path) -> None:
    """The intent is on the disk when the POST leaves, and the id when its caller has it."""
    strace = find_program("strace")
    assert strace is not None
    if subprocess.run([strace, "-o", tmp_path / "try", "true"], check=False).returncode:
        pytest.skip("strace is not allowed to trace here")
    trace = tmp_path / "trace"
    async with Emulator(duration=3600) as gateway:
        order = {"work": "tell", "folder": str(tmp_path), "url": gateway.url, "jobs": JOBS}
        process = await asyncio.create_subprocess_exec(
            *(strace, "-f", "-y", "-s", "20000", "-e", CALLS, "-o", trace),
            *(sys.executable, "-m", "tests.crash.workers", json.dumps({**order, "slots": 1})),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        ids = [job.id for job in gateway.books.jobs]
    assert told.decode().split() == [word for task_id in ids for word in ("told", task_id)]
    calls = read_trace(trace.read_text(errors="replace"))
    posts = [at for at, call in enumerate(calls) if call.kind == "post"]
    tellings = [at for at, call in enumerate(calls) if call.kind == "told"]
    assert len(posts) == len(tellings) == JOBS
    for number, (post, telling) in enumerate(zip(posts, tellings, strict=True)):
        assert_synced(calls[:post], f"key-{number}-of-it")
        assert_synced(calls[post:telling], ids[number])
