"""What a command's exit code means, and which error leads to which."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from attrs import frozen

from .. import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DownloadError,
    IncompleteDownloadError,
    InvalidResponseError,
    JournalBusyError,
    JournalError,
    KeyReusedError,
    NotAVideoError,
    OctoremixError,
    PermissionDeniedError,
    PollingFailedError,
    QuotaExceededError,
    RateLimitError,
    RemixError,
    ResultExpiredError,
    ServerError,
    SessionClosedError,
    SubmitOutcomeUnknownError,
    TaskLostError,
    TaskNotFoundError,
    TooLargeError,
    UnexpectedRedirectError,
    WaitError,
    WaitTimeoutError,
)

__all__ = ["Code", "Verdict", "gravest", "message_of", "verdict_on"]


class Code(enum.IntEnum):
    """The exit codes, the same for every command."""

    DONE = 0
    FAILED = 1
    """A job failed, or the gateway refused."""
    USAGE = 2
    """A wrong argument or setting; nothing was sent."""
    REFUSED = 3
    """The key is not accepted, may not do this, or has no quota left."""
    IN_DOUBT = 4
    """A job may exist and may be billed."""
    RUNNING = 5
    """Jobs go on that nobody waits for any more."""
    INTERRUPTED = 130
    """Ctrl-C."""
    CLOSED = 141
    """Whoever read the output has gone, as with ``| head``."""
    TERMINATED = 143
    """SIGTERM."""


# What needs a person comes before what a script can handle, and an interruption before what was
# found out until then: the rest is not known.
_GRAVEST_FIRST = (
    Code.IN_DOUBT,
    Code.INTERRUPTED,
    Code.TERMINATED,
    Code.CLOSED,
    Code.USAGE,
    Code.REFUSED,
    Code.FAILED,
    Code.RUNNING,
)


def gravest(codes: Iterable[Code]) -> Code:
    """Return the one exit code for several outcomes: 4, 130, 143, 141, 2, 3, 1, 5, 0."""
    return min(codes, key=[*_GRAVEST_FIRST, Code.DONE].index, default=Code.DONE)


@frozen
class Verdict:
    """What an error means for the user.

    Attributes:
        code: The exit code.
        hint: What to do about it, perhaps empty; ``{watch}`` and ``{download}`` stand for the
            commands that follow and fetch the task.
    """

    code: Code
    hint: str = ""


_KEY = "check the key, and what it has left, in the OctopusX console; jobs that were accepted go on"
_NETWORK = "check the network, --base-url and --proxy, and run the command again"
_LATER = "try again in a while"
_AGAIN = "the video itself is not affected; to try again: {download}"
_GOES_ON = "it goes on and is billed; to follow it: {watch}"

_TABLE: dict[type[OctoremixError], Verdict] = {
    OctoremixError: Verdict(Code.FAILED),
    ConfigurationError: Verdict(Code.USAGE),
    SessionClosedError: Verdict(Code.RUNNING, _GOES_ON),
    # Not 5: of a submit it means that nothing was sent, so that nothing goes on.
    APIConnectionError: Verdict(Code.FAILED, _NETWORK),
    APIError: Verdict(Code.FAILED),
    BadRequestError: Verdict(Code.FAILED, "the gateway says what it does not like: change that"),
    AuthenticationError: Verdict(Code.REFUSED, _KEY),
    PermissionDeniedError: Verdict(
        Code.REFUSED, "the key may not use this model, address or task: see the OctopusX console"
    ),
    QuotaExceededError: Verdict(Code.REFUSED, _KEY),
    TaskNotFoundError: Verdict(
        Code.FAILED, "check the id, and that the key belongs to the account that made the video"
    ),
    RateLimitError: Verdict(Code.FAILED, _LATER),
    ServerError: Verdict(Code.FAILED, _LATER),
    UnexpectedRedirectError: Verdict(
        Code.FAILED, "--base-url seems not to be the gateway's own address"
    ),
    InvalidResponseError: Verdict(
        Code.FAILED, "is --base-url really the address of the gateway? --verbose shows more"
    ),
    SubmitOutcomeUnknownError: Verdict(
        Code.IN_DOUBT, "running the command again before you have looked may pay for it twice"
    ),
    # Of one that tells an id see `verdict_on`.
    JournalError: Verdict(
        Code.USAGE,
        "--journal names another file; remix, watch and download can do without one by --no-journal",
    ),
    JournalBusyError: Verdict(Code.FAILED, _LATER),
    KeyReusedError: Verdict(Code.USAGE),
    RemixError: Verdict(Code.FAILED),
    WaitError: Verdict(Code.RUNNING, _GOES_ON),
    WaitTimeoutError: Verdict(Code.RUNNING, _GOES_ON),
    PollingFailedError: Verdict(Code.RUNNING, _GOES_ON),
    TaskLostError: Verdict(
        Code.FAILED, "look for it in the OctopusX console; to ask once more: {watch}"
    ),
    DownloadError: Verdict(Code.FAILED, _AGAIN),
    IncompleteDownloadError: Verdict(Code.FAILED, _AGAIN),
    NotAVideoError: Verdict(Code.FAILED, _AGAIN),
    ResultExpiredError: Verdict(Code.FAILED, "the result is kept for a limited time only"),
    TooLargeError: Verdict(Code.FAILED),
}


def verdict_on(error: BaseException) -> Verdict:
    """Return what an error means; one without a row of its own is judged as its base class is."""
    if isinstance(error, PollingFailedError) and isinstance(error.__cause__, OctoremixError):
        cause = verdict_on(error.__cause__)
        if cause.code is Code.REFUSED:
            return Verdict(Code.REFUSED, f"{cause.hint}; to follow this one again: {{watch}}")
    if isinstance(error, JournalError) and error.id is not None:  # accepted, but not recorded
        return Verdict(Code.RUNNING, _GOES_ON)
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _TABLE[kind]
    return Verdict(Code.FAILED)


def message_of(error: BaseException) -> str:
    """Return what is said of an error: of the system's, its words without their number."""
    if isinstance(error, OSError) and not isinstance(error, OctoremixError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
