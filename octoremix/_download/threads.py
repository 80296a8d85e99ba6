"""Work that blocks, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread"]

_T = TypeVar("_T")


async def in_thread(work: Callable[..., _T], *args: object) -> _T:
    """Run in a thread and stay until it is done, also when cancelled: a thread can't be stopped."""
    job = asyncio.get_running_loop().run_in_executor(None, work, *args)
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        job.exception()  # is looked at, for nobody else will
        raise cancelled
    return job.result()
