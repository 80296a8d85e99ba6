"""How a task goes: the usual route, and the older one where the usual can't be believed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Protocol

from ._protocol import API, Request, Response, read_task, read_usage
from ._wire import Reading
from .errors import (
    APIConnectionError,
    APIError,
    OctoremixError,
    RateLimitError,
    ServerError,
    quoted,
)
from .models import KeyUsage, TaskStatus, Video
from .policies import RetryPolicy, retrying

__all__ = ["Queries", "may_be_repeated"]

log = logging.getLogger("octoremix")

_RECORD_TIMEOUT = 10.0
_MARGIN = 0.5
"""Seconds that a look at the older route may take, and that it leaves of a poll's time."""

_PASSING = (APIConnectionError, RateLimitError, ServerError)


Permit = Callable[[], Coroutine[Any, Any, None]]


class Send(Protocol):
    """Sends one request and returns its answer."""

    def __call__(
        self, request: Request, *, timeout: float | None
    ) -> Coroutine[Any, Any, Response]: ...


def may_be_repeated(error: BaseException) -> bool:
    """Whether an error of a call that buys nothing may pass by itself."""
    return isinstance(error, _PASSING)


class Queries:
    """Asks the gateway for tasks.

    Args:
        api: Builds the requests.
        send: Sends them.
        permit: Waits until one may be sent; a poll that is sent here has its permit already.
        retry: When one query of a caller's is repeated; a poll is repeated by the schedule.
        timeout: Seconds that one query of a caller's may take; a poll is timed by the poller.
        record: Told of every final answer to a query of a caller's, or ``None``.
    """

    def __init__(
        self,
        api: API,
        send: Send,
        permit: Permit,
        retry: RetryPolicy,
        *,
        timeout: float,
        record: Callable[[Reading], None] | None = None,
    ) -> None:
        self._api = api
        self._send = send
        self._permit = permit
        self._retry = retry
        self._timeout = timeout
        self._note = record

    async def retrieve(self, task_id: str) -> Video:
        """Ask for a task once, and again where that may help.

        Raises:
            OctoremixError: There was no good answer; with ``id``.
        """
        attempts = retrying(self._retry, may_be_repeated)
        reading: Reading = await attempts(self._ask, self._api.query, task_id, self._timeout)
        if self._note is not None and reading.status.terminal and not _lacks_link(reading):
            self._note(reading)
        return reading.video

    async def usage(self) -> KeyUsage:
        """Ask what the key was given and has used.

        Raises:
            OctoremixError: There was no good answer.
        """
        await self._permit()
        return read_usage(await self._send(self._api.key_usage(), timeout=self._timeout))

    async def key_log(self) -> Response:
        """Ask for the records of what the key was charged for, once.

        Raises:
            OctoremixError: There was no answer.
        """
        await self._permit()
        return await self._send(self._api.key_log(), timeout=self._timeout)

    async def poll(
        self, task_id: str, last: Reading | None, stalled: bool, until: float
    ) -> Reading:
        """Ask how a task goes.

        New-api's own record of a task, on the older route, is asked for too where the usual answer
        is frozen (``stalled``), can't be given (501), or is a finished task without a link. The
        status in that record wins; where it can't be had or read, the first answer stands.

        Args:
            task_id: The task.
            last: The last answer about it.
            stalled: Whether that has been the answer for too long.
            until: The time of the event loop at which the poller breaks this off.

        Raises:
            OctoremixError: There was no good answer; with ``id``.
        """
        try:
            response = await self._send(self._api.query(task_id), timeout=None)
            reading = read_task(response, task_id, last)
        except OctoremixError as error:
            error.id = task_id
            if not isinstance(error, APIError) or error.status != HTTPStatus.NOT_IMPLEMENTED:
                raise
            record = await self._record(task_id, until)
            if record is None:
                raise
            return record
        if _lacks_link(reading) or (stalled and reading is last):
            return _judged(reading, await self._record(task_id, until))
        return reading

    async def _record(self, task_id: str, until: float) -> Reading | None:
        # A first answer that is good must not be lost to a second that hangs.
        left = until - asyncio.get_running_loop().time() - _MARGIN
        if left <= 0:
            return None
        try:
            # Timed as a whole: the wait for a permit is a part of the poll's time too.
            async with asyncio.timeout(min(left, _RECORD_TIMEOUT)):
                record = await self._ask(self._api.legacy_query, task_id, None)
        except (OctoremixError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.debug("no record of task %s on the older route: %s", quoted(task_id), why)
            return None
        return None if record.status is TaskStatus.UNKNOWN else record

    async def _ask(
        self,
        build: Callable[[str], Request],
        task_id: str,
        timeout: float | None,
    ) -> Reading:
        await self._permit()
        try:
            response = await self._send(build(task_id), timeout=timeout)
            return read_task(response, task_id)
        except OctoremixError as error:
            error.id = task_id
            raise


def _lacks_link(reading: Reading) -> bool:
    """Whether a finished task has no result, so that the older route may know better."""
    return reading.status is TaskStatus.COMPLETED and reading.video.url is None


def _judged(reading: Reading, record: Reading | None) -> Reading:
    """Return which of two answers about a task stands."""
    if record is None:
        return reading
    if record.status is TaskStatus.COMPLETED and reading.status is TaskStatus.COMPLETED:
        return record if record.video.url is not None else reading
    return record if record.status.terminal or reading.status.terminal else reading
