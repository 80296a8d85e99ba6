"""What an answer means: a task, a clear refusal, or nothing that can be understood.

An answer is judged by its body first and its status second: the gateway puts failed jobs into 200
and errors of its own into several envelopes, and what stands in front of it answers in HTML.
Messages are never matched, because the gateway localises them.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from attrs import frozen

from .._wire import Reading, error_of, load_json, read_id, status_of, unwrap, usage_of
from ..errors import APIError, ConfigurationError, TaskNotFoundError, quoted
from ..models import KeyUsage, TaskStatus, check_task_id
from .responses import Response, invalid, named, poll_floor, redirected

__all__ = [
    "Refused",
    "Unclear",
    "read_accepted",
    "read_content_error",
    "read_error",
    "read_task",
    "read_usage",
]

# The gateway gave up on its upstream, which may still do the job.
_UPSTREAM_TIMEOUTS = frozenset({504, 524})

# Whoever stands in front gave up on the gateway, or on us; from the gateway itself it is a refusal.
_TIMEOUTS = frozenset({408, 499})

# Of forks with a key against doubles: an earlier request with the same key is still in work.
_UNDECIDED = frozenset({"idempotency_in_progress"})


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
        last.floor = poll_floor(response)
        return last
    document = _judge(response, task_id)
    if not isinstance(document, dict):
        raise document.error
    try:
        reading = Reading(response.body, document, task_id)
    except ValueError as error:
        problem = str(error)
    else:
        reading.floor = poll_floor(response)
        return reading
    raise invalid(response, problem, task_id=task_id)


def read_accepted(response: Response) -> Reading | Refused | Unclear:
    """Read the answer to a submit: the accepted task, or which kind of answer it is instead."""
    document = _judge(response)
    if not isinstance(document, dict):
        return document
    task = unwrap(document)
    found = read_id(task) or task.get("request_id")  # the latter is xAI's
    try:
        task_id = check_task_id(found, "id")
    except ConfigurationError:
        return Unclear(invalid(response, f"id: {quoted(found, 80)} can't be part of a URL"))
    try:
        return Reading(response.body, document, task_id)
    except ValueError:
        # The id is what was paid for; the rest will be told by the first poll.
        known = {"id": task_id}
        return Reading(json.dumps(known).encode(), known, task_id)


def read_usage(response: Response) -> KeyUsage:
    """Read the answer to a question about the key.

    Raises:
        APIError: It is a refusal, or can't be understood.
    """
    try:
        document = load_json(response.body) if response.complete else None
    except (ValueError, RecursionError):
        document = None
    # Here alone the code of success is the boolean.
    if response.status != HTTPStatus.OK or not isinstance(document, dict):
        raise read_error(response)
    if document.get("code") is not True or not isinstance(document.get("data"), dict):
        raise read_error(response)
    try:
        return usage_of(document["data"])
    except ValueError as error:
        raise invalid(response, str(error)) from None


def read_error(response: Response, task_id: str | None = None) -> APIError:
    """Name the error of an answer that should have been something else than JSON."""
    document = _judge(response, task_id)
    if isinstance(document, dict):
        return invalid(response, "a task's object where a video belongs", task_id=task_id)
    return document.error


def read_content_error(response: Response, task_id: str) -> APIError:
    """Name the error of a ``/content`` that brought no video.

    There a 404 in the gateway's own JSON is an unknown task; elsewhere that is a 400 with a code.
    """
    error = read_error(response, task_id)
    if response.status != HTTPStatus.NOT_FOUND or not error.from_gateway:
        return error
    unknown = TaskNotFoundError(str(error))
    vars(unknown).update(vars(error))
    return unknown


def _judge(response: Response, task_id: str | None = None) -> dict[str, Any] | Refused | Unclear:
    """Return the object that tells about a task, or the error that the answer is instead."""
    if 300 <= response.status < 400:
        return Refused(redirected(response, task_id))
    try:
        document = load_json(response.body) if response.complete else None
        problem = "JSON, but no object"
    except RecursionError:
        document, problem = None, "JSON that is nested too deeply"
    except ValueError:
        document, problem = None, _what_instead(response)
    if isinstance(document, dict):
        return _judge_object(response, document, task_id)
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Refused(named(response, task_id, safe=True))
    if response.status >= 500:
        return Unclear(named(response, task_id))
    if not response.complete:
        problem = f"longer than {len(response.body)} bytes"
    return Unclear(invalid(response, problem, task_id=task_id))


def _judge_object(
    response: Response, document: dict[str, Any], task_id: str | None
) -> dict[str, Any] | Refused | Unclear:
    """Tell a task's object from an error's, and a refusal of the gateway's from other errors."""
    status = response.status
    if _is_task(unwrap(document), status, task_id):
        return document
    error = document.get("error")
    told = error if isinstance(error, dict) else document
    reason = error_of(told) or error_of(error)
    own = _is_own(document, told)
    if status < 400 and not own and error_of(error) is None:
        problem = "id: missing" if task_id is None else "neither a status nor an id"
        return Unclear(invalid(response, problem, task_id=task_id))
    code = reason.code if reason else None
    said = reason is not None and 400 <= status < 500 and status not in _TIMEOUTS
    undecided = told.get("type") == "new_api_panic" or code in _UNDECIDED
    clear = ((own or said) and not undecided) or status == HTTPStatus.TOO_MANY_REQUESTS
    refusal = named(
        response,
        task_id,
        code=code,
        message=reason.message if reason else "",
        safe=clear and status not in _UPSTREAM_TIMEOUTS,
        from_gateway=_in_envelope(document, told),
    )
    return Refused(refusal) if clear else Unclear(refusal)


def _is_task(task: dict[str, Any], status: int, task_id: str | None) -> bool:
    """Whether an object tells about a task.

    A failed job may be answered with the status of an error, and an error may have a ``status`` of
    its own, as in ``{"status": "failure", "message": …}``.
    """
    own_id = read_id(task)
    if own_id is not None and status < 400:
        return True
    word = task.get("status")
    known = status_of(word) if isinstance(word, str) else TaskStatus.UNKNOWN
    if status < 400:
        if task_id is None:  # a submit, which xAI's channel answers with a request_id alone
            return "request_id" in task and task.keys().isdisjoint({"error", "message"})
        return "status" in task and not (known is TaskStatus.FAILED and "message" in task)
    if own_id is None or not isinstance(word, str) or status == HTTPStatus.TOO_MANY_REQUESTS:
        return False
    if own_id == task_id or task.get("object") == "video":
        return True
    return known not in {TaskStatus.FAILED, TaskStatus.UNKNOWN}


def _is_own(document: dict[str, Any], told: dict[str, Any]) -> bool:
    """Whether an error is in an envelope of new-api's, which knows what became of the request.

    They are ``{"code", "message", "data"}`` of its tasks, ``{"error": {"message", "type", …}}`` and
    ``{"success": false, "message"}`` of its dashboard, all of them with any status. What proxies
    and load balancers write looks much alike, but for the types.
    """
    typed = told is document or (isinstance(told.get("type"), str) and error_of(told) is not None)
    return typed and _in_envelope(document, told)


def _in_envelope(document: dict[str, Any], told: dict[str, Any]) -> bool:
    """Whether an error has the shape of one of new-api's, perhaps without its type."""
    if not isinstance(told.get("message"), str):
        return False
    if told is not document:
        return True
    code = document.get("code")
    named = isinstance(code, str) and code not in {"", "success"}
    return named or document.get("success") is False


def _what_instead(response: Response) -> str:
    if not response.body.strip():
        return "an empty body"
    beginning = response.body[:512].lstrip().lower()
    content_type = response.headers.get("Content-Type", "").lower()
    if "html" in content_type or beginning.startswith((b"<!doctype", b"<html")):
        return "an HTML page where JSON belongs; is the base URL right?"
    return "no readable JSON"
