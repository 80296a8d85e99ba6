"""An answer that was received, and the error that it is named by."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar

from attrs import define, field

from ..errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    InvalidResponseError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    TaskNotFoundError,
    UnexpectedRedirectError,
    printable,
    quoted,
)
from ..models import without_query

__all__ = ["Response", "invalid", "named", "poll_floor", "redirected", "retry_after"]

_Named = TypeVar("_Named", bound=APIError)

SHOWN_BODY = 2000
"""Characters that an error keeps of an answer's body, and of its message."""

# new-api and OpenAI, other proxies, Cloudflare: the first that is there is taken.
_REQUEST_ID_HEADERS = (
    "X-Oneapi-Request-Id",
    "x-request-id",
    "request-id",
    "x-litellm-call-id",
    "cf-ray",
)

SHORTEST_FLOOR = 1.0
LONGEST_FLOOR = 300.0
"""Seconds between which a good answer's wish for a pause is kept."""

_REQUEST_ID_IN_TEXT = re.compile(r"\(request id: ([\w.-]{1,128})\)")

# new-api's codes that decide more than the status that they come with.
_CODES: dict[str, type[APIError]] = {
    "task_not_exist": TaskNotFoundError,
    "insufficient_user_quota": QuotaExceededError,
    "pre_consume_token_quota_failed": QuotaExceededError,
}

# A 404 is no unknown task: new-api answers that with 400 and a code, and 404 for unknown routes.
_STATUSES: dict[int, type[APIError]] = {
    401: AuthenticationError,
    402: QuotaExceededError,
    403: PermissionDeniedError,
    429: RateLimitError,
}


@define(kw_only=True)
class Response:
    """One answer that was received.

    Attributes:
        status: The HTTP status.
        headers: Its headers; names are compared without case.
        body: Its body, decoded from any transfer or content coding.
        complete: Whether ``body`` is all of it; what is too long is not read to its end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    complete: bool = True


def named(
    response: Response,
    task_id: str | None,
    *,
    code: str | None = None,
    message: str = "",
    safe: bool = False,
    from_gateway: bool = False,
) -> APIError:
    """Return the error that an answer tells, of the class that its code or status names."""
    status = response.status
    limited = status == HTTPStatus.TOO_MANY_REQUESTS
    kind = _STATUSES.get(status) if limited else _CODES.get(code or "") or _STATUSES.get(status)
    if kind is None:
        kind = ServerError if status >= 500 else BadRequestError if status >= 400 else APIError
    said = printable(message) if message else _phrase(status)
    word = f" [{printable(code, 60)}]" if code else ""
    error = _filled(kind, response, task_id, f"{status}{word}: {said}", code, message, safe)
    error.from_gateway = from_gateway
    return error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def invalid(response: Response, *problems: str, task_id: str | None = None) -> InvalidResponseError:
    """Return the error for an answer that can't be understood."""
    shown = "; ".join(printable(problem) for problem in problems)
    summary = f"the answer ({response.status}) can't be understood: {shown}"
    error = _filled(InvalidResponseError, response, task_id, summary)
    error.problems = problems
    return error


def redirected(response: Response, task_id: str | None) -> UnexpectedRedirectError:
    """Return the error for a redirect, which names where it points."""
    location = without_query(response.headers.get("Location"))
    target = printable(location, 200) if location else "nowhere"
    summary = (
        f"{response.status}: the call was redirected to {target}, which is not followed; "
        "if the gateway has moved, change the base URL"
    )
    # 307 and 308 say that the request was not processed; after a POST the others need not.
    safe = response.status in {307, 308}
    error = _filled(UnexpectedRedirectError, response, task_id, summary, safe=safe)
    error.location = location
    return error


def _filled(
    kind: type[_Named],
    response: Response,
    task_id: str | None,
    summary: str,
    code: str | None = None,
    message: str = "",
    safe: bool = False,
) -> _Named:
    about = f"task {quoted(task_id)}: " if task_id is not None else ""
    return kind(
        about + summary,
        id=task_id,
        status=response.status,
        code=code and code[:SHOWN_BODY],
        message=message[:SHOWN_BODY],
        request_id=_request_id(response, message),
        body=response.body[: 4 * SHOWN_BODY].decode(errors="replace")[:SHOWN_BODY],
        safe_to_resubmit=safe,
        retry_after=retry_after(response),
    )


def _request_id(response: Response, message: str) -> str | None:
    for name in _REQUEST_ID_HEADERS:
        if value := response.headers.get(name):
            return printable(value, 200)
    found = _REQUEST_ID_IN_TEXT.search(message)
    return found[1] if found else None


def poll_floor(response: Response) -> float:
    """Return how many seconds a good answer asks to wait before the next query, or 0.

    ``openai-poll-after-ms`` is what OpenAI's clients look for; ``Retry-After`` is HTTP's own. Both
    are kept between 1 s and 5 minutes, and what is no number is ignored.
    """
    headers = response.headers
    if "openai-poll-after-ms" not in headers and "Retry-After" not in headers:
        return 0.0
    asked = retry_after(response)
    try:
        milliseconds = float(headers.get("openai-poll-after-ms", ""))
    except ValueError:
        pass
    else:
        if math.isfinite(milliseconds):
            asked = max(asked or 0.0, milliseconds / 1000)
    return 0.0 if asked is None else min(max(asked, SHORTEST_FLOOR), LONGEST_FLOOR)


def retry_after(response: Response) -> float | None:
    """Read ``Retry-After`` as seconds or as a date; what is neither is ignored."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
