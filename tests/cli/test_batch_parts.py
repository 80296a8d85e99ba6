"""What a batch is planned to be, its progress, and the file of its results."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from rich.console import Console

from octoremix import (
    ConfigurationError,
    JournalEntry,
    OctoremixError,
    RemixRequest,
    TaskStatus,
    Video,
)
from octoremix.cli._batch_display import COUNTED, Progress, drawn
from octoremix.cli._batch_order import folder_of
from octoremix.cli._batch_plan import GUESS, Plan, described, plan
from octoremix.cli._input import Line
from octoremix.cli._leftovers import remove_leftovers
from octoremix.cli._results import Results, check_unused
from octoremix.records import PROCESS_ENDED

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def line(key: str, number: int = 1, prompt: str = "make it snow") -> Line:
    return Line(number, RemixRequest(video_id="video_1", prompt=prompt, key=key))


def entry(key: str, status: str, took: float | None = None, *, earlier: int = 0) -> JournalEntry:
    settled = None if took is None else NOON + timedelta(seconds=took)
    return JournalEntry(
        key=key,
        status=status,
        purchases=earlier + (status != "refused"),
        video_id="video_1",
        model="m",
        base_url="https://gateway.example",
        created_at=NOON,
        sent_at=NOON,
        submitted_at=NOON,
        settled_at=settled,
    )


STATES = {
    "intent": "sending",
    "submitted": "under_way",
    "completed": "done",
    "downloaded": "done",
    "failed": "bad",
    "cancelled": "bad",
    "expired": "bad",
    "abandoned": "bad",
    "in_doubt": "in_doubt",
    "refused": "fresh",
}


@pytest.mark.parametrize(("status", "place"), STATES.items())
def test_every_state_of_the_journal_has_its_place_in_the_plan(status: str, place: str) -> None:
    """A job is new only if it never was bought for sure, and a doubt is never bought again."""
    for retry_failed in (False, True):
        planned = plan([line("a")], [entry("a", status)], retry_failed=retry_failed)
        expected = "again" if place == "bad" and retry_failed else place
        counts = {name: getattr(planned, name) for name in {*STATES.values(), "again"}}
        assert {name for name, count in counts.items() if count} == {expected}
        assert planned.to_pay(None) == (expected in {"fresh", "again"})


def test_jobs_that_the_input_lost_are_announced() -> None:
    """An edited line is a new job and leaves its old one behind; one never bought is not missed."""
    journal = [entry("old", "downloaded"), entry("gone", "in_doubt"), entry("no", "refused")]
    planned = plan([line("new")], journal, retry_failed=False)
    assert (planned.fresh, planned.gone, planned.to_pay(None)) == (1, 2, 1)
    told = "\n".join(described(planned, "folder", 1, 0.0))
    assert "2 jobs of the folder not in the input any more" in told
    assert "an edited line is a new job" in told


def test_what_earlier_runs_paid_counts_towards_the_most() -> None:
    """--max-jobs is of the whole batch: doubts and earlier runs use it up, refusals don't."""
    journal = [entry("a", "in_doubt"), entry("b", "downloaded"), entry("c", "refused")]
    planned = plan([line(key) for key in "abcde"], journal, retry_failed=False)
    paid = {most: planned.to_pay(most) for most in (None, 0, 2, 3, 4, 9)}
    assert paid == {None: 3, 0: 0, 2: 0, 3: 1, 4: 2, 9: 3}


def test_a_job_that_was_bought_twice_counts_twice() -> None:
    """What --retry-failed bought before uses up --max-jobs too, also where it is refused now."""
    journal = [entry("a", "failed", earlier=1), entry("b", "refused", earlier=2)]
    planned = plan([line(key) for key in "abc"], journal, retry_failed=True)
    paid = {most: planned.to_pay(most) for most in (None, 4, 5, 6, 9)}
    assert paid == {None: 3, 4: 0, 5: 1, 6: 2, 9: 3}


def test_too_many_doubts_are_settled_first() -> None:
    """After more than five unclear answers nothing is to be paid for, and the plan says why."""
    for count, paid in ((5, 1), (6, 0)):
        journal = [entry(f"doubt {number}", "in_doubt") for number in range(count)]
        lines = [line("new"), *(line(doubt.key) for doubt in journal)]
        planned = plan(lines, journal, retry_failed=False)
        assert planned.to_pay(None) == paid
        told = described(planned, "folder", paid, 0.0)
        assert any("settle them before anything is bought" in text for text in told) != paid


def test_doubts_of_a_killed_run_keep_nothing_from_being_bought() -> None:
    """A job that is in doubt since its process ended says nothing of the gateway."""
    killed = [
        evolve(entry(f"doubt {number}", "in_doubt"), reason=PROCESS_ENDED) for number in range(9)
    ]
    planned = plan(
        [line("new"), *(line(doubt.key) for doubt in killed)], killed, retry_failed=False
    )
    assert (planned.interrupted, planned.in_doubt, planned.to_pay(None)) == (9, 0, 1)
    told = described(planned, "folder", 1, 0.0)
    assert "        9  in doubt since a run was killed: not sent again" in told


def test_the_time_is_that_of_waves_or_of_the_rate() -> None:
    """How long it takes: rounds of as many as run at once, or what the rate lets through."""
    assert plan([line("a")], [], retry_failed=False).seconds == GUESS
    journal = [entry("a", "downloaded", 40.0), entry("b", "completed", 60.0), entry("c", "failed")]
    planned = plan([line("a")], journal, retry_failed=False)
    assert (planned.seconds, planned.guessed) == (50.0, False)
    assert planned.duration(0, 10, None) == 0.0
    assert planned.duration(25, 10, None) == 150.0
    assert planned.duration(25, 10, 0.25) == 350.0
    assert planned.duration(25, 10, 100.0) == 150.0


def test_the_plan_fits_a_terminal() -> None:
    """No line of a plan is wider than 80 columns, with every row that there may be."""
    planned = Plan(
        **dict.fromkeys(("lines", *STATES.values(), "again", "gone"), 99999), guessed=False
    )
    told = described(planned, "videos", 199_998, 86_400.0)
    assert max(map(len, told)) <= 80
    assert "to be paid for: 199,998 jobs" in told
    assert told[-1] == "it takes about 24 h, as a job takes 3 min here"


@pytest.mark.parametrize(
    ("source", "folder"),
    [("a/list.csv", "a/list"), ("list.v2.jsonl", "list.v2"), ("list", "list-videos")],
)
def test_a_folder_is_named_after_the_input(source: str, folder: str) -> None:
    """The folder has the input's name without its suffix, and is never the input itself."""
    assert str(folder_of(source, None)) == folder


def test_progress_counts_each_job_once() -> None:
    """What runs, what is over and how fast it goes are told apart, whatever was refused."""
    now = 0.0
    progress = Progress(20, lambda: now)
    assert progress.words() == [("nothing submitted yet", "dim")]
    for _ in range(12):
        progress.began()
    progress.ended("failed", ran=False, bought=False)
    for _ in range(5):
        progress.ended("done", ran=True, bought=False, downloaded=True)
    now = 30.0
    assert progress.rate is None
    for _ in range(5):
        progress.ended("done", ran=True, bought=True, downloaded=True)
    progress.ended("in_doubt", ran=False, bought=False)
    progress.ended("detached", ran=True, bought=True)
    assert (progress.over, progress.running, progress.submitted) == (13, 1, 12)
    assert progress.line() == (
        "13 of 20 over: 1 running, 10 done, 1 failed, 1 in doubt, 1 not waited for, "
        "10 downloaded; 30 s, 12.0 a minute, about 35 s left"
    )
    progress.stopping = True
    assert "left" not in progress.line()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_display_is_three_lines(width: int) -> None:
    """However many the jobs and however narrow the terminal, it is three lines that fit."""
    progress = Progress(100_000, lambda: 0.0)
    for name in COUNTED:
        progress.counts[name] = 12_345
        progress.began()
    for progress.stopping in (False, True):
        console = Console(file=io.StringIO(), width=width)
        with console.capture() as capture:
            console.print(drawn(progress))
        lines = capture.get().splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) <= width


def read(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "results.jsonl").read_bytes().decode()
    return [json.loads(written) for written in text.removesuffix("\n").split("\n")]


@pytest.fixture
def results(tmp_path: Path) -> Any:
    opened = []

    def open_again(troubled: Any = pytest.fail) -> Results:
        for earlier in opened:
            earlier.close()
        opened.append(Results(tmp_path, troubled, lambda: NOON))
        return opened[-1]

    yield open_again
    for one in opened:
        one.close()


def test_a_result_tells_all_of_its_job(results: Any, tmp_path: Path) -> None:
    """Each line has the documented fields; a link is without its query, a file without folder."""
    video = Video(id="t", status=TaskStatus.COMPLETED, url="https://cdn.example/a.mp4?sig=secret#x")
    job = line("k", 7, "雪 \u2028 \x1b")
    results().write("downloaded", job, id="t", video=video, file=tmp_path / "a.mp4")
    assert read(tmp_path) == [
        {
            "time": "2026-11-25T12:00:00.000+00:00",
            "event": "downloaded",
            "key": "k",
            "line": 7,
            "id": "t",
            "video": "video_1",
            "prompt": "雪 \u2028 \x1b",
            "model": job.request.model,
            "url": "https://cdn.example/a.mp4",
            "file": "a.mp4",
            "error": None,
        }
    ]
    mode = stat.S_IMODE((tmp_path / "results.jsonl").stat().st_mode)
    assert os.name != "posix" or mode == 0o600


def test_data_in_a_link_is_not_repeated(results: Any, tmp_path: Path) -> None:
    """A result that is itself in the link would be written as a whole, so it is left out."""
    video = Video(id="t", status=TaskStatus.COMPLETED, url="data:video/mp4;base64,AAAA")
    results().write("completed", line("k"), id="t", video=video)
    assert read(tmp_path)[0]["url"] == "data:…"


def test_any_text_of_an_error_is_written(results: Any, tmp_path: Path) -> None:
    """A foreign text with half of a character does not end the batch."""
    results().write("failed", line("k"), id="t", error=OctoremixError("half \ud83d of it"))
    assert read(tmp_path)[0]["error"] == {"type": "OctoremixError", "message": "half ? of it"}


def test_nothing_is_told_twice(results: Any, tmp_path: Path) -> None:
    """A run that meets with what earlier ones told of a task adds no line, and goes no step back.

    A task that is another one is told from its beginning.
    """
    job = line("k")
    for _ in range(2):
        opened = results()
        for event in ("submitted", "started", "completed"):
            opened.write(event, job, id="t")
        opened.write("download_failed", job, id="t")
    opened.write("completed", job, id="t")
    opened.write("downloaded", job, id="t", file=tmp_path / "a.mp4")
    opened.write("submitted", job, id="u")
    opened.write("detached", job, id="u")
    opened.write("submitted", job, id="u")
    opened.write("started", job, id="u")
    opened.write("detached", job, id="u")
    assert [(one["event"], one["id"]) for one in read(tmp_path)] == [
        *(("submitted", "t"), ("started", "t"), ("completed", "t"), ("download_failed", "t")),
        *(("downloaded", "t"), ("submitted", "u"), ("detached", "u"), ("started", "u")),
        ("detached", "u"),
    ]


def test_a_line_that_was_cut_off_ends_alone(results: Any, tmp_path: Path) -> None:
    """What a killed process left unfinished spoils no later line, nor does anything foreign."""
    foreign = b'[1]\n{"key": ["a"], "event": 1, "id": {}, "file": 2}\n\xff\n{"key": "k", "ev'
    (tmp_path / "results.jsonl").write_bytes(foreign)
    results().write("submitted", line("k"), id="t")
    written = (tmp_path / "results.jsonl").read_bytes()
    assert written.startswith(foreign + b"\n")
    assert json.loads(written.splitlines()[-1])["event"] == "submitted"


def test_a_full_disk_ends_the_results_not_the_batch(
    results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be written is told once, and the journal goes on without the results."""
    told: list[OSError] = []
    opened = results(told.append)

    class Full:
        def write(self, text: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    opened._file.close()
    monkeypatch.setattr(opened, "_file", Full())
    for number in range(3):
        opened.write("submitted", line("k", number), id=str(number))
    assert [trouble.strerror for trouble in told] == ["No space left on device"]


def test_a_line_that_is_taken_in_parts_is_written_whole(
    results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that takes only a part of a line at once gets the rest."""
    opened = results()
    taken = []

    class Slow:
        def write(self, text: bytes) -> int:
            taken.append(text[:7])
            return len(taken[-1])

        def close(self) -> None:
            pass

    opened._file.close()
    monkeypatch.setattr(opened, "_file", Slow())
    opened.write("submitted", line("k"), id="t")
    assert json.loads(b"".join(taken))["id"] == "t"
    assert b"".join(taken).endswith(b"\n")


# The lock is one of fcntl, which Windows lacks: two commands can share a folder there.
@pytest.mark.skipif(sys.platform == "win32", reason="a batch's folder has no lock on Windows")
def test_a_folder_has_one_process(results: Any, tmp_path: Path) -> None:
    """Whoever comes second to a folder is refused, until the first has ended."""
    check_unused(tmp_path)
    opened = results()
    with pytest.raises(ConfigurationError, match="another process is at work in the folder"):
        check_unused(tmp_path)
    with pytest.raises(ConfigurationError, match="another process is at work"):
        Results(tmp_path, pytest.fail)
    opened.close()
    check_unused(tmp_path)


def test_a_file_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    """Results that can't be opened are an error that names the file."""
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match=r"results\.jsonl can't be written: Is a"):
        Results(tmp_path, pytest.fail)


def test_only_what_is_left_of_its_own_downloads_is_removed(tmp_path: Path) -> None:
    """Unfinished files of the batch's videos go; whatever else lies in the folder stays."""
    long = "k" * 60 + ".mp4"
    mine = ["a.mp4.0123abcd.part", f"{long[:50]}.0123abcd.part"]
    others = ["b.mp4.0123abcd.part", "a.mp4.part", "a.mp4", "a.mp4.0123abcd.part.txt"]
    for name in (*mine, *others):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, ["a.mp4", long])
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others)
    remove_leftovers(tmp_path / "gone", ["a.mp4"])
