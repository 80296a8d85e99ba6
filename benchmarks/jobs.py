"""What a million jobs through one session leave in memory."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from figures import Figure
from processes import sample

WAVES = 100
STEADY = 5
"""Waves at either end whose median is taken."""


def measure() -> Iterator[Figure]:
    memory = sample("sample_jobs.py", WAVES)
    yield _grown("blocks after 1,000,000 jobs", memory["blocks"], 1000, "k", limit=1.01)
    if all(memory["resident"]):
        yield _grown("resident, after 1,000,000 jobs", memory["resident"], 2**20, "MiB", limit=1.05)


def _grown(name: str, values: list[int], scale: int, unit: str, *, limit: float) -> Figure:
    """Compare the last waves with the first; the very first, which warms up, is left out."""
    first, last = median(values[1 : 1 + STEADY]), median(values[-STEADY:])
    return Figure(name=name, value=last / scale, unit=unit, base=first / scale, limit=limit)
