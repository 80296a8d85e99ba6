"""The values that users hold: what they refuse, what makes them equal, where they can go."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import attrs
import pytest

import octoremix
from octoremix import (
    ConfigurationError,
    Event,
    RemixCancelledError,
    RemixExpiredError,
    RemixFailedError,
    RemixRequest,
    SessionStats,
    TaskStatus,
    Video,
    VideoError,
)
from octoremix.models import check_source_id, check_task_id, outcome_of, without_query


def request(**changes: Any) -> RemixRequest:
    return RemixRequest(**{"video_id": "video_123", "prompt": "make it snow", **changes})


LOOP: list[Any] = []
LOOP.append(LOOP)

NO_FILE = "only videos made on the gateway"
# A field's bad value, and the words of the error: what is wrong, and what to do.
BAD_FIELDS: list[tuple[str, object, tuple[str, ...]]] = [
    ("video_id", "", ("video is empty", "video_123")),
    ("video_id", " \n", ("video is empty", "video_123")),
    ("video_id", None, ("NoneType", "video_123")),
    ("video_id", 123, ("int", "video_123")),
    ("video_id", b"video_123", ("bytes", "video_123")),
    ("video_id", Path("clip.mp4"), ("PosixPath", "video_123")),
    ("video_id", ".", ("can't be part of a URL", "video_123")),
    ("video_id", "..", ("can't be part of a URL", "video_123")),
    ("video_id", "a\ud800", ("surrogate", r"\ud800", "video_123")),
    ("video_id", "https://cdn.example/a", ("address", NO_FILE)),
    ("video_id", " HTTP://CDN.example/a", ("address", NO_FILE)),
    ("video_id", "clip.mp4", ("local file", NO_FILE)),
    ("video_id", "/home/me/Clip.MOV", ("local file", NO_FILE)),
    ("video_id", "no such folder/a b.webm\n", ("local file", NO_FILE)),
    ("video_id", "x\x1b[31m.mkv", ("local file", r"\x1b", NO_FILE)),
    ("prompt", "", ("prompt is empty", "describe")),
    ("prompt", "\t\n", ("prompt is empty", "describe")),
    ("prompt", None, ("NoneType", "describe")),
    ("prompt", ["snow"], ("list", "describe")),
    ("prompt", "snow \udfff", ("surrogate", r"\udfff", "describe")),
    ("model", "", ("model is empty", "veo_3_1-extend")),
    ("model", None, ("NoneType", "veo_3_1-extend")),
    ("model", " veo", ("malformed", "veo_3_1-extend")),
    ("model", "veo\n", ("malformed", r"veo\n", "veo_3_1-extend")),
    ("model", "veo\x00", ("malformed", "veo_3_1-extend")),
    ("extra", [("size", "720P")], ("mapping", "{'size': '720P'}")),
    ("extra", "size=720P", ("mapping", "{'size': '720P'}")),
    ("extra", {"prompt": "p"}, ("prompt=",)),
    ("extra", {"model": "m"}, ("model=",)),
    ("extra", {1: "a"}, ("no str", "JSON body")),
    ("extra", {"a": object()}, ("JSON", "use str")),
    ("extra", {"a": {1, 2}}, ("JSON", "use str")),
    ("extra", {"a": float("nan")}, ("JSON", "use str")),
    ("extra", {"a": float("-inf")}, ("JSON", "use str")),
    ("extra", {"a": LOOP}, ("JSON", "use str")),
    ("extra", {"a": "\ud800"}, ("JSON", "use str")),
    ("extra", {"\ud800": "a"}, ("JSON", "use str")),
    ("extra", {"a": 10**5000}, ("JSON", "use str")),
]


@pytest.mark.parametrize(("name", "value", "words"), BAD_FIELDS)
def test_a_bad_field_names_the_fix(name: str, value: object, words: tuple[str, ...]) -> None:
    """A malformed request is refused when it is made, and told how to mend it."""
    with pytest.raises(ConfigurationError) as caught:
        request(**{name: value})
    for word in words:
        assert word in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.__cause__ is None


def test_an_extra_that_is_nested_for_ever_is_refused() -> None:
    """What json can't write for its depth is a configuration error."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    try:
        with pytest.raises(ConfigurationError):
            request(extra={"a": deep})
    finally:
        while deep:  # the destructor of so deep a list would take long to unwind
            deep = deep[0]


def test_a_source_that_is_a_file_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that names an existing file is a file, whatever it is called; a folder is none."""
    monkeypatch.chdir(tmp_path)
    Path("holiday").write_bytes(b"")
    Path("folder").mkdir()
    for name in ("holiday", str(tmp_path / "holiday")):
        with pytest.raises(ConfigurationError, match="local file"):
            check_source_id(name)
    assert check_source_id("folder") == "folder"
    assert check_source_id("absent") == "absent"


@pytest.mark.parametrize(
    "video_id",
    ["x" * 10_000, "a\x00b", "a.b", ".mp4.x", "video:1/2=", "mp4", "🎬", "https:/a", " "],
)
def test_unusual_ids_are_ids(video_id: str) -> None:
    """Ids are opaque: length, separators and zero bytes do not make them files."""
    if video_id.strip():
        assert check_source_id(video_id) == video_id
    else:
        with pytest.raises(ConfigurationError):
            check_source_id(video_id)


def test_a_tracked_id_may_look_like_a_file() -> None:
    """Only sources are looked at for files: a task is asked for by whatever it was called."""
    assert check_task_id("clip.mp4") == "clip.mp4"
    assert check_task_id("https://cdn.example/a") == "https://cdn.example/a"


def test_requests_are_equal_by_what_is_sent() -> None:
    """Neither the key nor the metadata makes two requests different; any sent field does."""
    first = request(key="order-17", metadata=["mine"])
    assert first == request(key="order-18", metadata={"other": 1}) == request()
    assert hash(first) == hash(request())
    for change in (
        {"video_id": "video_9"},
        {"prompt": "make it rain"},
        {"model": "other"},
        {"extra": {"size": "720P"}},
    ):
        assert request(**change) != first
    assert len({first, request(), request(prompt="make it rain")}) == 2


def test_a_requests_extra_is_its_own() -> None:
    """Changing the mapping that was passed does not change the request, and None is empty."""
    extra = {"size": "720P"}
    made = request(extra=extra)
    extra["size"] = "1080P"
    assert made.extra == {"size": "720P"}
    assert request(extra=None).extra == {}


def test_metadata_is_not_shown() -> None:
    """What the caller attached may be private or huge, and is in no repr."""
    assert "mine" not in repr(request(metadata="mine"))


VALUES: dict[str, Any] = {
    "request": request(extra={"size": "720P"}, key="k", metadata=("m", 1)),
    "video": Video(id="a", status=TaskStatus.FAILED, error=VideoError(code="c"), raw={"id": "a"}),
    "error": VideoError(code="c", message="m"),
    "stats": SessionStats(polls_sent=1, tasks_followed=2, requests_in_flight=3, cool_down=0.5),
    "event": Event(kind="polled", id="a", video=Video(id="a")),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_frozen_keyword_only_hashable_and_picklable(name: str) -> None:
    """A value can't be changed or filled by position, and survives a set, a copy and a pickle."""
    value = VALUES[name]
    kind = type(value)
    for field in attrs.fields(kind):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, None)
    with pytest.raises(TypeError):
        kind("a")
    assert hash(value) == hash(copy.deepcopy(value))
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == value
        assert type(other) is kind
    assert kind.__doc__


def test_pickles_keep_what_is_not_compared() -> None:
    """The key and the metadata cross processes too."""
    made = pickle.loads(pickle.dumps(VALUES["request"]))
    assert (made.key, made.metadata) == ("k", ("m", 1))


def test_only_four_statuses_end_a_task() -> None:
    """Queued, processing and unknown tasks go on."""
    ended = {status for status in TaskStatus if status.terminal}
    assert {str(status) for status in ended} == {"completed", "failed", "cancelled", "expired"}


ENDINGS = {
    TaskStatus.FAILED: RemixFailedError,
    TaskStatus.CANCELLED: RemixCancelledError,
    TaskStatus.EXPIRED: RemixExpiredError,
}


@pytest.mark.parametrize("status", TaskStatus)
def test_what_an_ending_means(status: TaskStatus) -> None:
    """A bad end is an error with the snapshot, and every other snapshot is itself."""
    video = Video(id="a", status=status, error=VideoError(code="c", message="why"))
    outcome = outcome_of(video)
    if status not in ENDINGS:
        assert outcome is video
        return
    assert type(outcome) is ENDINGS[status]
    assert (outcome.id, outcome.video) == ("a", video)
    assert str(outcome).startswith("task 'a' ")
    assert str(outcome).endswith(": [c] why")


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, "failed"),
        (VideoError(code="c"), "failed [c]"),
        (VideoError(message="why"), "failed: why"),
        (VideoError(code="x" * 1000, message="y" * 1000), "…"),
    ],
)
def test_a_failure_says_what_it_knows(error: VideoError | None, end: str) -> None:
    """A failure tells code and message where there are any, and never at length."""
    outcome = outcome_of(Video(id="a", status=TaskStatus.FAILED, error=error))
    assert str(outcome).endswith(end)
    assert len(str(outcome)) < 500


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("https://cdn.example/a.mp4?Signature=s#t", "https://cdn.example/a.mp4"),
        ("https://cdn.example/a.mp4#t?s", "https://cdn.example/a.mp4"),
        ("https://cdn.example/a.mp4", "https://cdn.example/a.mp4"),
        ("data:video/mp4;base64,AAAA", "data:…"),
        ("DATA:video/mp4;base64,AAAA", "data:…"),
    ],
)
def test_a_link_is_shown_without_its_permission(url: str | None, shown: str | None) -> None:
    """The query of a signed link is in no repr, nor are a data link's bytes."""
    assert without_query(url) == shown
    assert f"url={shown!r}" in repr(Video(id="a", url=url))


def test_a_snapshot_shows_no_raw_object() -> None:
    """The whole object may be long and hold signed links: the repr leaves it out."""
    assert "secret" not in repr(Video(id="a", raw={"video_url": "https://x.example/?secret"}))


def test_the_public_models_are_those_of_the_package() -> None:
    """What the module gives to users is what the package offers."""
    for name in octoremix.models.__all__:
        assert getattr(octoremix, name) is getattr(octoremix.models, name)
