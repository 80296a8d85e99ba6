"""A session that a fixture can make, which need not know the event loop of its test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from .. import Session


class LoopSession(Session):
    """A session that is closed at the latest when the event loop of its first use ends.

    Whether a fixture is torn down before or after the test's loop is up to the plugin that runs
    the test. All of them, and `asyncio.run`, end the loop's asynchronous generators before they
    close it; so the session hangs on one.
    """

    _guard: AsyncGenerator[None] | None = None

    def finish(self) -> None:
        """Close it where its loop still can: one that is shared with later tests."""
        guard, loop = self._guard, self._loop
        if guard is None or loop is None or loop.is_closed() or loop.is_running():
            return
        loop.run_until_complete(guard.aclose())

    def _bind(self) -> asyncio.AbstractEventLoop:
        loop = super()._bind()
        if self._guard is None:
            self._guard = self._guarding()
            # The first step, which awaits nothing, is what makes the generator known to the loop.
            with contextlib.suppress(StopIteration):
                self._guard.__anext__().send(None)
        return loop

    async def _guarding(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.aclose(grace=0)
