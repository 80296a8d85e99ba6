"""How many jobs a batch may still pay for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from attrs import define, field

__all__ = ["Budget", "Paid"]

Paid = Callable[[Sequence[str]], Awaitable[int]]
"""Tells how many jobs of some keys were paid for before."""


@define(eq=False, repr=False)
class Budget:
    """What ``max_jobs`` leaves, with what earlier runs have used.

    A job holds its place while it is being bought, also while it is put back, so that a refusal
    leaves the place to another.

    Args:
        left: The most jobs, or ``None`` for any number.
        paid: Tells what was paid for before; ``None`` without a journal.
    """

    _left: int | None
    _paid: Paid | None
    _held: int = field(init=False, default=0)
    _counted: set[str] = field(init=False, factory=set)
    _counting: asyncio.Lock = field(init=False, factory=asyncio.Lock)
    _taking: asyncio.Lock = field(init=False, factory=asyncio.Lock)
    _changed: asyncio.Event = field(init=False, factory=asyncio.Event)

    def __repr__(self) -> str:
        return f"<Budget of {self._left} jobs, {self._held} being bought>"

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._left is not None

    async def count(self, keys: Iterable[str | None]) -> None:
        """Count what was paid for before under these keys, each once.

        Raises:
            JournalError: The journal can't be read.
        """
        if self._left is None or self._paid is None:
            return
        async with self._counting:  # so that nobody goes on before what it asks for is counted
            new = [key for key in dict.fromkeys(keys) if key is not None]
            new = [key for key in new if key not in self._counted]
            if new:
                paid = await self._paid(new)
                self._left -= paid  # of what is left by now, for others take meanwhile
                self._counted.update(new)

    async def take(self) -> bool:
        """Hold a place for a job, and return whether there was one.

        While all are held, it waits for what becomes of them. Who comes first is served first, so
        that it is the beginning of the input that is paid for, and the next run finds it there.
        """
        if self._left is None:
            return True
        async with self._taking:
            while self._left <= 0:
                if not self._held:
                    return False
                self._changed.clear()
                await self._changed.wait()
            self._left -= 1
            self._held += 1
            return True

    def settle(self, *, spent: bool) -> None:
        """Let go of a place; it is used up if a job was paid for, or may have been."""
        if self._left is None:
            return
        self._held -= 1
        if not spent:
            self._left += 1
        self._changed.set()
