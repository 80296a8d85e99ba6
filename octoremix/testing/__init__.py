"""A local gateway to test against: the real protocol, no key, no network, no cost.

async with octoremix.testing.Emulator(duration=30.0) as gateway:
    async with octoremix.Session(gateway.api_key, base_url=gateway.url) as session:
        video = await session.remix("video_123", prompt="make it snow")
    gateway.books.assert_charged_once()
"""

from ._books import BookedJob, Books, JobRequest
from ._calls import Route
from ._emulator import Emulator
from ._fault_kinds import FAULTS, POLL_FAULTS
from ._faults import Fault, Faults
from ._jobs import Outcome
from ._money import Key
from ._profiles import PROFILES
from .threaded import ThreadedEmulator

__all__ = [
    "FAULTS",
    "POLL_FAULTS",
    "PROFILES",
    "BookedJob",
    "Books",
    "Emulator",
    "Fault",
    "Faults",
    "JobRequest",
    "Key",
    "Outcome",
    "Route",
    "ThreadedEmulator",
]
