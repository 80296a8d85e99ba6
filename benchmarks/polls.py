"""What a poll costs, compared with a bare loop."""

from __future__ import annotations

from collections.abc import Iterator

from figures import Figure
from processes import HEAP_KEPT, interleaved, middle, server

SAMPLES = 11
TASKS = 1000
POLLS = 1500


def measure() -> Iterator[Figure]:
    with server() as url:
        for mode in ("repeats", "changes"):
            arguments = f"{url}/{mode}", TASKS, POLLS
            ours, bare = interleaved(
                SAMPLES,
                ("sample_session.py", *arguments),
                ("sample_bare.py", *arguments),
                environment=HEAP_KEPT,
            )
            yield Figure(
                name=f"CPU of a poll, answer {mode}",
                value=middle(ours, "cpu"),
                unit="µs",
                base=middle(bare, "cpu"),
                limit=1.2,
            )
