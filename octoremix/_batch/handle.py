"""What the user of a batch holds."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from ..errors import ConfigurationError
from .engine import Engine
from .values import Outcome

__all__ = ["Batch"]


class Batch(AsyncIterator[Outcome]):
    """The outcomes of many jobs, as they finish.

    It submits only as it is consumed. Leave it early by ``async with``, `aclose` or by forgetting
    it: then nothing more is submitted, and the tasks that run go on, followed by their session
    while that lives; their ids are logged.

    ::

        async with session.map(requests) as batch:
            async for outcome in batch:
                print(outcome.index, outcome.error or outcome.video.url)
    """

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._detached: list[str] = []
        self._closed = False
        self._why: str | None = None

    def __repr__(self) -> str:
        state = "not begun" if self._engine is None else f"holds {self._engine.held} items"
        return f"<Batch: {'closed' if self._closed else state}>"

    @property
    def stopped(self) -> str | None:
        """Why nothing more is bought, or ``None``."""
        return self._why if self._engine is None else self._engine.stopped

    @property
    def pending(self) -> list[str]:
        """The ids of the tasks that are waited for."""
        return [] if self._engine is None else self._engine.ids

    @property
    def detached(self) -> list[str]:
        """The ids of the tasks whose outcomes nobody got when the batch was closed.

        Those that still ran go on, are billed, and stay followed by the session while it lives.
        """
        return list(self._detached)

    def stop(self, why: str = "it was asked to stop") -> None:
        """Buy nothing more: what runs is finished, and the rest ends as `NotSubmittedError`."""
        self._why = self._why or why
        if self._engine is not None:
            self._engine.stop(why)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> Outcome:
        if self._closed:
            raise StopAsyncIteration
        if self._engine is None:
            self._begin()
        assert self._engine is not None
        return await self._engine.next()

    async def aclose(self) -> None:
        """Submit nothing more, and let go of what runs."""
        self._closed = True
        if self._engine is not None:
            self._detached += self._engine.leave()
            await self._engine.aclose()

    def _begin(self) -> None:
        self._engine = engine = self._make_engine()
        if self._why is not None:
            engine.stop(self._why)
        # Nothing that runs refers to this object, so a loop that is left forgets it.
        weakref.finalize(self, _let_go, asyncio.get_running_loop(), engine).atexit = False


def _let_go(loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(engine.leave)


def check_source(requests: object) -> None:
    """Raise unless something can be iterated over.

    Raises:
        ConfigurationError: It can't.
    """
    if isinstance(requests, (str, bytes, dict)) or not (
        hasattr(requests, "__iter__") or hasattr(requests, "__aiter__")
    ):
        raise ConfigurationError(
            "requests must be an iterable or async iterable of RemixRequest or dict, not "
            f"{type(requests).__name__}"
        )
