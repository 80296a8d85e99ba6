"""What a million jobs through one session leave in memory."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from figures import Figure
from processes import sample

WAVES = 100
WARM_UP = 10
"""Waves after which the allocator has its arenas and caches are full."""

STEADY = 5
"""Waves whose median is taken, then and at the end."""


def measure() -> Iterator[Figure]:
    memory = sample("sample_jobs.py", WAVES)
    yield _grown("blocks after 1,000,000 jobs", memory["blocks"], 1000, "k", limit=1.01)
    if all(memory["resident"]):
        yield _grown("resident, after 1,000,000 jobs", memory["resident"], 2**20, "MiB", limit=1.05)


def _grown(name: str, values: list[int], scale: int, unit: str, *, limit: float) -> Figure:
    """Compare the last waves with those after the warm-up."""
    first, last = median(values[WARM_UP : WARM_UP + STEADY]), median(values[-STEADY:])
    return Figure(name=name, value=last / scale, unit=unit, base=first / scale, limit=limit)
