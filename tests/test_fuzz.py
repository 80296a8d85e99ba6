"""Whatever comes over the wire gives a value or an error of the library's own, and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from octoremix import APIError, Video
from octoremix._protocol import (
    API,
    Refused,
    Response,
    Unclear,
    parse_base_url,
    read_accepted,
    read_error,
    read_task,
)
from octoremix._wire import STATUS_WORDS, Reading
from octoremix.models import check_task_id, outcome_of

API_ = API(parse_base_url("https://gateway.example"))

NAMES = [
    "id",
    "task_id",
    "status",
    "data",
    "code",
    "message",
    "error",
    "url",
    "video_url",
    "metadata",
    "output",
    "video",
    "videos",
    "content",
    "result_url",
    "fail_reason",
    "progress",
    "created_at",
    "completed_at",
    "expires_at",
    "finish_time",
    "finished_at",
    "submit_time",
    "model",
    "size",
    "seconds",
    "quality",
    "remixed_from_video_id",
    "parent_video_id",
    "object",
    "type",
    "success",
    "detail",
    "title",
    "request_id",
    "param",
]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            *STATUS_WORDS,
            "unknown",
            "video",
            "task_1",
            "success",
            "50%",
            "https://cdn.example/a.mp4",
            "2025-11-08T23:07:57Z",
            "new_api_panic",
            '{"error":{"message":"m"}}',
            ".",
            "\ud800",
            10**400,
            1e308,
        ]
    )
)

ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)

OBJECTS = st.dictionaries(st.sampled_from(NAMES), ANY_JSON, max_size=8)

BODIES = (
    st.binary(max_size=200)
    | (OBJECTS | ANY_JSON).map(lambda value: json.dumps(value).encode())
    | OBJECTS.map(lambda value: json.dumps(value).encode("utf-16"))
    | st.tuples(OBJECTS, st.integers(0, 60)).map(lambda cut: json.dumps(cut[0]).encode()[: cut[1]])
    | st.tuples(
        st.sampled_from([b"[", b'{"data":', b'{"error":{"message":']), st.integers(1, 3000)
    ).map(lambda nest: nest[0] * nest[1])
)

STATUSES = st.sampled_from([200, 201, 202, 204, 301, 307, 400, 401, 403, 404, 408, 429]) | (
    st.integers(100, 999)
)

HEADERS = st.dictionaries(
    st.sampled_from(
        ["Location", "Retry-After", "Content-Type", "X-Oneapi-Request-Id", "cf-ray", "X-Other"]
    ),
    st.text(max_size=40)
    | st.sampled_from(["Wed, 21 Oct 2015 07:28:00 GMT", "nan", "-1", "1e400", "text/html"]),
    max_size=4,
)

RESPONSES = st.builds(
    Response,
    status=STATUSES,
    headers=HEADERS.map(CIMultiDict),
    body=BODIES,
    complete=st.sampled_from([True, True, True, False]),
)


def check_video(video: Video, task_id: str) -> None:
    """A snapshot holds what its types say, and can go wherever a value goes."""
    assert video.id == task_id
    assert video.progress is None or 0 <= video.progress <= 100
    for moment in (video.created_at, video.completed_at, video.expires_at):
        assert moment is None or moment.tzinfo is not None
    for text in (
        video.model,
        video.size,
        video.seconds,
        video.quality,
        video.url,
        video.raw_status,
    ):
        assert text is None or (isinstance(text, str) and text)
    assert isinstance(video.raw, dict)
    assert pickle.loads(pickle.dumps(video)).id == task_id
    assert copy.deepcopy(video).status is video.status
    assert hash(video) == hash(video)
    assert repr(video).isprintable()
    assert str(outcome_of(video)).isprintable()


def check_error(error: APIError, response: Response) -> None:
    """An error is bounded, can be shown and sent on, and hides no other exception."""
    assert str(error).isprintable()
    assert len(str(error)) < 8000
    assert len(error.body) <= 2000
    assert len(error.message) <= 2000
    assert error.status == response.status
    assert error.retry_after is None or error.retry_after >= 0
    assert error.__cause__ is None
    assert pickle.loads(pickle.dumps(error)).args == error.args


@settings(max_examples=300)
@given(response=RESPONSES, task_id=st.text(min_size=1, max_size=20))
@example(
    Response(
        status=200,
        headers={},
        body=b'{"id":"a","status":"done","error":' + b"[" * 900 + b"]" * 900 + b"}",
    ),
    "a",
)
def test_any_answer_to_a_query_is_a_reading_or_an_api_error(
    response: Response, task_id: str
) -> None:
    """No bytes, JSON, headers or status of a query's answer raise anything else."""
    try:
        reading = read_task(response, task_id)
    except APIError as error:
        judged: Any = error
    else:
        judged = reading
    if isinstance(judged, APIError):
        check_error(judged, response)
        assert judged.id == task_id
    else:
        check_video(judged.video, task_id)
        assert judged.video.status is judged.status
        assert read_task(response, task_id, judged).video == judged.video or nan_inside(response)


def nan_inside(response: Response) -> bool:
    """Whether the answer holds a number that is not equal to itself."""
    return b"NaN" in response.body or b"N\x00a\x00N" in response.body


@settings(max_examples=300)
@given(response=RESPONSES)
def test_any_answer_to_a_submit_is_judged(response: Response) -> None:
    """It is accepted with an id that can be asked for, refused, or unclear; a 429 is refused."""
    judged = read_accepted(response)
    if isinstance(judged, Reading):
        assert check_task_id(judged.task_id) == judged.task_id
        assert API_.query(judged.task_id).method == "GET"
        check_video(judged.video, judged.task_id)
        return
    assert isinstance(judged, (Refused, Unclear))
    check_error(judged.error, response)
    assert judged.error.id is None
    if isinstance(judged, Unclear):
        assert not judged.error.safe_to_resubmit
    if response.status == 429:
        assert isinstance(judged, Refused)
        assert judged.error.safe_to_resubmit


@given(response=RESPONSES, task_id=st.text(min_size=1, max_size=20))
def test_any_answer_in_the_place_of_a_video_is_an_error(response: Response, task_id: str) -> None:
    """Whatever comes instead of bytes is named."""
    check_error(read_error(response, task_id), response)
