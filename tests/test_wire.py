"""The dialects of JSON: one test for each shape, field and spelling that a channel answers with."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from typing import Any

import cattrs
import pytest

from octoremix import TaskStatus, Video, VideoError
from octoremix._wire import DEEPEST, error_of, load_json, make_converter, read_id, unwrap

from .responses import sample, video_of
from .sections import named


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# A recorded answer: its section of the reference, the id in it, and what is understood of it. All
# other fields stay None.
DIALECTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "veo_remix": (
        "§1.1",
        "video_456",
        {
            "status": TaskStatus.QUEUED,
            "raw_status": "queued",
            "progress": 0.0,
            "model": "veo_3_1-extend",
            "created_at": at(1712698600),
            "size": "720x1280",
            "seconds": "8",
            "remixed_from_video_id": "video_123",
        },
    ),
    "grok_remix": (
        "§1.1",
        "grok:48a67431-0708-46d1-9ab9-83cb84700153",
        {"status": TaskStatus.PROCESSING, "raw_status": "processing"},
    ),
    "sora_remix": (
        "§1.1",
        "task_9fY2mQ",
        {
            "status": TaskStatus.QUEUED,
            "raw_status": "queued",
            "progress": 0.0,
            "model": "sora-2",
            "created_at": at(1712698600),
            "size": "720x1280",
            "seconds": "8",
            "remixed_from_video_id": "video_123",
        },
    ),
    "veo_query": (
        "§1.3",
        "video_abc123",
        {
            "status": TaskStatus.PROCESSING,
            "raw_status": "processing",
            "progress": 50.0,
            "model": "veo_3_1-fast",
            "created_at": at(1735689600),
            "expires_at": at(1735776000),
            "size": "720x1280",
            "seconds": "8",
        },
    ),
    "built_query": (
        "§1.3",
        "task_9fY2mQ",
        {
            "status": TaskStatus.COMPLETED,
            "raw_status": "completed",
            "progress": 100.0,
            "model": "kling-v2",
            "created_at": at(1735689600),
            "completed_at": at(1735689700),
            "url": "https://gateway.example/v1/videos/task_9fY2mQ/content",
        },
    ),
    "gemini_query": (
        "§1.3 trap 1",
        "task_9fY2mQ",
        {
            "status": TaskStatus.PROCESSING,
            "raw_status": "in_progress",
            "progress": 50.0,
            "model": "veo-3.0-generate-001",
            "created_at": at(1735689600),
            "completed_at": at(1735689650),
        },
    ),
    "lifecycle_query": (
        "§1.3 trap 7",
        "task_9fY2mQ",
        {
            "status": TaskStatus.COMPLETED,
            "raw_status": "SUCCESS",
            "progress": 100.0,
            "created_at": at(1788393600),
            "completed_at": at(1788393900),
        },
    ),
    "legacy_record": (
        "§1.5",
        "task_xxxxx",
        {
            "status": TaskStatus.PROCESSING,
            "raw_status": "IN_PROGRESS",
            "progress": 50.0,
            "model": "seedance-2",
            "created_at": at(1775908082),
            "size": "720P",
            "seconds": "5",
        },
    ),
    "legacy_simple": (
        "§1.5",
        "task_xxxxx",
        {
            "status": TaskStatus.COMPLETED,
            "raw_status": "succeeded",
            "url": "https://cdn.example/a.mp4",
        },
    ),
    "unified_veo": ("§1.6", "task_xxxxx", {"status": TaskStatus.QUEUED, "raw_status": "pending"}),
    "unified_sora": (
        "§1.6",
        "sora-2:task_01k9008",
        {
            "status": TaskStatus.QUEUED,
            "raw_status": "pending",
            "progress": 0.0,
            "model": "sora-2",
            "created_at": at(1759763621),
            "size": "large",
        },
    ),
    "unified_grok": (
        "§1.6",
        "grok:48a67431-0708-46d1-9ab9-83cb84700153",
        {"status": TaskStatus.UNKNOWN, "raw_status": "unknown", "progress": 50.0},
    ),
    "xai_query": (
        "§1.3 trap 6",
        "",
        {
            "status": TaskStatus.COMPLETED,
            "raw_status": "done",
            "model": "grok-imagine",
            "url": "https://cdn.example/xai.mp4",
        },
    ),
    "stored_error": (
        "§1.3 trap 4",
        "task_9fY2mQ",
        {
            "status": TaskStatus.FAILED,
            "raw_status": "failed",
            "error": VideoError(code="lost", message="the upstream lost the job"),
        },
    ),
    "bare_row": ("§1.3 trap 4", "task_9fY2mQ", {"status": TaskStatus.UNKNOWN}),
}


@pytest.mark.parametrize("name", named(DIALECTS))
def test_each_dialect_is_understood(name: str) -> None:
    """Every recorded shape gives exactly the fields that it tells, and its own id."""
    document = sample(name)
    _, own_id, fields = DIALECTS[name]
    assert video_of(document) == Video(id="task_1", raw=document, **fields)
    assert read_id(unwrap(document)) == (own_id or None)


WORDS: dict[TaskStatus, str] = {
    TaskStatus.QUEUED: (
        "queued pending submitted not_start notstarted created starting preparing initializing "
        "waiting scheduled"
    ),
    TaskStatus.PROCESSING: "in_progress processing running generating",
    TaskStatus.COMPLETED: "completed complete success succeeded finished done",
    TaskStatus.FAILED: "failed failure fail error",
    TaskStatus.CANCELLED: "cancelled canceled",
    TaskStatus.EXPIRED: "expired",
    TaskStatus.UNKNOWN: "unknown stuck completed! not_done",
}


@pytest.mark.parametrize(
    ("word", "status"), [(word, status) for status in WORDS for word in WORDS[status].split()]
)
def test_each_word_for_a_status_is_known_in_any_spelling(word: str, status: TaskStatus) -> None:
    """§2.2: a status is read whatever its case, with a dash or a space for its underscore, or padded."""
    for spelling in (word, word.upper(), word.title(), f" {word}\n"):
        assert video_of({"id": "task_1", "status": spelling}).status is status
    for sign in "- ":
        assert video_of({"id": "task_1", "status": word.replace("_", sign)}).status is status


@pytest.mark.parametrize("word", ["", None, "wird bearbeitet", "NaN", "完成"])
def test_a_word_that_is_not_known_keeps_the_task_going(word: str | None) -> None:
    """§2.2: an unknown, empty or missing status is no end of a task."""
    video = video_of({"id": "task_1", "status": word})
    assert video.status is TaskStatus.UNKNOWN
    assert not video.status.terminal
    assert video.raw_status == (word or None)


@pytest.mark.parametrize("status", [None, ""])
def test_an_error_in_the_place_of_a_status_is_a_failure(status: str | None) -> None:
    """§1.3 trap 4: a task that has an error and no status has failed; an empty error says nothing."""
    document = {"id": "task_1", "status": status, "error": {"message": "lost"}}
    assert video_of(document).status is TaskStatus.FAILED
    document["error"] = {"message": "", "code": ""}
    assert video_of(document).status is TaskStatus.UNKNOWN


def test_a_fail_reason_is_the_error_of_a_record() -> None:
    """§1.5: new-api's record tells in fail_reason why a task failed."""
    video = video_of({"task_id": "task_1", "status": "FAILURE", "fail_reason": "任务超时"})
    assert video.error == VideoError(message="任务超时")
    assert video.url is None


def test_a_set_completed_at_is_no_end() -> None:
    """§1.3 trap 1: gateways set completed_at while a task runs: only the status ends it."""
    video = video_of({"id": "task_1", "status": "in_progress", "completed_at": 1735689650})
    assert video.status is TaskStatus.PROCESSING
    assert video.completed_at == at(1735689650)


def test_progress_of_a_hundred_is_no_success() -> None:
    """§2.1: a failed task commonly shows 100 per cent, and a running one may."""
    assert video_of({"id": "a", "status": "failed", "progress": 100}).status is TaskStatus.FAILED
    running = video_of({"id": "a", "status": "processing", "progress": 100})
    assert running.status is TaskStatus.PROCESSING


def test_the_records_status_wins_over_its_upstreams() -> None:
    """§1.3 trap 5, §1.5: after the gateway's sweep the outer status is the end, whatever the inner one still says."""
    record = sample("legacy_record")["data"]
    record["status"] = "FAILURE"
    record["data"]["status"] = "processing"
    assert video_of({"code": "success", "message": "", "data": record}).status is TaskStatus.FAILED
    assert video_of(record).status is TaskStatus.FAILED


@pytest.mark.parametrize(
    "envelope",
    [
        lambda task: {"code": "success", "message": "", "data": task},
        lambda task: {"code": "success", "data": {"code": "success", "data": task}},
        lambda task: {"code": 0, "msg": "ok", "data": task},
        lambda task: {"status": "success", "data": task},
    ],
)
def test_an_envelope_is_taken_off(envelope: Any) -> None:
    """§1.5: the task inside an envelope is read, not the envelope's own words."""
    document = envelope({"id": "task_9", "status": "processing", "progress": "30%"})
    video = video_of(document)
    assert (video.status, video.progress) == (TaskStatus.PROCESSING, 30.0)
    assert video.raw == document
    assert read_id(unwrap(document)) == "task_9"


IDS: list[tuple[dict[str, Any], str | None]] = [
    ({"id": "a", "task_id": "b"}, "a"),
    ({"id": "", "task_id": "b"}, "b"),
    ({"id": " ", "task_id": "b"}, "b"),
    ({"id": None, "task_id": "b"}, "b"),
    ({"id": 123, "task_id": "b"}, "b"),
    ({"id": ["a"], "task_id": "b"}, "b"),
    ({"data": {"task_id": "c", "id": "d"}}, "c"),
    ({"data": {"id": "d"}}, "d"),
    ({"id": 123, "data": {"task_id": "c"}}, "c"),
    ({"id": 123}, "123"),
    ({"id": 1, "task_id": 2}, "1"),
    ({"id": True}, None),
    ({"id": 1.5}, None),
    ({"data": []}, None),
    ({"request_id": "r"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("document", "task_id"), IDS)
def test_the_id_is_found_in_each_place(document: dict[str, Any], task_id: str | None) -> None:
    """§2.3: a text is the id before any number, which is a row of the gateway's table."""
    assert read_id(document) == task_id


def test_the_id_that_was_asked_for_stays() -> None:
    """§2.3: a body that calls the task by another name does not rename it."""
    document = {"id": "upstream_7", "task_id": "upstream_7", "status": "queued"}
    assert video_of(document, "video:1/2").id == "video:1/2"


@pytest.mark.parametrize("name", named(DIALECTS))
def test_raw_is_the_whole_object_untouched(name: str) -> None:
    """Video.raw equals what came, envelope and unknown fields included."""
    document = sample(name) | {"unknown": [{"deep": None}, "ü", 1e400]}
    assert video_of(copy.deepcopy(document)).raw == document


def test_a_snapshot_can_be_pickled_and_hashed() -> None:
    """A video from the wire crosses processes and can be a member of a set."""
    video = video_of(sample("veo_query"))
    assert pickle.loads(pickle.dumps(video)) == video == copy.deepcopy(video)
    assert len({video, video_of(sample("veo_query"))}) == 1


def test_the_converter_is_our_own() -> None:
    """Nothing is registered with the converter that all users of cattrs share."""
    fields = {"id": "a", "status": "done", "progress": "50%", "raw": {}}
    assert make_converter().structure(fields, Video).progress == 50.0
    assert cattrs.structure("5", float) == 5.0


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_is_read_to_a_bounded_depth(opening: str) -> None:
    """What is nested so deeply that comparing or pickling it could fail is refused at once."""
    closing = "]" if opening == "[" else "}"
    for levels, refused in [(DEEPEST, False), (DEEPEST + 1, True), (900, True), (100_000, True)]:
        body = (opening * (levels - 1) + opening[0] + closing + closing * (levels - 1)).encode()
        if refused:
            with pytest.raises(RecursionError):
                load_json(body)
        else:
            load_json(body)


def test_a_long_flat_document_is_not_deep() -> None:
    """Many brackets beside each other, or in a text, are no nesting."""
    document = {"items": [{"id": number} for number in range(1000)], "text": "[{" * 1000}
    assert video_of(document | {"id": "a", "status": "queued"}).raw["text"] == "[{" * 1000


def test_an_upstreams_error_that_is_nested_for_ever_stays_a_text() -> None:
    """A message that looks like JSON and is too deep is shown as it is."""
    message = '{"a":' * 5000 + "1" + "}" * 5000
    assert error_of(message) == VideoError(message=message)
