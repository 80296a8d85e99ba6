"""What a process that was killed in the middle of its downloads left in a batch's folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["remove_leftovers"]

# The begin of the target's name, as many characters as a download keeps of it.
_PART = re.compile(r"(.{1,50})\.[0-9a-f]{8}\.part")


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove the unfinished files of downloads that nobody goes on with; it blocks.

    Args:
        folder: The batch's, in which no other process is at work.
        names: The files that the batch's videos are saved as; what begins otherwise is not its own.
    """
    begins = {name[:50] for name in names}
    with contextlib.suppress(OSError):  # they take room, and do no other harm
        for file in folder.iterdir():
            found = _PART.fullmatch(file.name)
            if found is not None and found[1] in begins:
                file.unlink()
