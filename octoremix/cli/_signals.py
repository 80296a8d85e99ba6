"""Ctrl-C and SIGTERM, brought into the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

__all__ = ["caught"]

_CAUGHT = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def caught(handle: Callable[[int], None]) -> Iterator[None]:
    """Call ``handle`` in the event loop with the number of each signal that asks us to stop.

    A signal that is ignored stays so, as that of a job in a shell's background.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        for number in _CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                stack.callback(_install(loop, number, handle))
        yield


def _install(
    loop: asyncio.AbstractEventLoop, number: int, handle: Callable[[int], None]
) -> Callable[[], Any]:
    """Catch one signal; return what ends that."""
    try:
        loop.add_signal_handler(number, handle, number)
    except (NotImplementedError, RuntimeError, ValueError):
        pass
    else:
        return partial(loop.remove_signal_handler, number)
    # Windows' event loops have none of their own; waking the loop is the handler's job there.
    try:
        before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(handle, number))
    except ValueError:  # not the main thread, where no signal arrives
        return lambda: None
    return partial(signal.signal, number, before)
