"""A local gateway to test against: the real protocol, no key, no network, no cost.

async with octoremix.testing.Emulator(duration=30.0) as gateway:
    async with octoremix.Session(gateway.api_key, base_url=gateway.url) as session:
        video = await session.remix("video_123", prompt="make it snow")
    assert gateway.books.charged == 1
"""

from ._books import BookedJob, Books, JobRequest
from ._calls import Route
from ._emulator import Emulator
from ._jobs import Outcome

__all__ = ["BookedJob", "Books", "Emulator", "JobRequest", "Outcome", "Route"]
