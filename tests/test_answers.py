"""What an answer means: a task, a refusal that bought nothing, or nothing that can be relied on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from octoremix import (
    BadRequestError,
    InvalidResponseError,
    PollPolicy,
    RateLimitError,
    RemixFailedError,
    ServerError,
    Session,
    TaskStatus,
    UnexpectedRedirectError,
    VideoError,
)
from octoremix._protocol import Refused, Unclear, read_accepted, read_error, read_task
from octoremix._wire import Reading
from octoremix.models import outcome_of

from .responses import HTML, answer, middleware_error, refused_query, sample, task_error
from .scripted import ScriptedGateway, reply, task
from .sections import named

# What a submit gets: the section of the reference, status, body, and whether the refusal is safe to
# send again.
REFUSED: dict[str, tuple[str, int, object, bool]] = {
    "wrong request": ("§3.1 E1", 400, task_error("invalid_request"), True),
    "bad key": ("§3.1 E2", 401, middleware_error("Invalid token"), True),
    "quota": ("§3.1 E1", 403, task_error("insufficient_user_quota"), True),
    "no route": ("§3.1 E2", 404, middleware_error("Invalid URL", param=""), True),
    "upstream's 408": ("§3.2", 408, task_error("fail_to_fetch_task"), True),
    "saturated": ("§3.1 E1", 429, task_error("fail_to_fetch_task"), True),
    "empty 429": ("§3.1 E5", 429, b"", True),
    "HTML 429": ("§3.1 E7", 429, HTML, True),
    "list 429": ("§3.2", 429, [], True),
    "429 with a task": ("§3.2", 429, {"id": "task_1", "status": "queued"}, True),
    "429 with a panic": (
        "§3.1 E6",
        429,
        {"error": {"message": "x", "type": "new_api_panic"}},
        True,
    ),
    "no upstream": ("§3.1 E1", 500, task_error("do_request_failed"), True),
    "broken upstream": ("§3.2", 502, task_error("fail_to_fetch_task", "<html>"), True),
    "no message": ("§3.1 E1", 500, task_error("do_request_failed", ""), True),
    "database": ("§3.1 E2", 500, middleware_error("database error"), True),
    "no channel": ("§3.1 E2", 503, middleware_error("no", "model_not_found"), True),
    "upstream's time-out": ("§3.2", 504, task_error("fail_to_fetch_task"), False),
    "upstream's edge's time-out": ("§3.2", 524, task_error("fail_to_fetch_task"), False),
    "middleware's 504": ("§3.2", 504, middleware_error(), False),
    "an error within 202": ("§3.1 E8", 202, task_error("fail_to_fetch_task"), True),
    "an error within 200": ("§3.1 E8", 200, middleware_error("no"), True),
    "dashboard within 200": ("§3.1 E8", 200, {"success": False, "message": ""}, True),
    "a failure of no task": ("§3.1", 400, {"status": "failure", "message": "no"}, True),
    "detail": ("§3.1", 422, {"detail": [{"msg": "no"}]}, True),
    "error with a request's id": ("§3.1 E2", 400, middleware_error() | {"request_id": "r"}, True),
    "error with an id": ("§3.1", 400, {"id": "req_9", "status": "error", "message": "no"}, True),
}


@pytest.mark.parametrize("name", named(REFUSED))
def test_a_clear_no_to_a_submit(name: str) -> None:
    """An error in the gateway's own envelope bought nothing, and 504 and 524 may yet have."""
    _, status, body, safe = REFUSED[name]
    judged = read_accepted(answer(body, status))
    assert isinstance(judged, Refused)
    assert judged.error.safe_to_resubmit is safe
    assert judged.error.id is None


UNCLEAR: dict[str, tuple[str, int, object]] = {
    "panic": ("§3.1 E6", 500, {"error": {"message": "Panic detected", "type": "new_api_panic"}}),
    "panic with another status": (
        "§3.1 E6",
        400,
        {"error": {"message": "x", "type": "new_api_panic"}},
    ),
    "HTML 200": ("§3.1 E7", 200, HTML),
    "HTML 400": ("§3.1 E7", 400, HTML),
    "HTML 403": ("§3.1 E7", 403, HTML),
    "HTML 502": ("§3.1 E7", 502, HTML),
    "HTML 524": ("§3.1 E7", 524, HTML),
    "empty 200": ("§3.1 E5", 200, b""),
    "empty 204": ("§3.1 E5", 204, b""),
    "empty 400": ("§3.1 E5", 400, b""),
    "empty 500": ("§3.1 E5", 500, b""),
    "cut 200": ("§3.3", 200, b'{"id": "task_1", "sta'),
    "cut 500": ("§3.3", 500, b'{"code": "x"'),
    "cut 400": ("§3.3", 400, b'{"code": "x"'),
    "list": ("§1.1", 200, [{"id": "task_1"}]),
    "null": ("§1.1", 200, None),
    "no id": ("§1.1", 200, {"status": "queued"}),
    "no id but a failure": ("§1.1", 200, {"status": "failure", "message": "no"}),
    "empty object": ("§1.1", 200, {}),
    "empty 4xx object": ("§1.1", 400, {}),
    "healthy object without id": (
        "§1.1",
        200,
        {"object": "video", "error": {"message": "", "code": ""}},
    ),
    "typed empty error": ("§1.1", 200, {"error": {"message": "", "type": "", "code": ""}}),
    "empty envelope": ("§1.1", 200, {"code": "success", "message": "", "data": None}),
    "an id with an error's status": ("§1.1", 400, {"id": "task_1", "object": "video"}),
    "an id with a server error": ("§1.1", 500, {"id": "task_1"}),
    "load balancer's message": ("§3.1", 502, {"message": "upstream request timeout"}),
    "load balancer's numeric code": ("§3.1", 502, {"code": 502, "message": "bad gateway"}),
    "cluster's status": (
        "§3.1",
        500,
        {"kind": "Status", "status": "Failure", "message": "x", "code": 500},
    ),
    "cloud's error": (
        "§3.1",
        503,
        {"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}},
    ),
    "framework's error": (
        "§3.1",
        500,
        {"status": 500, "error": "Internal Server Error", "path": "/v1"},
    ),
    "edge's problem": (
        "§3.1",
        524,
        {"type": "about:blank", "title": "A timeout occurred", "status": 524},
    ),
    "proxy's time-out": ("§3.1", 408, {"message": "request timeout"}),
    "client gone": ("§3.1", 499, {"detail": "client closed request"}),
    "an earlier twin": ("§4.3", 409, middleware_error("in progress", "idempotency_in_progress")),
    "id that vanishes": ("§4.2", 200, {"id": "..", "status": "queued"}),
    "id that can't be sent": ("§4.2", 200, {"id": "\ud800", "status": "queued"}),
    "request_id of another type": ("§1.1", 200, {"request_id": 5}),
}


@pytest.mark.parametrize("name", named(UNCLEAR))
def test_an_answer_to_a_submit_that_may_hide_a_purchase(name: str) -> None:
    """What the gateway did not clearly refuse may have been bought, and is not safe to send again."""
    _, status, body = UNCLEAR[name]
    judged = read_accepted(answer(body, status))
    assert isinstance(judged, Unclear)
    assert not judged.error.safe_to_resubmit


ACCEPTED: dict[str, tuple[str, int, object, str, TaskStatus]] = {
    "documented": ("§1.1", 200, sample("veo_remix"), "video_456", TaskStatus.QUEUED),
    "minimal": (
        "§1.1",
        200,
        sample("grok_remix"),
        "grok:48a67431-0708-46d1-9ab9-83cb84700153",
        TaskStatus.PROCESSING,
    ),
    "re-serialised": ("§1.1", 200, sample("sora_remix"), "task_9fY2mQ", TaskStatus.QUEUED),
    "another good status": ("§1.1", 201, {"id": "t", "status": "queued"}, "t", TaskStatus.QUEUED),
    "task_id alone": ("§2.3", 200, {"task_id": "t"}, "t", TaskStatus.UNKNOWN),
    "request_id alone": ("§2.3", 200, {"request_id": "t"}, "t", TaskStatus.UNKNOWN),
    "id inside": (
        "§2.3",
        200,
        {"code": "success", "data": {"task_id": "t"}},
        "t",
        TaskStatus.UNKNOWN,
    ),
    "id without a status": ("§1.3 trap 4", 200, {"id": "t"}, "t", TaskStatus.UNKNOWN),
    "a row's number alone": ("§2.3", 200, {"id": 7, "status": "queued"}, "7", TaskStatus.QUEUED),
    "failed at once": (
        "§1.3 trap 4",
        200,
        {"id": "t", "error": {"message": "no"}},
        "t",
        TaskStatus.FAILED,
    ),
    "a task with 500": ("§3.2", 500, {"id": "t", "status": "queued"}, "t", TaskStatus.QUEUED),
    "a failed video with 400": (
        "§3.2",
        400,
        {"id": "t", "object": "video", "status": "failed"},
        "t",
        TaskStatus.FAILED,
    ),
    "unreadable status": ("§2.3", 200, {"id": "t", "status": {"is": 5}}, "t", TaskStatus.UNKNOWN),
    "unreadable all": (
        "§2.3",
        200,
        {"id": "t", "status": 5, "progress": [], "created_at": {}, "error": 7, "data": "x"},
        "t",
        TaskStatus.UNKNOWN,
    ),
}


@pytest.mark.parametrize("name", named(ACCEPTED))
def test_an_accepted_job_yields_its_id(name: str) -> None:
    """Whatever else an answer holds, the id that was paid for is found."""
    _, status, body, task_id, task_status = ACCEPTED[name]
    reading = read_accepted(answer(body, status))
    assert isinstance(reading, Reading)
    assert reading.task_id == task_id
    assert reading.status is task_status
    assert reading.video.id == task_id


@pytest.mark.parametrize("status", [400, 422, 500, 503])
@pytest.mark.parametrize("extra", [{}, {"object": "video"}, {"progress": 100}])
def test_a_failed_job_answered_with_an_errors_status_is_a_failed_job(
    status: int, extra: dict[str, Any]
) -> None:
    """§3.2: the video's object is read whatever the status that it comes with."""
    body = {"id": "task_1", "status": "failed", "error": {"message": "moderated"}, **extra}
    outcome = outcome_of(read_task(answer(body, status), "task_1").video)
    assert isinstance(outcome, RemixFailedError)
    assert "moderated" in str(outcome)


def test_a_queried_task_may_change_its_id_with_an_errors_status() -> None:
    """§2.3: a running task's object counts also under another id, but an error's own id does not."""
    moved = {"id": "upstream_7", "status": "processing"}
    assert read_task(answer(moved, 500), "task_1").status is TaskStatus.PROCESSING
    assert type(refused_query(answer({"id": "req_1", "status": "failed"}, 500))) is ServerError
    assert type(refused_query(answer({"id": "req_1", "status": "ailing"}, 500))) is ServerError


def test_an_error_called_a_status_ends_no_task() -> None:
    """§3.1: an envelope such as {"status": "error", "message": …} is a failed query, no failed job."""
    error = refused_query(answer({"status": "error", "message": "try later"}))
    assert isinstance(error, InvalidResponseError)
    failed = {"status": "failed", "error": {"message": "moderated", "code": "x"}}
    video = read_task(answer(failed), "task_1").video
    assert video.error == VideoError(code="x", message="moderated")


BAD = {
    "HTML": (HTML, "HTML"),
    "HTML by its type": (b"welcome", "HTML"),
    "truncated": (b'{"id": "task_1", "status": "comp', "JSON"),
    "a list": ([{"id": "task_1"}], "no object"),
    "null": (None, "no object"),
    "a number": (5, "no object"),
    "a text": ("done", "no object"),
    "empty": (b"", "empty"),
    "blank": (b" \r\n ", "empty"),
    "no UTF-8": (b'{"id": "\xff"}', "JSON"),
    "a status that is a number": ({"id": "task_1", "status": 5}, "status"),
    "a status that is an object": ({"id": "task_1", "status": {"a": 1}}, "status"),
    "a status that is true": ({"id": "task_1", "status": True}, "status"),
    "an inner status": ({"code": "success", "data": {"status": []}}, "status"),
    "nested deeply": (b'{"a":' * 100_000, "deep"),
    "nested as deeply as can be read": (b'{"a":' * 900 + b"1" + b"}" * 900, "deep"),
    "nested lists": (b"[" * 100_000 + b"]" * 100_000, "deep"),
    "a number of many digits": (b'{"id": "task_1", "progress": ' + b"9" * 5000 + b"}", "JSON"),
    "neither": ({"hello": "world"}, "status"),
    "a good word": ({"code": 200, "message": "ok"}, "status"),
    "empty envelope": ({"code": "success", "message": "", "data": None}, "status"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_invalid_response(name: str) -> None:
    """§3.3: an answer that can't be understood says what is wrong, naming the field, and nothing else."""
    body, problem = BAD[name]
    headers = {"Content-Type": "text/html"} if name == "HTML by its type" else {}
    error = refused_query(answer(body, headers=headers))
    assert isinstance(error, InvalidResponseError)
    assert len(error.problems) == 1
    assert problem in error.problems[0]
    assert error.problems[0] in str(error)
    assert error.__cause__ is None


async def test_a_poll_answered_with_bad_input_is_repeated() -> None:
    """§3.3: no answer that can't be understood ends a wait: the task is asked for again."""
    bad = [
        body if isinstance(body, bytes) else json.dumps(body).encode() for body, _ in BAD.values()
    ]
    async with (
        ScriptedGateway(polls=[*map(reply, bad), task("completed")]) as gateway,
        Session("k", base_url=gateway.url, poll=PollPolicy(max_failures=100)) as session,
    ):
        video = await session.track("task_1")
    assert video.status is TaskStatus.COMPLETED
    assert len(gateway.gets) == len(bad) + 1


def test_a_missing_id_is_named() -> None:
    """§1.1: a submit's answer without an id names the field, and one with a bad id shows it escaped."""
    judged = read_accepted(answer({"status": "queued"}))
    assert isinstance(judged, Unclear)
    assert judged.error.problems == ("id: missing",)  # type: ignore[attr-defined]
    judged = read_accepted(answer({"id": "\ud800\u202e", "status": "queued"}))
    assert isinstance(judged, Unclear)
    assert r"\ud800\u202e" in str(judged.error)


def test_a_body_that_was_cut_off_for_its_length() -> None:
    """§3.3: a body that is too long is not judged by its beginning; a 429 is one all the same."""
    body = b'{"id": "task_1", "status": "completed"}'
    error = refused_query(answer(body, complete=False))
    assert isinstance(error, InvalidResponseError)
    assert "longer than 39 bytes" in str(error)
    assert isinstance(read_accepted(answer(body, complete=False)), Unclear)
    assert type(refused_query(answer(body, 500, complete=False))) is ServerError
    limited = read_accepted(answer(b"x", 429, complete=False))
    assert isinstance(limited, Refused)
    assert isinstance(limited.error, RateLimitError)


@pytest.mark.parametrize(
    ("status", "safe"), [(301, False), (302, False), (303, False), (307, True), (308, True)]
)
@pytest.mark.parametrize("body", [b"", HTML, b'{"id": "task_1", "status": "completed"}'])
def test_a_redirect_names_its_target(status: int, safe: bool, body: bytes) -> None:
    """§1: no redirect is followed or read: the error says where it points, without the query."""
    response = answer(body, status, {"Location": "https://moved.example/v1/x?token=secret#frag"})
    judged = read_accepted(response)
    assert isinstance(judged, Refused)
    for error in (judged.error, refused_query(response)):
        assert isinstance(error, UnexpectedRedirectError)
        assert error.location == "https://moved.example/v1/x"
        assert error.location in str(error)
        assert "base URL" in str(error)
        assert error.safe_to_resubmit is safe
    assert "secret" not in str(judged.error)


def test_a_redirect_without_a_target() -> None:
    """A redirect that points nowhere is one still."""
    error = refused_query(answer(b"", 304))
    assert isinstance(error, UnexpectedRedirectError)
    assert error.location is None
    assert "nowhere" in str(error)


def test_an_answer_repeated_to_the_byte_is_the_same_reading() -> None:
    """An unchanged answer is not read again, and a changed one or another status is."""
    first = read_task(answer(sample("veo_query")), "video_abc123")
    assert read_task(answer(sample("veo_query")), "video_abc123", first) is first
    changed = sample("veo_query") | {"progress": 51}
    assert read_task(answer(changed), "video_abc123", first) is not first
    with pytest.raises(RateLimitError):
        read_task(answer(sample("veo_query"), 429), "video_abc123", first)


def test_the_error_of_an_answer_that_should_have_been_a_video() -> None:
    """§1.4: where bytes were asked for, a refusal is named as elsewhere and a task's object is none."""
    error = read_error(answer({"id": "task_1", "status": "completed"}), "task_1")
    assert isinstance(error, InvalidResponseError)
    assert "where a video belongs" in str(error)
    refusal = {"error": {"message": "not completed yet", "type": "invalid_request_error"}}
    assert type(read_error(answer(refusal, 400), "task_1")) is BadRequestError
    assert type(read_error(answer(HTML, 502))) is ServerError


def test_readings_and_judgements_are_shown_shortly() -> None:
    """Their repr holds neither the body nor the headers' values at length."""
    response = answer(sample("veo_query"))
    assert repr(read_task(response, "task_1")) == "<Reading processing>"
    assert "video_abc123" not in repr(response)
