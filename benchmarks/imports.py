"""What `import octoremix` takes, compared with the imports of what it stands on."""

from __future__ import annotations

from collections.abc import Iterator

from figures import Figure
from processes import interleaved, middle

SAMPLES = 15


def measure() -> Iterator[Figure]:
    ours, theirs = ("sample_import.py", "octoremix"), ("sample_import.py", "aiohttp", "cattrs")
    interleaved(1, ours, theirs)  # so that all is compiled and in the page cache
    samples = interleaved(SAMPLES, ours, theirs)
    yield Figure(
        name="import octoremix",
        value=middle(samples[0], "cpu"),
        unit="ms",
        base=middle(samples[1], "cpu"),
        limit=1.25,
    )
