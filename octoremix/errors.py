"""Every exception that octoremix raises, and the tree that they form.

::

    OctoremixError
    ├── ConfigurationError            also a ValueError
    ├── SessionClosedError
    ├── APIConnectionError            no answer; of a submit: nothing was sent
    │   └── APITimeoutError           also a TimeoutError
    ├── APIError                      an answer that says no
    │   ├── BadRequestError
    │   ├── AuthenticationError
    │   ├── PermissionDeniedError
    │   ├── QuotaExceededError
    │   ├── TaskNotFoundError
    │   ├── RateLimitError
    │   ├── ServerError
    │   ├── UnexpectedRedirectError
    │   └── InvalidResponseError      an answer that can't be understood
    ├── SubmitOutcomeUnknownError     the job may exist and may be billed
    ├── NotSubmittedError             a batch stopped before this one; nothing was bought
    ├── JournalError                  the journal can't be used, or forbids it
    │   ├── JournalBusyError
    │   └── KeyReusedError
    ├── RemixError                    the task ended without a video
    │   ├── RemixFailedError
    │   ├── RemixCancelledError
    │   └── RemixExpiredError
    ├── WaitError                     we stopped waiting; the task goes on
    │   ├── WaitTimeoutError          also a TimeoutError
    │   ├── PollingFailedError
    │   ├── DetachedError
    │   └── TaskLostError
    └── DownloadError
        ├── IncompleteDownloadError
        ├── NotAVideoError
        ├── ResultExpiredError
        └── TooLargeError

All of them survive `copy` and `pickle`. An error about a task has the task's ``id``; on the others
``id`` is ``None``. None holds the API key, nor an exception of the HTTP library, which would hold
the request's headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from .models import RemixRequest, Video

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "DetachedError",
    "DownloadError",
    "IncompleteDownloadError",
    "InvalidResponseError",
    "JournalBusyError",
    "JournalError",
    "KeyReusedError",
    "NotAVideoError",
    "NotSubmittedError",
    "OctoremixError",
    "PermissionDeniedError",
    "PollingFailedError",
    "QuotaExceededError",
    "RateLimitError",
    "RemixCancelledError",
    "RemixError",
    "RemixExpiredError",
    "RemixFailedError",
    "ResultExpiredError",
    "ServerError",
    "SessionClosedError",
    "SubmitOutcomeUnknownError",
    "TaskLostError",
    "TaskNotFoundError",
    "TooLargeError",
    "UnexpectedRedirectError",
    "WaitError",
    "WaitTimeoutError",
    "printable",
    "quoted",
]


def printable(text: object, limit: int = 300) -> str:
    """Make foreign text safe to show in a log, an error or a terminal.

    Args:
        text: Anything; its ``str`` is taken.
        limit: The most characters to keep; what is longer ends in ``…``.

    Returns:
        The text on one line, with every character that is not printable (controls, newlines,
        escape sequences, direction marks, lone surrogates) written as a backslash escape.
    """
    text = str(text)
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    if shown.isprintable():
        return shown
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in shown
    )


def quoted(text: object, limit: int = 300) -> str:
    """Return foreign text in quotation marks and escaped, as `repr` writes it; see `printable`."""
    text = str(text)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


class OctoremixError(Exception):
    """Base of all errors of this library.

    Attributes:
        id: The task that the error is about, or ``None``.
    """

    def __init__(self, message: str = "", *, id: str | None = None) -> None:
        super().__init__(message)
        self.id = id


class ConfigurationError(OctoremixError, ValueError):
    """A bad argument or setting; raised before any I/O. The message names what to do."""


class SessionClosedError(OctoremixError):
    """The session is closed, belongs to another event loop, or its poller has stopped."""


class APIConnectionError(OctoremixError):
    """No answer was received. Of a submit it means more: nothing was sent, nothing was bought."""


class APITimeoutError(APIConnectionError, TimeoutError):
    """No answer was received in time."""


class APIError(OctoremixError):
    """The gateway, or something in front of it, answered with a refusal.

    Attributes:
        status: The HTTP status.
        code: The gateway's own word for the error, for example ``"task_not_exist"``, or ``None``.
        message: The gateway's text, or the upstream's that it passes on; perhaps empty, perhaps
            localised, cut where it is very long.
        request_id: The gateway's name for the request, to quote to its support, or ``None``.
        body: The beginning of the answer's body as text.
        safe_to_resubmit: Whether the same submit may be sent again without paying twice.
        retry_after: How many seconds the answer asks to wait, or ``None``.
        from_gateway: Whether it was told in the gateway's own JSON, not by something in front.
    """

    def __init__(
        self,
        summary: str = "",
        *,
        id: str | None = None,
        status: int = 0,
        code: str | None = None,
        message: str = "",
        request_id: str | None = None,
        body: str = "",
        safe_to_resubmit: bool = False,
        retry_after: float | None = None,
        from_gateway: bool = False,
    ) -> None:
        super().__init__(summary, id=id)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.body = body
        self.safe_to_resubmit = safe_to_resubmit
        self.retry_after = retry_after
        self.from_gateway = from_gateway


class BadRequestError(APIError):
    """The request was refused as wrong (most 4xx answers)."""


class AuthenticationError(APIError):
    """401: the key is missing, unknown, expired, or **its quota is used up**.

    The gateway answers all of these alike, also to queries of tasks that go on running.
    """


class PermissionDeniedError(APIError):
    """403: the key may not use this model, address or task."""


class QuotaExceededError(APIError):
    """The account or the key can't pay for the job."""


class TaskNotFoundError(APIError):
    """No task or source video of that id belongs to this account."""


class RateLimitError(APIError):
    """429: too many requests, or the channel behind the gateway is saturated; nothing was bought."""


class ServerError(APIError):
    """5xx: the gateway or something in front of it failed."""


class UnexpectedRedirectError(APIError):
    """3xx: an API call was redirected, which is never followed.

    Attributes:
        location: Where the answer points, without its query, or ``None``.
    """

    location: str | None = None


class InvalidResponseError(APIError):
    """The answer can't be understood.

    Attributes:
        problems: What is wrong, each item naming its field where there is one.
    """

    problems: tuple[str, ...] = ()


class SubmitOutcomeUnknownError(OctoremixError):
    """The request went out and no clear answer came: **the job may exist and may be billed**.

    It was not sent again and will not be.

    Attributes:
        reason: Why nobody knows, or an empty text.
        request: What was submitted.
        sent_at: When the request began to leave (UTC).
        request_id: The gateway's name for the request, or ``None``.
        abandoned: Whether the doubt was settled by giving the job up.
        interrupted: Whether it is in doubt because a process ended, not because of an answer.
    """

    def __init__(
        self,
        message: str = "",
        *,
        id: str | None = None,
        reason: str = "",
        request: RemixRequest | None = None,
        sent_at: datetime | None = None,
        request_id: str | None = None,
        abandoned: bool = False,
        interrupted: bool = False,
    ) -> None:
        super().__init__(message, id=id)
        self.reason = reason
        self.request = request
        self.sent_at = sent_at
        self.request_id = request_id
        self.abandoned = abandoned
        self.interrupted = interrupted


class NotSubmittedError(OctoremixError):
    """A batch stopped before this one; nothing was bought, and it is free to run again.

    What stopped the batch is the ``__cause__``, where it was an error.
    """


class JournalError(OctoremixError):
    """The journal can't be read or written, or what it holds forbids what was asked.

    Attributes:
        id: The task that could not be recorded: it was accepted and is followed. ``None`` where
            nothing was sent.
    """


class JournalBusyError(JournalError):
    """Other processes held the journal for longer than its ``busy_timeout``; nothing was sent."""


class KeyReusedError(JournalError):
    """The key stands for another request already; nothing was sent."""


class _TaskError(OctoremixError):
    """Shared shape of the errors that end a wait: the id and the last snapshot."""

    def __init__(
        self, message: str = "", *, id: str | None = None, video: Video | None = None
    ) -> None:
        super().__init__(message, id=id)
        self.video = video


class RemixError(_TaskError):
    """The task reached its end without a video.

    Attributes:
        id: The task.
        video: The final snapshot; its ``error`` says why, where the gateway told.
    """


class RemixFailedError(RemixError):
    """The task failed. The gateway refunds failed tasks."""


class RemixCancelledError(RemixError):
    """The task was cancelled on the gateway's side."""


class RemixExpiredError(RemixError):
    """The task expired before it was done."""


class WaitError(_TaskError):
    """We stopped waiting; nothing is known of the task's end, and it may go on and be billed.

    `Session.track` with the ``id`` takes the wait up again.

    Attributes:
        id: The task.
        video: The last snapshot seen, or ``None``.
    """


class WaitTimeoutError(WaitError, TimeoutError):
    """The deadline of the task, or the time-out of one wait, has passed."""


class PollingFailedError(WaitError):
    """The queries about the task kept failing. The last failure is the ``__cause__``."""


class DetachedError(WaitError):
    """Somebody called `RemixFuture.detach`."""


class TaskLostError(WaitError):
    """The gateway no longer knows a task that it accepted or showed before."""


class DownloadError(OctoremixError):
    """The video could not be fetched; the task itself is not affected.

    Attributes:
        id: The task.
        url: The address that was tried last, without its query, or ``None``.
        status: The HTTP status of an answer that was no video, or ``None``.
        retry_after: How many seconds that answer asks to wait, or ``None``.
    """

    def __init__(
        self,
        message: str = "",
        *,
        id: str | None = None,
        url: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, id=id)
        self.url = url
        self.status = status
        self.retry_after = retry_after


class IncompleteDownloadError(DownloadError):
    """The transfer ended early or with another length than announced."""


class NotAVideoError(DownloadError):
    """What came is no video: a page, a JSON object, something without a video's signature."""


class ResultExpiredError(DownloadError):
    """The link to the result is no longer served."""


class TooLargeError(DownloadError):
    """The video has more bytes than ``max_size`` allows."""
