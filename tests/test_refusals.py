"""The error that names an answer: its class, its code, its words, and what else it keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from octoremix import (
    APIError,
    AuthenticationError,
    BadRequestError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    TaskNotFoundError,
)
from octoremix._protocol import read_task
from octoremix.models import outcome_of

from .responses import HTML, answer, middleware_error, refused_query, task_error
from .sections import named

# The section of the reference, status and body; then, of a query, the error's class, code and message.
ENVELOPES: dict[str, tuple[str, int, object, type[APIError], str | None, str]] = {
    "unknown task": (
        "§3.1 E1",
        400,
        task_error("task_not_exist", "task_not_exist"),
        TaskNotFoundError,
        "task_not_exist",
        "task_not_exist",
    ),
    "unknown source": (
        "§3.1 E1",
        400,
        task_error("task_not_exist", "task_origin_not_exist"),
        TaskNotFoundError,
        "task_not_exist",
        "task_origin_not_exist",
    ),
    "wrong request": (
        "§3.1 E1",
        400,
        task_error("invalid_request", "field prompt is required"),
        BadRequestError,
        "invalid_request",
        "field prompt is required",
    ),
    "source's channel off": (
        "§3.1 E1",
        400,
        task_error("task_channel_disable"),
        BadRequestError,
        "task_channel_disable",
        "no",
    ),
    "too large": (
        "§3.1 E1",
        413,
        task_error("read_request_body_failed"),
        BadRequestError,
        "read_request_body_failed",
        "no",
    ),
    "wallet empty": (
        "§3.1 E1",
        403,
        task_error("insufficient_user_quota", "用户额度不足"),
        QuotaExceededError,
        "insufficient_user_quota",
        "用户额度不足",
    ),
    "key's quota too small": (
        "§3.1 E1",
        403,
        task_error("pre_consume_token_quota_failed"),
        QuotaExceededError,
        "pre_consume_token_quota_failed",
        "no",
    ),
    "payment required": ("§3.2", 402, middleware_error(), QuotaExceededError, None, "no"),
    "bad key": (
        "§3.1 E2",
        401,
        middleware_error("Invalid token"),
        AuthenticationError,
        None,
        "Invalid token",
    ),
    "no access": (
        "§3.1 E2",
        403,
        middleware_error("no access", "access_denied"),
        PermissionDeniedError,
        "access_denied",
        "no access",
    ),
    "no such route": (
        "§3.1 E2",
        404,
        middleware_error("Invalid URL (GET /v1/x)", param=""),
        BadRequestError,
        None,
        "Invalid URL (GET /v1/x)",
    ),
    "relay's numeric code": (
        "§3.1 E2",
        400,
        middleware_error("no", 1001),
        BadRequestError,
        "1001",
        "no",
    ),
    "relay's null code": (
        "§3.1 E2",
        400,
        middleware_error("no", None),
        BadRequestError,
        None,
        "no",
    ),
    "saturated": (
        "§3.1 E1",
        429,
        task_error("fail_to_fetch_task", "当前分组上游负载已饱和"),
        RateLimitError,
        "fail_to_fetch_task",
        "当前分组上游负载已饱和",
    ),
    "limiter": ("§3.1 E2", 429, middleware_error(), RateLimitError, None, "no"),
    "limited and out of quota": (
        "§3.2",
        429,
        task_error("insufficient_user_quota"),
        RateLimitError,
        "insufficient_user_quota",
        "no",
    ),
    "empty limiter": ("§3.1 E5", 429, b"", RateLimitError, None, ""),
    "edge's limiter": ("§3.1 E7", 429, HTML, RateLimitError, None, ""),
    "no upstream": (
        "§3.1 E1",
        500,
        task_error("do_request_failed"),
        ServerError,
        "do_request_failed",
        "no",
    ),
    "not rendered": (
        "§3.2",
        501,
        task_error("not_implemented"),
        ServerError,
        "not_implemented",
        "no",
    ),
    "no channel": (
        "§3.1 E2",
        503,
        middleware_error("no", "model_not_found"),
        ServerError,
        "model_not_found",
        "no",
    ),
    "content not found": (
        "§3.1 E3",
        404,
        {"error": {"message": "Task not found", "type": "invalid_request_error"}},
        BadRequestError,
        None,
        "Task not found",
    ),
    "dashboard": (
        "§3.1 E4",
        401,
        {"success": False, "message": "No Authorization header"},
        AuthenticationError,
        None,
        "No Authorization header",
    ),
    "dashboard's code": (
        "§3.1 E4",
        403,
        {"success": False, "message": "no", "code": "AUTH_X"},
        PermissionDeniedError,
        "AUTH_X",
        "no",
    ),
    "dashboard within 200": (
        "§3.1 E8",
        200,
        {"success": False, "message": "no"},
        APIError,
        None,
        "no",
    ),
    "panic": (
        "§3.1 E6",
        500,
        {"error": {"message": "Panic detected", "type": "new_api_panic"}},
        ServerError,
        None,
        "Panic detected",
    ),
    "edge's page": ("§3.1 E7", 502, HTML, ServerError, None, ""),
    "edge's time-out": ("§3.1 E7", 524, HTML, ServerError, None, ""),
    "empty and broken": ("§3.1 E5", 500, b"", ServerError, None, ""),
    "an error within 202": (
        "§3.1 E8",
        202,
        task_error("fail_to_fetch_task", "no"),
        APIError,
        "fail_to_fetch_task",
        "no",
    ),
    "sibling's error within 200": (
        "§3.1 E8",
        200,
        {"error": {"message": "no", "message_zh": "不", "type": "x"}},
        APIError,
        None,
        "no",
    ),
    "a text within 200": ("§3.1 E8", 200, {"error": "no"}, APIError, None, "no"),
    "detail": ("§3.1", 404, {"detail": "Not Found"}, BadRequestError, None, "Not Found"),
    "details": (
        "§3.1",
        422,
        {"detail": [{"loc": ["id"]}]},
        BadRequestError,
        None,
        '[{"loc": ["id"]}]',
    ),
    "problem+json": (
        "§3.1",
        403,
        {"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "blocked"},
        PermissionDeniedError,
        None,
        "blocked",
    ),
    "problem+json without detail": (
        "§3.1",
        503,
        {"type": "about:blank", "title": "Unavailable", "status": 503},
        ServerError,
        None,
        "Unavailable",
    ),
    "an error called a status": (
        "§3.1",
        400,
        {"status": "failure", "message": "no"},
        BadRequestError,
        None,
        "no",
    ),
    "a request's id and a status": (
        "§3.1",
        401,
        {"id": "req_9", "status": "error", "message": "no"},
        AuthenticationError,
        None,
        "no",
    ),
    "a text for an error": ("§3.1", 401, {"error": "no"}, AuthenticationError, None, "no"),
    "nothing said": ("§3.1", 400, {}, BadRequestError, None, ""),
    "upstream's JSON in the message": (
        "§3.1 E1",
        400,
        task_error("fail_to_fetch_task", '{"error":{"message":"moderated","code":"safety"}}'),
        BadRequestError,
        "fail_to_fetch_task",
        "moderated",
    ),
    "upstream's page in the message": (
        "§3.1 E1",
        502,
        task_error("fail_to_fetch_task", "<html>down</html>"),
        ServerError,
        "fail_to_fetch_task",
        "<html>down</html>",
    ),
    "a status without a name": ("§3.2", 599, b"", ServerError, None, ""),
}


@pytest.mark.parametrize("name", named(ENVELOPES))
def test_each_envelope_is_a_typed_error(name: str) -> None:
    """Every envelope gives the error of its code or status, with what it says."""
    _, status, body, kind, code, message = ENVELOPES[name]
    error = refused_query(answer(body, status))
    assert type(error) is kind
    assert (error.code, error.message) == (code, message)
    assert str(error).startswith(f"task 'task_1': {status}")
    assert message[:40] in str(error)


REQUEST_IDS: list[tuple[dict[str, str], str, str | None]] = [
    ({"X-Oneapi-Request-Id": "a", "x-request-id": "b", "cf-ray": "c"}, "no", "a"),
    ({"x-oneapi-request-id": "a"}, "no", "a"),
    ({"X-Request-Id": "b", "request-id": "d"}, "no", "b"),
    ({"request-id": "d"}, "no", "d"),
    ({"x-litellm-call-id": "l", "cf-ray": "c"}, "no", "l"),
    ({"cf-ray": "c"}, "no (request id: e)", "c"),
    ({}, "Invalid token (request id: 2025121820262289EjVl0VZM)", "2025121820262289EjVl0VZM"),
    ({}, "no", None),
    ({"x-request-id": ""}, "no", None),
    ({"x-request-id": "a\x1b[31m\u202e"}, "no", r"a\x1b[31m\u202e"),
]


@pytest.mark.parametrize(("headers", "message", "request_id"), REQUEST_IDS)
def test_the_requests_id(headers: dict[str, str], message: str, request_id: str | None) -> None:
    """§3.3: the gateway's name for the request is taken from the headers, else from the message."""
    assert refused_query(answer(middleware_error(message), 401, headers)).request_id == request_id


RETRY_AFTER: list[tuple[str, float | None]] = [
    ("7", 7.0),
    (" 7 ", 7.0),
    ("0.5", 0.5),
    ("0", 0.0),
    ("-5", 0.0),
    ("nan", None),
    ("inf", None),
    ("1e999", None),
    ("soon", None),
    ("", None),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ("Wed, 21 Oct 2015 07:28:00 -0000", None),
    ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
]


@pytest.mark.parametrize(("value", "seconds"), RETRY_AFTER)
def test_retry_after(value: str, seconds: float | None) -> None:
    """§3.3: Retry-After is read as seconds or as a date, and nonsense is no pause."""
    assert refused_query(answer(b"", 429, {"Retry-After": value})).retry_after == seconds


def test_retry_after_as_a_date_to_come() -> None:
    """§3.3: a date that lies ahead gives the seconds until then."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    error = refused_query(answer(b"", 503, {"retry-after": later}))
    assert error.retry_after is not None
    assert 3500 < error.retry_after <= 3600


@pytest.mark.parametrize("status", [200, 400, 500])
def test_what_an_error_keeps_is_bounded(status: int) -> None:
    """However long an answer is, its error is short."""
    long = "ü" * 100_000
    for body in (task_error(long, long), middleware_error(long, long), long.encode()):
        error = refused_query(answer(body, status))
        assert len(error.body) <= 2000
        assert len(error.message) <= 2000
        assert len(error.code or "") <= 2000
        assert len(str(error)) < 1000


def test_the_body_is_kept_as_text() -> None:
    """The beginning of a body is kept, also where it is no text."""
    assert refused_query(answer(b"\xff<html>", 502)).body == "\ufffd<html>"
    assert refused_query(answer(task_error("x"), 400)).body.startswith('{"code": "x"')


def test_foreign_texts_are_escaped_in_an_errors_str() -> None:
    """Control characters, escape sequences and direction marks never reach a terminal."""
    nasty = "a\x1b[31m\r\n\x00\u202e\u2028\x9b b"
    responses = [
        answer(task_error(nasty, nasty), 400),
        answer(middleware_error(nasty, nasty), 500),
        answer(b"", 302, {"Location": f"/{nasty}"}),
        answer({"id": nasty, "status": 5}),
    ]
    for response in responses:
        with pytest.raises(APIError) as caught:
            read_task(response, nasty)
        assert str(caught.value).isprintable()
        assert caught.value.id == nasty
    failed = {"id": nasty, "status": "failed", "error": {"message": nasty, "code": nasty}}
    assert str(outcome_of(read_task(answer(failed), nasty).video)).isprintable()
