"""What the page's loader makes of a batch's folder, however it was left and whoever wrote in it."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import octoremix
from octoremix.cli._report.files import file_inside, href, source_name
from octoremix.cli._report.jobs import ReportJob, read_jobs

from .report_folders import START, event, job_done, write_record


def only_job(folder: Path) -> ReportJob:
    """The one job of a folder."""
    (job,) = read_jobs(folder).jobs
    return job


def test_a_job_is_told_with_all_that_is_known(tmp_path: Path) -> None:
    """Texts, times and files of a job's lines come together in one value."""
    (tmp_path / "a.mp4").touch()
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "video_1.mp4").touch()
    write_record(tmp_path, *job_done("a", line=1))

    batch = read_jobs(tmp_path)

    assert batch.name == tmp_path.name
    assert batch.unreadable == 0
    assert batch.jobs == (
        ReportJob(
            key="a",
            id="task_a",
            video="video_1",
            prompt="prompt of a",
            model="veo_3_1-extend",
            status="downloaded",
            submitted_at=START,
            started_at=START + timedelta(seconds=30),
            done_at=START + timedelta(seconds=60),
            file="a.mp4",
            source_file="sources/video_1.mp4",
        ),
    )


@pytest.mark.parametrize(
    ("events", "status", "group"),
    [
        (["submitted"], "submitted", "running"),
        (["submitted", "started"], "started", "running"),
        (["submitted", "completed"], "completed", "done"),
        (["submitted", "completed", "downloaded"], "downloaded", "done"),
        (["submitted", "completed", "download_failed"], "download_failed", "done"),
        (["submitted", "detached"], "detached", "running"),
        (["in_doubt", "abandoned"], "abandoned", "failed"),
        (["submitted", "failed"], "failed", "failed"),
        (["submitted", "cancelled"], "cancelled", "failed"),
        (["submitted", "expired"], "expired", "failed"),
        (["refused"], "refused", "failed"),
        (["in_doubt"], "in_doubt", "doubt"),
        (["in_doubt", "submitted"], "submitted", "running"),
        (["not_submitted"], "not_submitted", "unsent"),
        (["submitted", "a word of a later version"], "submitted", "running"),
    ],
)
def test_the_last_line_of_a_key_holds(
    tmp_path: Path, events: list[str], status: str, group: str
) -> None:
    """A job stands where its last known event says, and counts as one thing."""
    job = only_job(write_record(tmp_path, *(event(each) for each in events)))

    assert (job.status, job.group) == (status, group)


def test_a_job_bought_anew_starts_anew(tmp_path: Path) -> None:
    """After a second acceptance nothing of the first one's times, file and error is shown."""
    (tmp_path / "a.mp4").touch()
    first = [*job_done("a"), event("failed", at=70, error={"type": "X", "message": "no"})]

    job = only_job(write_record(tmp_path, *first, event("submitted", at=100, id="second")))

    assert job == ReportJob(
        key="a",
        id="second",
        video="video_1",
        prompt="prompt of a",
        model="veo_3_1-extend",
        status="submitted",
        submitted_at=START + timedelta(seconds=100),
    )


def test_jobs_stand_in_the_order_of_the_input(tmp_path: Path) -> None:
    """Lines of the input come first in their order, then what has none, as it was told."""
    lines = {"c": 3, "y": None, "a": 1, "x": None, "b": 2}
    write_record(tmp_path, *(event("submitted", key, line=line) for key, line in lines.items()))

    assert [job.key for job in read_jobs(tmp_path).jobs] == ["a", "b", "c", "y", "x"]


def test_what_a_later_line_leaves_out_stays_known(tmp_path: Path) -> None:
    """A line without a prompt, an id or a file does not take them away."""
    (tmp_path / "a.mp4").touch()
    bare = {"event": "detached", "key": "a"}

    job = only_job(write_record(tmp_path, *job_done("a"), bare))

    assert (job.status, job.id, job.prompt, job.file) == (
        "detached",
        "task_a",
        "prompt of a",
        "a.mp4",
    )


@pytest.mark.parametrize("rest", [b'{"key": "b", "event": "subm', b"\xff", b"{"])
def test_a_half_written_last_line_is_no_error(tmp_path: Path, rest: bytes) -> None:
    """What was being written when the machine went down is left out without a word."""
    record = write_record(tmp_path, event("submitted")) / "results.jsonl"
    record.write_bytes(record.read_bytes() + rest)

    batch = read_jobs(tmp_path)

    assert [job.key for job in batch.jobs] == ["a"]
    assert batch.unreadable == 0


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"\xff\xfe",
        b"[" * 200_000,
        b"[]",
        b'"a"',
        b"null",
        b'{"event": "submitted"}',
        b'{"event": "submitted", "key": null}',
        b'{"event": "submitted", "key": ""}',
        b'{"event": "submitted", "key": ["a"]}',
        b"1" * 5000,
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_line_that_tells_of_no_job_is_counted(tmp_path: Path, line: bytes) -> None:
    """Broken lines in the middle hide no other job, and the reader learns of them."""
    record = write_record(tmp_path, event("submitted")) / "results.jsonl"
    record.write_bytes(line + b"\n\n" + record.read_bytes())

    batch = read_jobs(tmp_path)

    assert [job.key for job in batch.jobs] == ["a"]
    assert batch.unreadable == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"type": "RemixFailedError", "message": "no capacity"}, "no capacity"),
        ({"type": "RemixFailedError", "message": " "}, "RemixFailedError"),
        ({"type": "RemixFailedError"}, "RemixFailedError"),
        ({"message": 7}, ""),
        ("a text", "a text"),
        (["x"], ""),
        (None, ""),
    ],
)
def test_the_reason_is_the_gateways_own(tmp_path: Path, error: object, told: str) -> None:
    """The message says why there is no video, or else the kind of error."""
    assert only_job(write_record(tmp_path, event("failed", error=error))).error == told


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-03-01T12:00:00Z", 12),
        ("2026-03-01T12:00:00", 12),
        ("2026-03-01T12:00:00+05:00", 7),
        ("0001-01-01T00:00:00+05:00", None),
        ("yesterday", None),
        (1772366400, None),
        (None, None),
    ],
)
def test_times_are_utc_or_unknown(tmp_path: Path, text: object, hour: int | None) -> None:
    """Any ISO time is turned to UTC; what is none is no time, and no error."""
    at = only_job(write_record(tmp_path, event("submitted", time=text))).submitted_at

    assert (at and (at.hour, at.utcoffset())) == (None if hour is None else (hour, timedelta()))


def test_how_long_a_job_took(tmp_path: Path) -> None:
    """It is the time from acceptance to end, unknown where one is or the clock went back."""
    write_record(
        tmp_path,
        *job_done("a", took=45),
        event("submitted", "b"),
        event("completed", "c"),
        event("submitted", "d", at=10),
        event("completed", "d", at=5),
    )

    assert [job.seconds for job in read_jobs(tmp_path).jobs] == [45, None, None, None]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A batch's folder with a file in it, one beside it, and ways that lead out."""
    folder = tmp_path / "batch"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "secret.mp4").touch()
    for name in ("a.mp4", "deep/b.mp4", "grok:1 ü#?%.mp4", "c:d.mp4", "..mp4"):
        (folder / name).touch()
    (folder / "inner.mp4").symlink_to("a.mp4")
    (folder / "outer.mp4").symlink_to("../secret.mp4")
    (folder / "out").symlink_to("..")
    (folder / "ring.mp4").symlink_to("ring.mp4")
    (folder / "dead.mp4").symlink_to("gone.mp4")
    return folder


@pytest.mark.parametrize(
    "name", ["a.mp4", "deep/b.mp4", "./a.mp4", "grok:1 ü#?%.mp4", "inner.mp4", "..mp4"]
)
def test_a_file_of_the_folder_is_linked(house: Path, name: str) -> None:
    """A regular file in the folder or below it is named relative to it."""
    assert file_inside(house.resolve(), name) == name.removeprefix("./")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.mp4",
        "deep/../../secret.mp4",
        "deep/../a.mp4",
        "..\\secret.mp4",
        "deep\\..\\..\\secret.mp4",
        "/etc/passwd",
        "//host/share/a.mp4",
        "\\\\host\\share\\a.mp4",
        "C:\\a.mp4",
        "c:d.mp4",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://example.com/a.mp4",
        "outer.mp4",
        "out/secret.mp4",
        "ring.mp4",
        "dead.mp4",
        "gone.mp4",
        "deep",
        ".",
        "a.mp4\0",
        "\ud800.mp4",
        "x" * 5000,
        "",
        None,
        7,
        ["a.mp4"],
    ],
    ids=lambda name: repr(name)[:30],
)
def test_nothing_else_is_linked(house: Path, name: object) -> None:
    """Ways out of the folder, what is not there and what is no name at all are not linked."""
    assert file_inside(house.resolve(), name) is None


def test_an_absolute_name_of_a_file_of_the_folder_is_not_linked(house: Path) -> None:
    """An absolute path would tell where the folder lies."""
    assert file_inside(house.resolve(), str(house / "a.mp4")) is None


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("a.mp4", "a.mp4"),
        ("deep/b c.mp4", "deep/b%20c.mp4"),
        ("grok:1 ü#?%.mp4", "grok%3A1%20%C3%BC%23%3F%25.mp4"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("a\\b\"'<>&.mp4", "a%5Cb%22%27%3C%3E%26.mp4"),
        ("\udcff.mp4", "%FF.mp4"),
    ],
)
def test_an_address_holds_no_character_with_a_meaning(name: str, address: str) -> None:
    """All but the slashes between its parts is percent-encoded, so that it stays a relative path."""
    assert href(name) == address


def test_a_sources_name_can_not_lead_elsewhere() -> None:
    """The file for a source is named after its id, made safe."""
    assert source_name("video_1") == "sources/video_1.mp4"
    assert source_name("../../etc/x").startswith("sources/_.._etc_x-")


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    """The message says what is wrong with the name that was given."""
    (tmp_path / "file").touch()
    for name, reason in (
        ("gone", "does not exist"),
        ("file", "is no folder"),
        (".", "is not the folder of a batch: it holds no results.jsonl"),
    ):
        with pytest.raises(octoremix.ConfigurationError, match=reason):
            read_jobs(tmp_path / name)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["time", "event", "key", "line", "id", "video", "prompt", "model", "file", "error"]


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON | st.just("submitted")), max_size=5))
def test_no_record_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]]
) -> None:
    """Whatever stands in the fields, a page can be made: texts are texts and files are inside."""
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + os.linesep for line in lines))

    for job in read_jobs(folder).jobs:
        assert all(isinstance(text, str) for text in (job.key, job.prompt, job.model, job.error))
        assert job.file is job.source_file is None
