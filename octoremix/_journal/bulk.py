"""Records of one kind that reach the store together: one statement writes them all.

While SQLite works on a statement, Python's other threads run, and the writer waits for its turn
again. A statement for each record would cost more in such turns than in work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import frozen

from ..errors import JournalError

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Bulk", "Work", "outcomes_of", "padded"]

Work = Callable[["Store"], Any]

_P = TypeVar("_P")
_T = TypeVar("_T")

MOST_ROWS = 64
"""Rows of one statement: a power of two. SQLite may take no more than 999 values in all."""


@frozen
class Bulk(Generic[_P, _T]):
    """Work that is done for many jobs at once, if it comes together.

    Attributes:
        do: Does it for a list of payloads and returns what comes of each: a result, or the error
            that concerns it alone.
        key: The job's. Work on one job is done in its order.
        payload: What ``do`` needs to know of this job.
    """

    do: Callable[[Store, Sequence[_P]], Sequence[_T | JournalError]]
    key: str
    payload: _P

    def __call__(self, store: Store) -> _T:
        """Do it for this job alone.

        Raises:
            JournalError: What came of it.
        """
        (outcome,) = self.do(store, [self.payload])
        if isinstance(outcome, JournalError):
            raise outcome
        return outcome


def outcomes_of(together: Sequence[Work], store: Store) -> list[Any]:
    """Do all of it, and return what comes of each: also an error that concerns it alone.

    All is done in its order, but for `Bulk` work on different jobs: that touches no other's.
    """
    outcomes: dict[int, Any] = {}
    gathered: dict[Any, dict[int, Any]] = {}
    keys: set[str] = set()
    for place, work in enumerate(together):
        bulk = work if isinstance(work, Bulk) else None
        if bulk is None or bulk.key in keys:
            _do(gathered, store, outcomes)
            keys.clear()
        if bulk is None:
            outcomes[place] = _outcome(work, store)
        else:
            gathered.setdefault(bulk.do, {})[place] = bulk.payload
            keys.add(bulk.key)
    _do(gathered, store, outcomes)
    return [outcomes[place] for place in range(len(together))]


def _do(gathered: dict[Any, dict[int, Any]], store: Store, outcomes: dict[int, Any]) -> None:
    """Do what was gathered, by what does it, and note what comes of each by its place."""
    for do, payloads in gathered.items():
        outcomes.update(zip(payloads, do(store, list(payloads.values())), strict=True))
    gathered.clear()


def _outcome(work: Work, store: Store) -> Any:
    try:
        return work(store)
    except JournalError as error:  # a finding about its job; it wrote nothing
        return error


def padded(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield rows in pieces for a statement each, which repeat their last one up to a power of two.

    So there are few different statements, which SQLite prepares once. They must be such that a row
    that comes again does nothing.
    """
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        missing = (1 << (len(some) - 1).bit_length()) - len(some)
        yield [*some, *[some[-1]] * missing]
