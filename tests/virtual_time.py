"""An event loop whose clock jumps over every pause, for tests that would otherwise wait.

`VirtualTimeLoop` runs real coroutines over real sockets, but `loop.time()` is a number that it
keeps itself. When nothing is ready and a timer is pending, the loop doesn't sleep until the timer
is due: it sets the clock to that moment. An hour of polling passes in milliseconds, in the order
in which it would really have passed.

The clock may only jump when nothing else can happen first, so three things hold it back:

- **Bytes on their way.** A client and a server of one loop talk over loopback. The kernel nearly
  always delivers before `send` returns, but it promises nothing. Before each jump the loop sends
  datagrams to itself and waits for them: they queue behind whatever was sent before.
- **Work in threads.** While a job given to `run_in_executor` (so also `asyncio.to_thread` and
  name look-ups) is unfinished, the loop really waits. Virtual time stands still, and when a
  second passes without any event it follows real time, so that a thread that itself waits for a
  timer of the loop is served in the end.
- **`hold()`**, for what the loop can't see: a subprocess, a thread that was started by hand, a
  server in another thread.

Only the loop's clock is virtual. `time.time()`, `time.monotonic()` and `datetime.now()` are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

STILLNESS = 1.0
"""Real seconds without an event after which a held clock follows real time."""

# A connection is made in two steps of the kernel's before either side sees it: the datagrams of
# the second round queue behind the answer that the first step produced.
_ROUNDS = 2


class _Loopback:
    """Tells when everything that was sent over loopback so far has arrived."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())
        # A lost datagram must not hang the loop: so long a wait is as good as its arrival.
        self._socket.settimeout(1.0)

    def settle(self) -> None:
        self._socket.send(b".")
        with contextlib.suppress(TimeoutError):
            self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()


class _JumpingSelector(selectors.DefaultSelector):
    """Waits by moving `now`, unless it is `held`."""

    def __init__(self, stillness: float) -> None:
        super().__init__()
        self.now = 0.0
        self.held = 0
        self._stillness = stillness
        self._loopback = _Loopback()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None:
            # No timer to jump to: only a socket, a signal or another thread can go on.
            return super().select(None)
        if self.held:
            events = super().select(self._stillness)
            if not events:
                self.now += min(timeout, self._stillness)
            return events
        for _ in range(_ROUNDS):
            self._loopback.settle()
            if events := super().select(0):
                return events
        self.now += timeout
        return []

    def close(self) -> None:
        self._loopback.close()
        super().close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector event loop with a virtual clock that starts at 0.

    Args:
        stillness: Real seconds without an event after which a held clock follows real time.
    """

    def __init__(self, *, stillness: float = STILLNESS) -> None:
        self._jumping = _JumpingSelector(stillness)
        super().__init__(self._jumping)
        self._threads: Executor
        self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))

    def time(self) -> float:
        return self._jumping.now

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the clock from jumping: for work that the loop can't see."""
        self._jumping.held += 1
        try:
            yield
        finally:
            self._jumping.held -= 1

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        super().set_default_executor(executor)
        self._threads = executor

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        job = (executor or self._threads).submit(func, *args)
        self._jumping.held += 1
        # The order matters. A job's callbacks run in the order in which they were added, in its
        # thread: the result is handed to the loop first, and only then is the clock let go.
        # It is let go when the thread is done, which for a cancelled future is later.
        future = asyncio.wrap_future(job, loop=self)
        job.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        # Called in the job's thread. A loop that was closed meanwhile has no clock to let go.
        with contextlib.suppress(RuntimeError):
            self.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self._jumping.held -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        # Newer Pythons join the threads under a timeout of the loop's, which would jump.
        with self.hold():
            await super().shutdown_default_executor(*args, **kwargs)
