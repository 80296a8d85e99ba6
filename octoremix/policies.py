"""Settings that hold tenacity strategies: how to poll, and how to try again."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from attrs import field, frozen
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_chain,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
)
from tenacity.wait import wait_base

from .errors import APIError, ConfigurationError, DownloadError

__all__ = [
    "PollPolicy",
    "RetryPolicy",
    "check_count",
    "check_rate",
    "check_seconds",
    "check_type",
    "pause_after",
    "retrying",
]

WaitStrategy = Callable[[RetryCallState], float]

Sleep = Callable[[float], Awaitable[None]]


def check_seconds(name: str, value: object, *, zero: bool = False, none: bool = False) -> None:
    """Raise `ConfigurationError` unless ``value`` is a usable length of time in seconds."""
    if (value is None and none) or _usable(value, zero=zero):
        return
    least = "0 or more" if zero else "above 0"
    also = ", or None" if none else ""
    raise ConfigurationError(f"{name} must be a number of seconds {least}{also}, not {value!r}")


def check_rate(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless ``value`` is a usable number for each second, or none."""
    if value is not None and not _usable(value, zero=False):
        raise ConfigurationError(
            f"{name} must be a number of requests per second above 0, or None, not {value!r}"
        )


def _usable(value: object, *, zero: bool) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (value > 0 or (zero and value == 0))
        and value <= sys.float_info.max  # compared, not converted: an int may be too large
    )


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise `ConfigurationError` unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(
            f"{name} must be a whole number of at least {least}, not {value!r}"
        )


def check_type(name: str, value: object, kind: type) -> None:
    """Raise `ConfigurationError` unless ``value`` is of that class."""
    if not isinstance(value, kind):
        module = kind.__module__.partition(".")[0]
        raise ConfigurationError(
            f"{name} must be an instance of {module}.{kind.__name__}, not {type(value).__name__}"
        )


def _seconds(*, zero: bool = False, none: bool = False) -> Callable[[Any, Any, Any], None]:
    return lambda _, attribute, value: check_seconds(attribute.name, value, zero=zero, none=none)


def _count(_: object, attribute: Any, value: object) -> None:
    check_count(attribute.name, value)


def _strategy(_: object, attribute: Any, value: object) -> None:
    if not callable(value):
        raise ConfigurationError(
            f"{attribute.name} must be a tenacity wait strategy, "
            f"for example tenacity.wait_fixed(10), not {value!r}"
        )


class wait_spread(wait_base):  # noqa: N801  # tenacity's strategies are named like functions
    """Another strategy's pause, made longer or shorter by up to a ratio of itself.

    tenacity's own jitter adds up to a fixed number of seconds, which is much for the first pauses
    and little for the later ones.
    """

    def __init__(self, wait: wait_base, ratio: float) -> None:
        self.wait = wait
        self.ratio = ratio

    def __call__(self, retry_state: RetryCallState) -> float:
        return self.wait(retry_state) * random.uniform(1 - self.ratio, 1 + self.ratio)


def _default_poll_wait() -> WaitStrategy:
    return wait_spread(wait_exponential(multiplier=10, exp_base=1.3, max=30), ratio=0.2)


def _default_retry_wait() -> WaitStrategy:
    return wait_exponential_jitter(initial=1, max=30, jitter=1)


def _default_content_wait() -> WaitStrategy:
    return wait_chain(*map(wait_fixed, (4, 8, 15, 30)))


@frozen(kw_only=True)
class PollPolicy:
    """How tasks are followed.

    The gateway refreshes its own view of a task about every 15 seconds (new-api's background
    poller), so asking more often mostly reads the same row again.

    Attributes:
        wait: Any tenacity wait strategy, used as it is given; its value is the pause in seconds
            before the next poll of a task. It sees ``attempt_number`` (polls of this task so
            far), ``outcome`` (the last answer or failure) and ``kwargs["task"]`` (the followed
            task, with ``id``, ``polls``, ``failures`` and ``video``). Default: 10 s growing by
            1.3 to 30 s, spread by a fifth either way.
        first_delay: Seconds from the submit, or from `Session.track`, to the first poll.
        deadline: Seconds after which a task is given up with `WaitTimeoutError`, or ``None``. One
            last poll is made then.
        max_failures: A task is given up with `PollingFailedError` when this many polls in a row
            failed *and* ``failure_window`` has passed since its last good answer.
        failure_window: Seconds, see ``max_failures``.
        concurrency: The most polls in flight at any time.
        stall_after: Seconds after which a task whose answer has not changed is asked for once on
            the gateway's older route, whose own record decides; ``None`` for never. New-api's 24 h
            sweep, for one, ends tasks there and leaves the answer of the usual route as it was.

    Raises:
        ConfigurationError: A setting is out of its range.
    """

    wait: WaitStrategy = field(factory=_default_poll_wait, validator=_strategy)
    first_delay: float = field(default=5.0, validator=_seconds(zero=True))
    deadline: float | None = field(default=3600.0, validator=_seconds(none=True))
    max_failures: int = field(default=10, validator=_count)
    failure_window: float = field(default=120.0, validator=_seconds(zero=True))
    concurrency: int = field(default=16, validator=_count)
    stall_after: float | None = field(default=600.0, validator=_seconds(none=True))


def _submit_mode(_: object, __: object, value: object) -> None:
    if value not in ("unsent", "never", "always"):  # a tuple, for the value may be unhashable
        raise ConfigurationError(f"submit must be 'unsent', 'never' or 'always', not {value!r}")


@frozen(kw_only=True)
class RetryPolicy:
    """When one call is tried again. Polls are not concerned: the poller's schedule repeats them.

    Attributes:
        wait: A tenacity wait strategy, the pause in seconds before the next attempt. Default: from
            1 s doubling to 30 s, with up to 1 s of jitter.
        content_wait: The same where the gateway's own ``/content`` does not serve a finished video
            yet: new-api answers 502, or 400 while its record lags behind, for up to a minute after
            the end. Default: 4, 8, 15, then 30 s.
        attempts: The most attempts of one call, the first included. A download that was cut off
            may go on more often, as long as each attempt brings it forward.
        submit: When a submit may be sent again. ``"unsent"``: only when it surely bought nothing,
            because nothing was sent or the answer was a 429. ``"never"``: not even then.
            ``"always"``: also when its outcome is unknown. **That can pay for the same job once
            for each attempt**: the API has no idempotency key, so a job whose answer was lost
            is bought again. Choose it only where a second job is cheaper than a missing one.

    Raises:
        ConfigurationError: A setting is out of its range.
    """

    wait: WaitStrategy = field(factory=_default_retry_wait, validator=_strategy)
    content_wait: WaitStrategy = field(factory=_default_content_wait, validator=_strategy)
    attempts: int = field(default=5, validator=_count)
    submit: Literal["unsent", "never", "always"] = field(default="unsent", validator=_submit_mode)


LONGEST_RETRY_AFTER = 300.0
"""Seconds of a ``Retry-After`` that are honoured at most."""


def retrying(
    policy: RetryPolicy,
    may_be_repeated: Callable[[BaseException], bool],
    wait: WaitStrategy | None = None,
    sleep: Sleep = asyncio.sleep,
) -> AsyncRetrying:
    """Return what repeats one call as the policy says, and no sooner than an answer asks.

    Args:
        policy: How often, and after which pauses.
        may_be_repeated: Whether an error is worth another attempt.
        wait: Other pauses than ``policy.wait``.
        sleep: Waits for so many seconds.
    """
    strategy = policy.wait if wait is None else wait
    return AsyncRetrying(
        sleep=sleep,
        wait=lambda state: _pause(strategy, state),
        stop=stop_after_attempt(policy.attempts),
        retry=retry_if_exception(may_be_repeated),
        reraise=True,
    )


def pause_after(wait: WaitStrategy, failures: int, error: BaseException) -> float:
    """Return the seconds before the next attempt of what is not repeated from its beginning.

    Args:
        wait: The strategy.
        failures: How many attempts have failed.
        error: How the last one did.
    """
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = failures
    state.set_exception((type(error), error, None))
    return _pause(wait, state)


def _pause(wait: WaitStrategy, state: RetryCallState) -> float:
    error = state.outcome and state.outcome.exception()
    asked = error.retry_after if isinstance(error, (APIError, DownloadError)) else None
    seconds = wait(state)
    check_seconds("what the wait strategy of RetryPolicy returned", seconds, zero=True)
    return max(seconds, min(asked or 0.0, LONGEST_RETRY_AFTER))
