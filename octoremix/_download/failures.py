"""Which failures of a download may pass by themselves, and how long to wait for that."""

from __future__ import annotations

from http import HTTPStatus

from ..errors import (
    APIConnectionError,
    BadRequestError,
    DownloadError,
    IncompleteDownloadError,
    RateLimitError,
    ServerError,
)
from ..policies import RetryPolicy, WaitStrategy

__all__ = ["is_busy", "is_passing", "wait_after"]

_BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def is_busy(error: BaseException) -> bool:
    """Whether a server answered, and may answer otherwise in a while."""
    if isinstance(error, DownloadError):
        status = error.status or 0
        return status in _BUSY or status >= 500
    return isinstance(error, RateLimitError) or _is_not_ready(error)


def is_passing(error: BaseException) -> bool:
    """Whether another attempt may bring what this one did not."""
    return isinstance(error, (APIConnectionError, IncompleteDownloadError)) or is_busy(error)


def wait_after(policy: RetryPolicy, error: BaseException) -> WaitStrategy:
    """Return the strategy that gives the pause after a failure."""
    return policy.content_wait if _is_not_ready(error) else policy.wait


def _is_not_ready(error: BaseException) -> bool:
    """Whether the gateway can't serve a result yet, though it says that the task is completed.

    New-api's record of a task may lag behind what it tells: then ``/content`` is a 400.
    """
    lagging = isinstance(error, BadRequestError) and error.status == HTTPStatus.BAD_REQUEST
    return lagging or isinstance(error, ServerError)
