"""The command `report`: the page of a batch, with its sources where they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from octoremix.testing import Emulator, Fault

from ..report_folders import event, job_done, write_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Run = "Callable[..., Ended]"


def test_a_page_is_made_without_a_key(octoremix: Run, tmp_path: Path) -> None:
    """Stdout is the page's path, stderr the counts; no key and no gateway is needed."""
    write_record(tmp_path / "batch", *job_done("a"), event("failed", "b"), event("failed", "c"))
    ended = octoremix("report", "batch", OCTOPUSX_API_KEY="")
    assert (ended.code, ended.out) == (0, "batch/report.html\n")
    assert ended.err == "3 jobs: 1 done, 2 failed\n"
    assert "prompt of a" in (tmp_path / "batch" / "report.html").read_text()


def test_an_empty_batch_has_a_page(octoremix: Run, tmp_path: Path) -> None:
    """A batch that has sent nothing yet is no error."""
    write_record(tmp_path / "batch")
    ended = octoremix("report", "batch")
    assert (ended.code, ended.err) == (0, "0 jobs\n")


def test_json_tells_the_file_and_the_counts(octoremix: Run, tmp_path: Path) -> None:
    """With --json stdout is one object."""
    write_record(tmp_path / "batch", *job_done("a"), event("in_doubt", "b"))
    (told,) = octoremix("report", "batch", "--json").objects
    assert told["event"] == "done"
    assert told["file"] == "batch/report.html"
    assert told["jobs"] == 2
    assert told["counts"] == {"done": 1, "failed": 0, "doubt": 1, "running": 0, "unsent": 0}


def test_lines_that_were_left_out_are_told(octoremix: Run, tmp_path: Path) -> None:
    """A broken record makes a page all the same, with a warning."""
    record = write_record(tmp_path / "batch", event("submitted")) / "results.jsonl"
    record.write_text("nonsense\n" + record.read_text())
    ended = octoremix("report", "batch")
    assert ended.code == 0
    assert "warning: 1 line of results.jsonl could not be understood" in ended.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gone"], "gone does not exist: name the folder of a batch"),
        (["file"], "file is no folder"),
        (["."], ". is not the folder of a batch: it holds no results.jsonl"),
        (["batch", "--out", "elsewhere.html"], "is not in batch"),
        (["batch", "--out", "batch/journal.db"], "is no name for a page"),
        (["batch", "--sources", "--out", "elsewhere.html"], "is not in batch"),
    ],
)
def test_wrong_use_is_told(
    octoremix: Run, gateway: Emulator, tmp_path: Path, words: list[str], reason: str
) -> None:
    """What can't be done has exit code 2 and a reason, and neither file nor request is made."""
    (tmp_path / "file").touch()
    write_record(tmp_path / "batch", event("submitted"))
    ended = octoremix("report", *words, at=gateway)
    assert (ended.code, ended.out) == (2, "")
    assert reason in ended.err
    assert [file.name for file in (tmp_path / "batch").iterdir()] == ["results.jsonl"]
    assert not gateway.books.requests


def test_each_source_is_fetched_once(octoremix: Run, gateway: Emulator, tmp_path: Path) -> None:
    """With --sources those that are not there yet come into a folder, and the page plays them."""
    jobs = {"a": "video_1", "b": "video_1", "c": "video_2", "d": ""}
    lines = [each for key, video in jobs.items() for each in job_done(key, video=video)]
    folder = write_record(tmp_path / "batch", *lines)

    assert octoremix("report", "batch", "--sources", at=gateway).code == 0

    files = sorted(file.name for file in (folder / "sources").iterdir())
    assert files == ["video_1.mp4", "video_2.mp4"]
    assert (folder / "report.html").read_text().count('"source":"sources/video_1.mp4"') == 2
    before = gateway.books.requests.total()
    ended = octoremix("report", "batch", "--sources", at=gateway, OCTOPUSX_API_KEY="")
    assert ended.code == 0
    assert gateway.books.requests.total() == before


def test_a_source_that_is_gone_is_left_out(
    octoremix: Run, start_gateway: Callable[..., Emulator], tmp_path: Path
) -> None:
    """The others are fetched and the page is made; the exit code and stderr tell of the one."""
    gateway = start_gateway(faults=[Fault("not_found", task="video_b")])
    folder = write_record(
        tmp_path / "batch", *(event("submitted", key, video=f"video_{key}") for key in "abc")
    )
    ended = octoremix("report", "batch", "--sources", at=gateway)
    assert (ended.code, ended.out) == (1, "batch/report.html\n")
    assert ended.err.count("error:") == 1
    assert len(list((folder / "sources").iterdir())) == 2


def test_a_refused_key_ends_the_fetching(octoremix: Run, gateway: Emulator, tmp_path: Path) -> None:
    """It is told once, not for each source, and the page is made without them."""
    lines = [event("submitted", str(number), video=f"video_{number}") for number in range(50)]
    write_record(tmp_path / "batch", *lines)
    ended = octoremix("report", "batch", "--sources", at=gateway, OCTOPUSX_API_KEY="sk-another")
    assert (ended.code, ended.out) == (3, "batch/report.html\n")
    assert ended.err.count("error:") == 1
    assert gateway.books.requests.total() < 10


def test_sources_need_a_key(octoremix: Run, gateway: Emulator, tmp_path: Path) -> None:
    """Without one nothing is made, as with any other command."""
    folder = write_record(tmp_path / "batch", event("submitted"))
    ended = octoremix("report", "batch", "--sources", at=gateway, OCTOPUSX_API_KEY="")
    assert ended.code == 2
    assert "there is no API key" in ended.err
    assert [file.name for file in folder.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_sources_stay_in_the_folder(
    octoremix: Run, gateway: Emulator, tmp_path: Path, kind: str
) -> None:
    """A folder for them that is none, or that leads elsewhere, is not written to."""
    folder = write_record(tmp_path / "batch", event("submitted"))
    (tmp_path / "outside").mkdir()
    if kind == "file":
        (folder / "sources").touch()
    else:
        (folder / "sources").symlink_to("../outside")
    ended = octoremix("report", "batch", "--sources", at=gateway)
    assert ended.code == 2
    assert ("is no folder" if kind == "file" else "leads out of batch") in ended.err
    assert not list((tmp_path / "outside").iterdir())
