"""The sleep of the poller's runner."""

from __future__ import annotations

import asyncio
import math

import pytest

from octoremix._alarm import Alarm


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_it_sleeps_until_its_time() -> None:
    """A sleep ends when it should, and one whose time has passed gives the loop a turn."""
    alarm = Alarm()
    await alarm.sleep_until(now() + 10)
    assert now() == pytest.approx(10)
    await alarm.sleep_until(5)
    assert now() == pytest.approx(10)


async def test_it_can_be_woken() -> None:
    """A sleep without end, as any other, is ended by whoever wakes the sleeper."""
    alarm = Alarm()
    asyncio.get_running_loop().call_later(3, alarm.wake)
    await alarm.sleep_until(math.inf)
    assert now() == pytest.approx(3)
    alarm.wake()  # nobody sleeps


async def test_an_earlier_time_takes_the_place_of_a_later_one() -> None:
    """Of two sleeps the second may end before the first would have, and a later one is only early."""
    alarm = Alarm()
    asyncio.get_running_loop().call_later(1, alarm.wake)
    await alarm.sleep_until(100)
    await alarm.sleep_until(20)
    assert now() == pytest.approx(20)
    asyncio.get_running_loop().call_later(1, alarm.wake)
    await alarm.sleep_until(30)
    await alarm.sleep_until(math.inf)
    assert now() == pytest.approx(30)


async def test_waking_by_a_time_leaves_an_earlier_end_alone() -> None:
    """Who wants the sleep to end by a time wakes it only if it would last longer."""
    alarm = Alarm()
    loop = asyncio.get_running_loop()
    loop.call_later(1, alarm.wake_by, 50)
    loop.call_later(2, alarm.wake_by, 5)
    await alarm.sleep_until(10)
    assert now() == pytest.approx(2)


async def test_a_cancelled_alarm_leaves_no_timer() -> None:
    """After `cancel` nothing of it is left in the loop."""
    alarm = Alarm()
    asyncio.get_running_loop().call_later(1, alarm.wake)
    await alarm.sleep_until(1000)
    alarm.cancel()
    alarm.cancel()
    asyncio.get_running_loop().call_later(5, alarm.wake)
    await alarm.sleep_until(math.inf)
    assert now() == pytest.approx(6)
