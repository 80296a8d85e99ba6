"""What a hundred thousand followed tasks cost."""

from __future__ import annotations

from collections.abc import Iterator

from figures import Figure
from processes import HEAP_KEPT, interleaved, middle, sample, server

SAMPLES = 5
MANY = 100_000
FEW = 1_000
POLLS = 4000
LONGEST_PAUSE = 20
"""Milliseconds."""


def measure() -> Iterator[Figure]:
    memory = sample("sample_memory.py", MANY)
    with server() as url:
        address = f"{url}/changes"
        many, few = interleaved(
            SAMPLES,
            ("sample_tasks.py", address, MANY, POLLS),
            ("sample_tasks.py", address, FEW, POLLS),
            environment=HEAP_KEPT,
        )
    yield Figure(
        name="CPU of a poll, 100,000 tasks",
        value=middle(many, "cpu"),
        unit="µs",
        base=middle(few, "cpu"),
        limit=1.2,
    )
    yield Figure(
        name="memory of a followed task",
        value=memory["followed"] / 1024,
        unit="KiB",
        beside=("answered", memory["answered"] / 1024),
        limit=0.9,
    )
    yield Figure(name="following a task", value=middle(many, "follow"), unit="µs", limit=10)
    for phase in ("followed", "polled", "closed"):
        yield Figure(
            name=f"longest pause, {phase}",
            value=middle(many, phase),
            unit="ms",
            beside=("with GC", middle(many, f"{phase}_all")),
            limit=LONGEST_PAUSE,
        )
    yield Figure(name="aclose", value=middle(many, "closing"), unit="s", limit=2)
