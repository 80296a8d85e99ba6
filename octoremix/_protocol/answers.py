"""What an answer means: a task, a clear refusal, or nothing that can be understood.

An answer is judged by its body first and its status second: the gateway puts failed jobs into 200
and errors of its own into several envelopes, and what stands in front of it answers in HTML.
Messages are never matched, because the gateway localises them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

from attrs import field, frozen

from .._wire import Reading, read_id, unwrap
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
)
from ..models import without_query

__all__ = ["Refused", "Response", "Unclear", "read_accepted", "read_error", "read_task"]

_Named = TypeVar("_Named", bound=APIError)

SHOWN_BODY = 2000
"""Characters of an answer's body that an error keeps."""

# new-api and OpenAI, other proxies, Cloudflare: the first that is there is taken.
_REQUEST_ID_HEADERS = ("X-Oneapi-Request-Id", "x-request-id", "request-id", "cf-ray")

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

# The gateway gave up on its upstream, which may still do the job.
_UPSTREAM_TIMEOUTS = frozenset({504, 524})


@frozen(kw_only=True)
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


@frozen
class Refused:
    """The answer is a clear no: nothing was bought."""

    error: APIError


@frozen
class Unclear:
    """The answer can't be understood, or is not the gateway's: a job may have been bought."""

    error: APIError


def read_task(response: Response, task_id: str, last: Reading | None = None) -> Reading:
    """Read the answer to a query.

    Args:
        response: The answer.
        task_id: The task that was asked for.
        last: The last answer about it. The gateway refreshes a task about every 15 s, so that many
            answers repeat the one before to the byte; then this is returned again.

    Raises:
        APIError: It is a refusal, or can't be understood; with ``id``.
    """
    if last is not None and response.status == HTTPStatus.OK and last.body == response.body:
        return last
    document = _judge(response, task_id)
    if not isinstance(document, dict):
        raise document.error
    try:
        return Reading(response.body, document, task_id)
    except ValueError as error:
        problem = str(error)
    raise _invalid(response, problem, task_id=task_id)


def read_accepted(response: Response) -> Reading | Refused | Unclear:
    """Read the answer to a submit: the accepted task, or which kind of answer it is instead."""
    document = _judge(response)
    if not isinstance(document, dict):
        return document
    task_id = read_id(unwrap(document))
    if task_id is None:
        return Unclear(_invalid(response, "id: missing"))
    try:
        return Reading(response.body, document, task_id)
    except ValueError:
        # The id is what was paid for; the rest will be told by the first poll.
        known = {"id": task_id}
        return Reading(json.dumps(known).encode(), known, task_id)


def read_error(response: Response, task_id: str | None = None) -> APIError:
    """Name the error of an answer that should have been something else than JSON."""
    document = _judge(response, task_id)
    if isinstance(document, dict):
        return _invalid(response, "a task's object where a video belongs", task_id=task_id)
    return document.error


def _judge(response: Response, task_id: str | None = None) -> dict[str, Any] | Refused | Unclear:
    """Return the object that tells about a task, or the error that the answer is instead."""
    if not response.complete:
        return Unclear(
            _invalid(response, f"longer than {len(response.body)} bytes", task_id=task_id)
        )
    if 300 <= response.status < 400:
        return Refused(_redirect(response, task_id))
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return _judge_object(response, document, task_id)
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Refused(_error(response, task_id, safe=True))
    if response.status >= 500:
        return Unclear(_error(response, task_id))
    return Unclear(_invalid(response, _what_instead(response), task_id=task_id))


def _judge_object(
    response: Response, document: dict[str, Any], task_id: str | None
) -> dict[str, Any] | Refused | Unclear:
    """Tell a task's object from an error's.

    Known are new-api's ``{"code", "message", "data"}``, ``{"error": {…}}`` of OpenAI's kind and
    ``{"success": false, "message"}`` of its dashboard, all of them on any status, and what proxies
    answer with a status of 4xx or 5xx.
    """
    status = response.status
    task = unwrap(document)
    has_id, has_status = read_id(task) is not None, isinstance(task.get("status"), str)
    if (status < 400 and (has_id or "status" in task)) or (has_id and has_status and status != 429):
        return document  # a failed job may be answered with the status of an error
    error = document.get("error")
    told = error if isinstance(error, dict) else document
    code, message = told.get("code"), told.get("message")
    word = str(code) if isinstance(code, (str, int)) and not isinstance(code, bool) else ""
    own = told is error or document.get("success") is False or (word not in {"", "success"})
    if status < 400 and not own:
        return Unclear(_invalid(response, "neither a status nor an id", task_id=task_id))
    panicked = told.get("type") == "new_api_panic"
    clear = (own and not panicked) or 400 <= status < 500
    text = message if isinstance(message, str) else str(document.get("detail") or error or "")
    safe = clear and status not in _UPSTREAM_TIMEOUTS
    named = _error(response, task_id, code=word or None, message=text, safe=safe)
    return Refused(named) if clear else Unclear(named)


def _what_instead(response: Response) -> str:
    if not response.body.strip():
        return "an empty body"
    beginning = response.body[:512].lstrip().lower()
    content_type = response.headers.get("Content-Type", "").lower()
    if "html" in content_type or beginning.startswith((b"<!doctype", b"<html")):
        return "an HTML page where JSON belongs; is the base URL right?"
    if beginning[:1] in {b"[", b'"'} or beginning[:4] == b"null":
        return "JSON, but no object"
    return "no readable JSON"


def _error(
    response: Response,
    task_id: str | None,
    *,
    code: str | None = None,
    message: str = "",
    safe: bool = False,
) -> APIError:
    status = response.status
    kind = _CODES.get(code or "") or _STATUSES.get(status)
    if kind is None:
        kind = ServerError if status >= 500 else BadRequestError if status >= 400 else APIError
    said = printable(message) if message else _phrase(status)
    word = f" [{printable(code, 60)}]" if code else ""
    return _filled(kind, response, task_id, f"{status}{word}: {said}", code, message, safe)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _invalid(
    response: Response, *problems: str, task_id: str | None = None
) -> InvalidResponseError:
    shown = "; ".join(printable(problem) for problem in problems)
    summary = f"the answer ({response.status}) can't be understood: {shown}"
    error = _filled(InvalidResponseError, response, task_id, summary)
    error.problems = problems
    return error


def _redirect(response: Response, task_id: str | None) -> UnexpectedRedirectError:
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
    about = f"task {printable(task_id)!r}: " if task_id is not None else ""
    return kind(
        about + summary,
        id=task_id,
        status=response.status,
        code=code,
        message=message,
        request_id=_request_id(response, message),
        body=response.body[: 4 * SHOWN_BODY].decode(errors="replace")[:SHOWN_BODY],
        safe_to_resubmit=safe,
        retry_after=_retry_after(response),
    )


def _request_id(response: Response, message: str) -> str | None:
    for name in _REQUEST_ID_HEADERS:
        if value := response.headers.get(name):
            return printable(value, 200)
    found = _REQUEST_ID_IN_TEXT.search(message)
    return found[1] if found else None


def _retry_after(response: Response) -> float | None:
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
