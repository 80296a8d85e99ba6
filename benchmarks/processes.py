"""Every sample in a fresh process, and the server in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent

Sample = dict[str, Any]

# asyncio reads a socket into a buffer of 256 KiB. Whether glibc gives that back to the system each
# time, at two page faults for a poll, depends on what happens to lie above it: between processes
# with the same code this makes a fifth of a poll's CPU. So here it is kept, in all alike.
HEAP_KEPT = {"MALLOC_TRIM_THRESHOLD_": str(2**26), "MALLOC_MMAP_THRESHOLD_": str(2**26)}


def sample(script: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Sample:
    """Run a script of this folder in a fresh process and return the object that it prints."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=variables)
    result: Sample = json.loads(done.stdout)
    return result


def interleaved(
    count: int, *commands: tuple[object, ...], environment: Mapping[str, str] | None = None
) -> list[list[Sample]]:
    """Run scripts in turn, so many times each: A B A B, so that what disturbs hits them alike."""
    samples: list[list[Sample]] = [[] for _ in commands]
    for _ in range(count):
        for taken, (script, *arguments) in zip(samples, commands, strict=True):
            taken.append(sample(str(script), *arguments, environment=environment))
    return samples


def middle(samples: list[Sample], name: str) -> float:
    """Return the median of one value of the samples."""
    return float(median(each[name] for each in samples))


@contextmanager
def server() -> Iterator[str]:
    """Run the server and give its address."""
    command = [sys.executable, str(HERE / "server.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()  # ends it
