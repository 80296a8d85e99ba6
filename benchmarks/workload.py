"""What the samples have in common: how they poll, and how their polls are counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import octoremix

IN_FLIGHT = 16
WARM_UP = 500


def saturated() -> octoremix.PollPolicy:
    """Return the default policy with pauses so short that always something is due."""
    pause = octoremix.PollPolicy().wait
    return octoremix.PollPolicy(
        wait=lambda state: pause(state) / 1000, first_delay=0, concurrency=IN_FLIGHT
    )


async def cpu_per_poll(polled: Callable[[], int], polls: int) -> float:
    """Return the µs of this process's CPU, user and system, that each of so many polls takes.

    Args:
        polled: Tells how many polls there were so far.
        polls: How many to measure, after a warm-up.
    """
    await reach(polled, polled() + WARM_UP)
    began, cpu = polled(), time.process_time()
    await reach(polled, began + polls)
    cpu = time.process_time() - cpu
    return cpu / (polled() - began) * 1e6


async def reach(polled: Callable[[], int], count: int) -> None:
    """Wait until there were so many polls."""
    while polled() < count:  # noqa: ASYNC110  # an event at each poll would be measured too
        await asyncio.sleep(0.005)


def report(**values: float) -> None:
    """Print what a sample has to tell."""
    print(json.dumps(values))
