"""What `import octoremix` takes, compared with the imports of what it stands on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from figures import Figure
from processes import interleaved, middle

SAMPLES = 15


def measure() -> Iterator[Figure]:
    ours, theirs = ("sample_import.py", "octoremix"), ("sample_import.py", "aiohttp", "cattrs")
    with tempfile.TemporaryDirectory() as folder:
        # All is compiled once, whatever the environment says: an installed package is.
        compiled = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        interleaved(1, ours, theirs, environment=compiled)
        samples = interleaved(SAMPLES, ours, theirs, environment=compiled)
    yield Figure(
        name="import octoremix",
        value=middle(samples[0], "cpu"),
        unit="ms",
        base=middle(samples[1], "cpu"),
        limit=1.25,
    )
