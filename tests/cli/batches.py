"""What tests of batches in processes of their own have in common."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

BATCH = ("batch", "list.jsonl", "--poll-every", "1")
BUY = ("--yes", "--poll-every", "1")


def until(process: subprocess.Popen[str], what: Callable[[], bool]) -> None:
    """Wait until something is so, while a process lives."""
    until = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def line_with(stream: Any, text: str) -> str:
    """The next line that holds a text."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"no line with {text!r}")


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
