"""The emulator in a thread of its own, for tests without an event loop or with any kind of one."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from ._books import Books
from ._emulator import Emulator
from ._fault_kinds import POLL_FAULTS
from ._faults import Fault, Faults

__all__ = ["ThreadedEmulator", "ThreadedFaults"]

P = ParamSpec("P")
T = TypeVar("T")


class ThreadedEmulator:
    """An `Emulator` that a thread serves, on an event loop and a clock of its own.

    ::

        with ThreadedEmulator(duration=0.2) as gateway:
            ...  # gateway.url, gateway.api_key, gateway.books, gateway.faults

    Everything here may be used from any thread. What `Emulator` calls, as ``duration`` and
    ``outcome``, it calls in its own.

    Args:
        **settings: Those of `Emulator`.

    Raises:
        ValueError, TypeError, ImportError: As of `Emulator`.
    """

    def __init__(self, **settings: Any) -> None:
        self._emulator = Emulator(**settings)
        self._faults = ThreadedFaults(self._emulator.faults, self._call)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<ThreadedEmulator of {self._call(repr, self._emulator)}>"

    @property
    def url(self) -> str:
        """See `Emulator.url`."""
        return self._emulator.url

    @property
    def cdn_url(self) -> str:
        """See `Emulator.cdn_url`."""
        return self._emulator.cdn_url

    @property
    def api_key(self) -> str:
        """See `Emulator.api_key`."""
        return self._emulator.api_key

    @property
    def books(self) -> Books:
        """A copy of what it saw until now, which does not change any more; ask again for news."""
        return self._call(_copied, self._emulator.books)

    @property
    def faults(self) -> ThreadedFaults:
        """What goes wrong; it may be changed at any time."""
        return self._faults

    def forget_unfinished(self) -> None:
        """See `Emulator.forget_unfinished`."""
        self._call(self._emulator.forget_unfinished)

    def start(self) -> Self:
        """Begin to listen.

        Raises:
            RuntimeError: if it already does.
            OSError: if the address can't be had.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is already started")
        started: Future[None] = Future()
        thread = threading.Thread(
            target=self._run, args=(started,), name="octoremix-emulator", daemon=True
        )
        thread.start()
        try:
            started.result()
        except BaseException:
            thread.join()
            raise
        self._thread = thread
        return self

    def stop(self) -> None:
        """Stop listening; safe to call twice. `start` brings the same gateway back."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        thread.join()

    def _run(self, started: Future[None]) -> None:
        # Not a loop of the policy's: that may be one of a test's own, with a clock that jumps.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: Future[None]) -> None:
        try:
            await self._emulator.start()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            started.set_exception(error)
            return
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        started.set_result(None)
        await self._stop.wait()
        await self._emulator.aclose()

    def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it where nothing changes meanwhile: in the gateway's thread, while there is one."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return function(*args, **kwargs)

        async def call() -> T:
            return function(*args, **kwargs)

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class ThreadedFaults:
    """The plan of a `ThreadedEmulator`: as `Faults`, from any thread."""

    def __init__(self, faults: Faults, call: Callable[..., Any]) -> None:
        self._faults = faults
        self._call = call

    @property
    def hits(self) -> Counter[str]:
        """A copy of how often each fault struck until now, by its name."""
        hits: Counter[str] = self._call(self._faults.hits.copy)
        return hits

    def add(self, name: str | Fault, **settings: Any) -> Fault:
        """See `Faults.add`."""
        fault: Fault = self._call(self._faults.add, name, **settings)
        return fault

    def mix(
        self, names: Iterable[str] = POLL_FAULTS, *, rate: float, seed: int = 0, **settings: Any
    ) -> None:
        """See `Faults.mix`."""
        self._call(self._faults.mix, names, rate=rate, seed=seed, **settings)

    def remove(self, fault: Fault) -> None:
        """See `Faults.remove`."""
        self._call(self._faults.remove, fault)

    def clear(self) -> None:
        """See `Faults.clear`."""
        self._call(self._faults.clear)


def _copied(books: Books) -> Books:
    """A copy that nothing else knows; the refunds are those of now."""
    refunded = books.refunded
    copied = copy.deepcopy(books)
    copied._count_refunds = lambda: refunded
    return copied
