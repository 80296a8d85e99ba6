"""What the page of a large batch costs: its size, and the time until it can be used."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from figures import Figure
from processes import middle, sample

SAMPLES = 5
JOBS = 5_000


def measure() -> Iterator[Figure]:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("page: not measured, for there is no chromium", file=sys.stderr)
        return
    samples = [sample("sample_page.py", JOBS, chromium) for _ in range(SAMPLES)]
    for name, value, limit, unit in (
        ("page of 5,000 jobs", "megabytes", 10, "MB"),
        ("until it shows jobs", "shown", 2, "s"),
        ("until a search has found", "found", 2, "s"),
    ):
        yield Figure(name=name, value=middle(samples, value), unit=unit, limit=limit)
