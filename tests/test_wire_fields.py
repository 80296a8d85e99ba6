"""The fields of a task: one row for each place and spelling that some channel uses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from octoremix import VideoError

from .responses import video_of

LINK = "https://cdn.example/a.mp4?signature=s"
OTHER_LINK = "https://cdn.example/other.mp4"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


PROGRESS: list[tuple[object, float | None]] = [
    (50, 50.0),
    (50.5, 50.5),
    ("50", 50.0),
    ("50%", 50.0),
    (" 50 % ", 50.0),
    ("0", 0.0),
    (0, 0.0),
    (100, 100.0),
    (101, 100.0),
    (-1, 0.0),
    (10**400, None),
    (float("nan"), None),
    (float("inf"), None),
    ("1e999", None),
    ("soon", None),
    ("", None),
    (None, None),
    (True, None),
    ([50], None),
    ({"percent": 50}, None),
]


@pytest.mark.parametrize(("value", "progress"), PROGRESS)
def test_progress_in_each_spelling(value: object, progress: float | None) -> None:
    """§2.3: progress is a number from 0 to 100, or None where there is none."""
    assert (
        video_of({"id": "task_1", "status": "processing", "progress": value}).progress == progress
    )


MOMENTS: list[tuple[object, datetime | None]] = [
    (1735689600, at(1735689600)),
    (1735689600.5, at(1735689600.5)),
    ("1735689600", at(1735689600)),
    (1764347090922, at(1764347090.922)),
    (1764347090922000, at(1764347090.922)),
    ("2025-11-08T23:07:57.510141923+08:00", datetime(2025, 11, 8, 15, 7, 57, 510141, UTC)),
    ("2025-11-08T23:07:57Z", datetime(2025, 11, 8, 23, 7, 57, tzinfo=UTC)),
    ("2025-11-08T23:07:57", datetime(2025, 11, 8, 23, 7, 57, tzinfo=UTC)),
    (0, None),
    ("0", None),
    ("", None),
    (None, None),
    (-5, None),
    (10**400, None),
    (float("nan"), None),
    (True, None),
    ("yesterday", None),
    ("0001-01-01T00:00:00+23:59", None),
    ([], None),
    ({"seconds": 5}, None),
]


@pytest.mark.parametrize("name", ["created_at", "completed_at", "expires_at"])
@pytest.mark.parametrize(("value", "moment"), MOMENTS)
def test_moments_in_each_spelling(name: str, value: object, moment: datetime | None) -> None:
    """§2.3: seconds, finer units and ISO 8601 give the same aware moment, and 0 means not yet."""
    assert getattr(video_of({"id": "task_1", "status": "x", name: value}), name) == moment


TEXTS: list[tuple[object, str | None]] = [
    ("8", "8"),
    ("5.04", "5.04"),
    (8, "8"),
    (5.5, "5.5"),
    ("720P", "720P"),
    ("large", "large"),
    ("", None),
    ("  ", None),
    (0, None),
    (None, None),
    (True, None),
    ([8], None),
    ({"value": 8}, None),
]


@pytest.mark.parametrize("name", ["seconds", "size", "model", "quality", "remixed_from_video_id"])
@pytest.mark.parametrize(("value", "text"), TEXTS)
def test_texts_in_each_spelling(name: str, value: object, text: str | None) -> None:
    """§2.3: a text may come as a number, and what is empty or of another type is None."""
    assert getattr(video_of({"id": "task_1", "status": "queued", name: value}), name) == text


def test_the_source_has_a_second_name() -> None:
    """§2.3: gateways of the same family call the source parent_video_id."""
    video = video_of({"id": "task_1", "remixed_from_video_id": "", "parent_video_id": "video_9"})
    assert video.remixed_from_video_id == "video_9"


ERRORS: list[tuple[object, VideoError | None]] = [
    (None, None),
    ("", None),
    ("  ", None),
    ({}, None),
    ({"message": "", "code": ""}, None),
    ({"message": None, "code": None}, None),
    ({"message": "", "code": 0}, None),
    (False, None),
    (0, None),
    ([], None),
    ("refused", VideoError(message="refused")),
    (
        {"message": "refused", "code": "moderation"},
        VideoError(code="moderation", message="refused"),
    ),
    ({"message": "refused", "code": 400}, VideoError(code="400", message="refused")),
    ({"message": "refused"}, VideoError(message="refused")),
    ({"code": "moderation"}, VideoError(code="moderation")),
    ({"detail": "refused"}, VideoError(message="refused")),
    ({"message": {"why": "böse"}}, VideoError(message='{"why": "böse"}')),
    (
        {"message": '{"error":{"message":"refused","code":"moderation"}}'},
        VideoError(code="moderation", message="refused"),
    ),
    (
        {"message": ' {"message":"refused","code":"inner"}', "code": "outer"},
        VideoError(code="outer", message="refused"),
    ),
    ('{"detail":"refused"}', VideoError(message="refused")),
    ('{"code":"only"}', VideoError(code="only", message='{"code":"only"}')),
    ('{"unknown":1}', VideoError(message='{"unknown":1}')),
    ('{"cut":', VideoError(message='{"cut":')),
    ('{"error":"\ud800"}', VideoError(message="\ud800")),
]


@pytest.mark.parametrize(("value", "error"), ERRORS)
def test_errors_in_each_spelling(value: object, error: VideoError | None) -> None:
    """§2.3: an error is a text or an object, perhaps an upstream's JSON inside, and empty is none."""
    assert video_of({"id": "task_1", "status": "failed", "error": value}).error == error


PLACES: list[dict[str, Any]] = [
    {"video_url": LINK},
    {"url": LINK},
    {"metadata": {"url": LINK}},
    {"output": {"url": LINK}},
    {"output": LINK},
    {"output": [LINK]},
    {"video": {"url": LINK}},
    {"result_url": LINK},
    {"data": {"result_url": LINK}},
    {"data": {"url": LINK}},
    {"data": {"content": {"video_url": LINK}}},
    {"data": {"video_url": LINK}},
    {"data": {"metadata": {"url": LINK}}},
    {"data": {"data": {"content": {"video_url": LINK}}}},
    {"data": {"data": {"video_url": LINK}}},
    {"videos": [{"url": LINK}]},
    {"fail_reason": LINK},
]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_the_link_is_found_in_each_place(place: dict[str, Any]) -> None:
    """§2.3: the result's link is found wherever a channel puts it, also inside the legacy envelope."""
    task = {"task_id": "task_1", "status": "SUCCESS", **place}
    assert video_of(task).url == LINK
    assert video_of({"code": "success", "message": "", "data": task}).url == LINK


# Where one field would have to hold both, there is nothing to choose.
@pytest.mark.parametrize(
    "worse",
    [
        later
        for later in range(1, len(PLACES))
        if not PLACES[later - 1].keys() & PLACES[later].keys()
    ],
)
def test_the_better_place_wins(worse: int) -> None:
    """§2.3: of two places that hold a link, the one that is probed first is taken."""
    better = PLACES[worse - 1]
    other = {
        key: OTHER_LINK if value == LINK else _replaced(value)
        for key, value in PLACES[worse].items()
    }
    assert video_of({"task_id": "task_1", "status": "SUCCESS", **other, **better}).url == LINK


def _replaced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner) for inner in value]
    return OTHER_LINK


def test_the_records_own_link_is_better_than_its_upstreams() -> None:
    """§2.3, §1.5: a record's result_url is taken before any link of the upstream's object inside it."""
    for inner in ({"url": OTHER_LINK}, {"video_url": OTHER_LINK}, {"result_url": OTHER_LINK}):
        record = {"task_id": "task_1", "status": "SUCCESS", "result_url": LINK, "data": inner}
        assert video_of({"code": "success", "data": record}).url == LINK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "任务超时",
        "upstream error",
        "ftp://cdn.example/a",
        "//cdn.example/a.mp4",
        5,
        None,
        {},
    ],
)
@pytest.mark.parametrize("name", ["video_url", "url", "result_url", "output"])
def test_a_failure_text_is_no_link(name: str, text: object) -> None:
    """§1.3 trap 2: what stands where a link belongs is one only if it begins like one."""
    video = video_of({"id": "task_1", "status": "failed", name: text, "metadata": {"url": text}})
    assert video.url is None


def test_a_failure_text_does_not_hide_the_link() -> None:
    """§1.3 trap 2: behind a text in a better place the link is still found."""
    video = video_of(
        {"id": "task_1", "status": "completed", "url": "超时", "videos": [{"url": LINK}]}
    )
    assert video.url == LINK


@pytest.mark.parametrize(
    "link", ["HTTPS://CDN.EXAMPLE/A.MP4", "data:video/mp4;base64,AAAA", f" {LINK} "]
)
def test_a_link_may_be_upper_case_inline_or_padded(link: str) -> None:
    """§2.3: the scheme is compared without case, and the white space around a link is left out."""
    assert video_of({"id": "task_1", "status": "done", "video_url": link}).url == link.strip()
