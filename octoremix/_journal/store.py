"""What is written and read, one method for each step of a job. All of it blocks.

Every method is one part of a transaction that the caller opens; none of them commits.
"""

from __future__ import annotations

from .settling import Settling
from .steps import Steps

__all__ = ["Store"]


class Store(Steps, Settling):
    """All that one owner does with a journal, in one thread."""
