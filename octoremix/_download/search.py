"""The places of one result, tried in turn."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState

from ..errors import (
    APIConnectionError,
    APIError,
    DownloadError,
    OctoremixError,
    TooLargeError,
    printable,
    quoted,
)
from ..models import TaskStatus, Video
from ..policies import RetryPolicy, Sleep, retrying
from .answer import EXPIRED
from .failures import is_busy, is_passing, wait_after
from .links import Place, place_of, shown

__all__ = ["Search"]

log = logging.getLogger("octoremix")

_T = TypeVar("_T")


class Search:
    """Looks for a place that serves.

    The link comes first; where it has expired, the link that one more query tells; the gateway's
    own ``/content`` last. A server that is busy is asked again before the next place is; one that
    can't be reached, only when the others have failed, too. No place is asked more often than the
    policy says.

    Args:
        video: The result.
        content: The gateway's own place.
        retrieve: Asks for the task once more.
        policy: How often, and after which pauses.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        video: Video,
        content: Place,
        retrieve: Callable[[str], Awaitable[Video]],
        policy: RetryPolicy,
        sleep: Sleep,
    ) -> None:
        link = place_of(video)
        self._id = video.id
        self._content = content
        self._places = [content] if link is None or link.is_same(content) else [link, content]
        self._retrieve = retrieve
        self._policy = policy
        self._sleep = sleep
        self._may_refresh = True

    async def run(self, use: Callable[[Place], Awaitable[_T]]) -> _T:
        """Return what the use of the first place that serves gives.

        Raises:
            OctoremixError: None does; where one may do later, its failure is the one raised.
        """
        attempts = self._retrying(lambda error: is_passing(error) and bool(self._places))
        return await attempts(self._pass, use)

    async def _pass(self, use: Callable[[Place], Awaitable[_T]]) -> _T:
        failures: list[OctoremixError] = []
        waiting = list(self._places)
        while waiting:
            place = waiting.pop(0)
            try:
                return await self._patiently(use, place)
            except (APIConnectionError, APIError, DownloadError) as error:
                error.id = self._id
                if isinstance(error, TooLargeError) or isinstance(error.__cause__, OSError):
                    raise  # the video's own fault or the disk's, which no other place mends
                failure = error
            failures.append(failure)
            log.debug(
                "the video of task %s was not to be had from %s: %s",
                quoted(self._id),
                printable(shown(place.url)),
                failure,
            )
            if not is_passing(failure) or self._is_used_up(place):
                self._places.remove(place)
            fresh = await self._fresh(place, failure)
            if fresh is not None:
                waiting.insert(0, fresh)
                self._places.insert(0, fresh)
        told = next(filter(is_passing, failures), failures[-1])
        for other in failures:
            if other is not told:
                told.add_note(f"before or after that: {other}")
        raise told

    async def _patiently(self, use: Callable[[Place], Awaitable[_T]], place: Place) -> _T:
        async def once() -> _T:
            place.tries += 1
            return await use(place)

        attempts = self._retrying(lambda error: is_busy(error) and not self._is_used_up(place))
        return await attempts(once)

    def _retrying(self, may_be_repeated: Callable[[BaseException], bool]) -> AsyncRetrying:
        return retrying(self._policy, may_be_repeated, self._wait, self._sleep)

    def _wait(self, state: RetryCallState) -> float:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert error is not None
        return wait_after(self._policy, error)(state)

    def _is_used_up(self, place: Place) -> bool:
        return place.spent or place.tries >= self._policy.attempts

    async def _fresh(self, place: Place, failure: OctoremixError) -> Place | None:
        """Return the new link in the place of one that has expired, if there is one."""
        expired = getattr(failure, "status", None) in EXPIRED and place is not self._content
        if not expired or not self._may_refresh:
            return None
        self._may_refresh = False
        try:
            video = await self._retrieve(self._id)
        except (APIConnectionError, APIError) as error:
            log.debug("no new link for task %s: %s", quoted(self._id), error)
            return None
        fresh = place_of(video) if video.status is TaskStatus.COMPLETED else None
        known = fresh is None or any(fresh.is_same(each) for each in (place, self._content))
        return None if known else fresh
