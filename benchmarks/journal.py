"""What the journal costs: in submits per second, in a submit's time, and in pauses of the loop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Figure
from processes import HEAP_KEPT, Sample, middle, sample, server

SAMPLES = 5
TOGETHER, SUBMITS = 200, 2000
ALONE = 200
"""Submits one after the other, whose time is compared with that of the disk."""

SLOTS = 16
"""At a time while the disk is slow: the default of a session."""


def measure() -> Iterator[Figure]:
    with server() as url, tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        address = f"{url}/submits"
        yield _rate(address, folder)
        yield _median(address, folder)
        slow, fast = (_lag(address, folder, wait) for wait in (0.05, 0))
    yield Figure(
        name="lag of the loop, disk of 50 ms",
        value=slow["p99"],
        unit="ms",
        beside=("of 0 ms", fast["p99"]),
        limit=5,
    )


def _lag(url: str, folder: str, wait: float) -> Sample:
    arguments = url, _fresh(folder), SLOTS, 60 * SLOTS, wait
    return sample("sample_slow_disk.py", *arguments, environment=HEAP_KEPT)


def _rate(url: str, folder: str) -> Figure:
    pairs = []
    for _ in range(SAMPLES):
        bare = 1e6 / _submits(url, "", TOGETHER, SUBMITS)["rate"]
        kept = 1e6 / _submits(url, _fresh(folder), TOGETHER, SUBMITS)["rate"]
        pairs.append((kept / bare, kept, bare))
    _, kept, bare = sorted(pairs)[SAMPLES // 2]
    # A rate of at least 0.8 times is a time of at most 1.25 times.
    return Figure(
        name="a submit of 200, with a journal", value=kept, unit="µs", base=bare, limit=1.25
    )


def _median(url: str, folder: str) -> Figure:
    bare: list[Sample] = []
    kept: list[Sample] = []
    disk: list[Sample] = []
    for _ in range(SAMPLES):
        disk.append(sample("sample_disk.py", folder))
        bare.append(_submits(url, "", 1, ALONE))
        kept.append(_submits(url, _fresh(folder), 1, ALONE))
    sync = middle(disk, "sync")
    return Figure(
        name="a submit alone, longer by",
        value=middle(kept, "median") - middle(bare, "median"),
        unit="ms",
        beside=("a sync", sync),
        limit=2.5 * sync + 1,
    )


def _submits(url: str, folder: str, together: int, count: int) -> Sample:
    return sample("sample_submits.py", url, folder, together, count, environment=HEAP_KEPT)


def _fresh(folder: str) -> str:
    """Return a new folder in another, for a journal without a past."""
    return tempfile.mkdtemp(dir=folder)
