"""What the commands record, and what they make of it: keys, jobs, resume."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from octoremix import JournalEntry, RemixRequest
from octoremix.cli._jobs import table

from .conftest import ENVIRONMENT, KEY, end
from .systems import needs_signals, needs_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from octoremix.testing import Emulator


FAST = ("--poll-every", "1")
REMIX = ("remix", "video_1", "-p", "make it snow")

Launch = "Callable[..., subprocess.Popen[str]]"
Run = "Callable[..., Ended]"


def listed(octoremix: Any, *words: str) -> list[dict[str, Any]]:
    """What the journal holds, the newest first."""
    ended = octoremix("jobs", "--json", *words)
    assert ended.code == 0
    return list(ended.objects)


def test_a_remix_is_recorded(octoremix: Run, gateway: Emulator, state: Path) -> None:
    """The default journal is in the folder for states; it tells the job's end, and no API key."""
    ended = octoremix(*REMIX, *FAST, at=gateway)
    (job,) = gateway.books.jobs
    assert ended.code == 0
    (thing,) = listed(octoremix)
    assert (thing["event"], thing["id"], thing["status"]) == ("job", job.id, "completed")
    assert (thing["video_id"], thing["prompt"]) == ("video_1", "make it snow")
    assert thing["base_url"] == gateway.url
    assert thing["settled_at"] >= thing["submitted_at"] >= thing["created_at"]
    files = list((state / "octoremix").iterdir())
    assert (state / "octoremix" / "journal.db") in files
    assert not any(KEY.encode() in file.read_bytes() for file in files)


def test_no_journal_leaves_none(octoremix: Run, gateway: Emulator, state: Path) -> None:
    """With --no-journal nothing is written, whatever the command."""
    for_it = ("--no-journal",)
    task_id = octoremix(*REMIX, "--no-wait", *for_it, at=gateway).out.strip()
    assert octoremix("watch", task_id, *FAST, *for_it, at=gateway).code == 0
    assert octoremix("download", task_id, *for_it, at=gateway).code == 0
    assert not list(state.iterdir())


def test_another_journal_is_part_of_the_next_command(
    octoremix: Run, gateway: Emulator, state: Path, tmp_path: Path
) -> None:
    """--journal names the file, and every command that is shown names it too."""
    ended = octoremix(*REMIX, "--no-wait", "--journal", "my own.db", at=gateway)
    task_id = ended.out.strip()
    assert f"to follow: octoremix watch --journal 'my own.db' {task_id}\n" in ended.err
    assert (tmp_path / "my own.db").is_file()
    assert not list(state.iterdir())
    octoremix("watch", task_id, "--journal", "my own.db", *FAST, at=gateway)
    assert [thing["status"] for thing in listed(octoremix, "--journal", "my own.db")] == [
        "completed"
    ]


def test_a_key_buys_once(octoremix: Run, gateway: Emulator, tmp_path: Path) -> None:
    """The same key gives the same job, then its stored result, and says that it is not new."""
    named = (*REMIX, "--key", "order 17")
    first = octoremix(*named, "--no-wait", at=gateway)
    again = octoremix(*named, *FAST, at=gateway)
    assert f"bought before: {first.out.strip()}\n" in again.err
    polls = gateway.books.polls.total()
    stored = octoremix(*named, "--json", "--out", "snow.mp4", at=gateway)
    assert [thing["event"] for thing in stored.objects] == ["known", "done"]
    assert (tmp_path / "snow.mp4").is_file()
    assert gateway.books.polls.total() == polls
    assert gateway.books.charged == 1
    (thing,) = listed(octoremix)
    assert (thing["key"], thing["status"]) == ("order 17", "downloaded")
    assert thing["file"] == str(tmp_path / "snow.mp4")


def test_a_key_stands_for_one_request(octoremix: Run, gateway: Emulator) -> None:
    """Another request under a key that was used is wrong use, and buys nothing."""
    octoremix(*REMIX, "--key", "k", "--no-wait", at=gateway)
    ended = octoremix("remix", "video_1", "-p", "rain", "--key", "k", at=gateway)
    assert ended.code == 2
    assert "was used for another remix" in ended.err
    assert gateway.books.charged == 1


def test_what_failed_is_bought_again_when_asked(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """The key of a failed job tells the failure again, and the option that buys it once more."""
    gateway = start_gateway(outcome=lambda request: "completed" if request.index else "failed")
    named = (*REMIX, "--key", "k", *FAST)
    for _ in range(2):
        ended = octoremix(*named, at=gateway)
        assert ended.code == 1
        assert "hint: the same command with --retry-failed buys it again" in ended.err
    assert len(gateway.books.jobs) == 1
    assert octoremix(*named, "--retry-failed", at=gateway).code == 0
    assert [thing["attempt"] for thing in listed(octoremix)] == [2]


def test_a_journal_that_cannot_be_used_is_told_before_anything_is_paid(
    octoremix: Run, gateway: Emulator
) -> None:
    """Where the default can't be written the error names both ways out, and nothing is sent."""
    ended = octoremix(*REMIX, at=gateway, XDG_STATE_HOME=os.devnull)
    assert ended.code == 2
    assert f"{os.devnull}/octoremix/journal.db" in ended.err
    assert "--journal names another file" in ended.err
    assert "--no-journal" in ended.err
    assert not gateway.books.requests


def test_a_state_folder_must_be_absolute(
    octoremix: Run, gateway: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where nobody knows the home no journal is made in whatever folder this is."""
    monkeypatch.setattr(
        "octoremix.cli._journal.platformdirs.user_state_path", lambda *_, **__: tmp_path.__class__()
    )
    ended = octoremix(*REMIX, at=gateway)
    assert ended.code == 2
    assert "nobody knows your home: name a file with --journal" in ended.err
    assert octoremix("jobs").code == 0
    assert not gateway.books.requests


def test_a_watch_needs_no_journal(octoremix: Run, gateway: Emulator, state: Path) -> None:
    """A default journal that is damaged is a warning to those who only look."""
    task_id = octoremix(*REMIX, "--no-wait", "--no-journal", at=gateway).out.strip()
    (state / "octoremix").mkdir()
    (state / "octoremix" / "journal.db").write_text("no database, but long enough to be one" * 9)
    watched = octoremix("watch", task_id, *FAST, at=gateway)
    fetched = octoremix("download", task_id, at=gateway)
    for ended in (watched, fetched):
        assert ended.code == 0
        assert ended.err.count("what this command learns is not recorded") == 1
    assert octoremix(*REMIX, at=gateway).code == 2
    assert gateway.books.charged == 1


def test_what_is_watched_is_recorded(octoremix: Run, gateway: Emulator) -> None:
    """`watch` of a job that the journal has records its end; no other task is added to it."""
    task_id = octoremix(*REMIX, "--no-wait", at=gateway).out.strip()
    other = octoremix(*REMIX, "--no-wait", "--no-journal", at=gateway).out.strip()
    octoremix("watch", task_id, other, *FAST, at=gateway)
    assert [(thing["id"], thing["status"]) for thing in listed(octoremix)] == [
        (task_id, "completed")
    ]


@pytest.mark.parametrize(("outcome", "status"), [("completed", "downloaded"), ("failed",) * 2])
def test_what_is_downloaded_is_recorded(
    octoremix: Run,
    start_gateway: Callable[..., Emulator],
    tmp_path: Path,
    outcome: str,
    status: str,
) -> None:
    """`download` of a job that nobody followed records its end, and where the video is."""
    gateway = start_gateway(duration=0.0, outcome=outcome)
    task_id = octoremix(*REMIX, "--no-wait", at=gateway).out.strip()
    ended = octoremix("download", task_id, "-o", "a.mp4", at=gateway)
    assert ended.code == (outcome == "failed")
    (thing,) = listed(octoremix)
    assert thing["status"] == status
    assert thing["file"] == (str(tmp_path / "a.mp4") if ended.code == 0 else None)


def test_jobs_are_listed(octoremix: Run, gateway: Emulator) -> None:
    """Off a terminal each job is a line, uncut, the newest first; no key is needed for that."""
    prompt = "a \x1b[31mlong\tprompt " * 20
    ids = [
        octoremix("remix", f"v{n}", "-p", prompt, "--key", f"k{n}", "--no-wait", at=gateway).out
        for n in range(3)
    ]
    ended = octoremix("jobs", "--limit", "2", OCTOPUSX_API_KEY="")
    assert ended.code == 0
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert [row[2] for row in rows] == [ids[2].strip(), ids[1].strip()]
    assert [row[1:2] + row[3:5] for row in rows] == [
        ["submitted", "k2", "v2"],
        ["submitted", "k1", "v1"],
    ]
    assert rows[0][5] == prompt.rstrip().replace("\x1b", r"\x1b").replace("\t", r"\t") + " "
    assert datetime.fromisoformat(rows[0][0]).tzinfo is not None
    assert "there are more: --limit shows them" in ended.err


def test_jobs_are_chosen_by_status(octoremix: Run, gateway: Emulator) -> None:
    """--status keeps those that stand so; a wrong one lists them all, with exit code 2."""
    octoremix(*REMIX, *FAST, at=gateway)
    octoremix(*REMIX, "--no-wait", at=gateway)
    chosen = ("--status", "completed", "--status", "failed")
    assert [thing["status"] for thing in listed(octoremix, *chosen)] == ["completed"]
    none = octoremix("jobs", "--status", "refused")
    assert (none.code, none.out) == (0, "")
    assert "there is no such job" in none.err
    wrong = octoremix("jobs", "--status", "done")
    assert wrong.code == 2
    assert "downloaded, refused, in_doubt" in wrong.err


def test_old_jobs_are_pruned(octoremix: Run, gateway: Emulator) -> None:
    """--prune erases what was settled so long ago, and never what is open."""
    octoremix(*REMIX, *FAST, at=gateway)
    octoremix(*REMIX, "--no-wait", at=gateway)
    assert "0 settled jobs erased" in octoremix("jobs", "--prune", "1h").err
    pruned = octoremix("jobs", "--prune", "0s", "--json")
    assert [thing["erased"] for thing in pruned.objects] == [1]
    assert [thing["status"] for thing in listed(octoremix)] == ["submitted"]


def test_jobs_of_several_gateways_are_told_apart(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """One journal serves all gateways: the list says where there are several."""
    gateways = [start_gateway() for _ in range(2)]
    for gateway in gateways:
        octoremix(*REMIX, "--no-wait", at=gateway)
    assert all(gateway.url in octoremix("jobs").err for gateway in gateways)
    assert {thing["base_url"] for thing in listed(octoremix)} == {
        gateway.url for gateway in gateways
    }


def test_without_a_journal_there_is_nothing_to_tell(
    octoremix: Run, gateway: Emulator, state: Path
) -> None:
    """Looking makes no journal: what there is none of is told, with exit code 0."""
    for words in (("jobs",), ("jobs", "--prune", "1d"), ("resume",), ("doubts",)):
        ended = octoremix(*words, at=gateway)
        assert (ended.code, ended.out) == (0, "")
        assert "there is no journal yet" in ended.err
    assert not list(state.iterdir())


def entry(number: int, **settings: Any) -> JournalEntry:
    """A job of the journal."""
    sent = datetime(2026, 3, number, 14, 5, tzinfo=UTC)
    request = RemixRequest(video_id=f"video_{number}", prompt="雪 and\n\x1b[31m more " * 9)
    given = {
        "key": f"{number:032x}",
        "id": f"video_{number:030d}",
        "status": "downloaded",
        "request": request,
        "video_id": request.video_id,
        "model": request.model,
        "base_url": "https://octopusx.ai",
        "created_at": sent,
        "sent_at": sent,
    }
    return JournalEntry(**given | settings)


@pytest.mark.parametrize("width", [71, 80, 120, 500])
def test_the_table_of_jobs_fits(width: int) -> None:
    """Whatever is in the journal, the table is as wide as the terminal, with when and how whole."""
    entries = [entry(number) for number in range(1, 9)]
    entries[2] = entry(3, id=None, request=None, status="in_doubt", key="it's; $x")
    lines = table(entries, datetime(2026, 11, 1, tzinfo=UTC), width).plain.splitlines()
    assert len(lines) == 9
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].split() == ["when", "status", "id", "key", "video", "prompt"]
    assert lines[1].startswith("03-01 14:05  downloaded  video_0000")
    assert "\x1b" not in "".join(lines)
    assert lines[3].endswith("  -")
    if width >= 120:
        assert entries[0].id in lines[1]


def test_the_table_tells_the_year_of_old_jobs() -> None:
    """A job of another year has its date instead of its time."""
    drawn = table([entry(1)], datetime(2027, 1, 1, tzinfo=UTC), 80).plain
    assert drawn.splitlines()[1].startswith("2026-03-01  downloaded")


@needs_terminal
def test_a_terminal_gets_the_table(octoremix: Run, gateway: Emulator, state: Path) -> None:
    """On a terminal jobs are a table, with the command that shows what was cut."""
    import pty

    octoremix(*REMIX, "--no-wait", at=gateway)
    ours, theirs = pty.openpty()
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "octoremix.cli", "jobs"],
            env={**ENVIRONMENT, "XDG_STATE_HOME": str(state), "COLUMNS": "80"},
            stdout=theirs,
            stderr=subprocess.PIPE,
            check=True,
            text=True,
            timeout=60,
        )
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert lines[0].startswith("when         status     id")
    assert len(lines) == 2
    assert max(map(cell_len, lines)) <= 80
    assert "whole: octoremix jobs | cat" in ran.stderr


@needs_signals
def test_what_a_killed_command_bought_is_resumed(
    octoremix: Run, launch: Launch, start_gateway: Callable[..., Emulator], tmp_path: Path
) -> None:
    """A job whose command was killed is followed by `resume` to its end, and saved by --out."""
    gateway = start_gateway(duration=1.5)
    process = launch(*REMIX, at=gateway)
    for line in process.stderr:
        if "accepted" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended = octoremix("resume", "--out", "videos", *FAST, at=gateway)
    (job,) = gateway.books.jobs
    assert ended.code == 0
    assert ended.out == f"{job.id}\tcompleted\tvideos/{job.id}.mp4\n"
    assert "make it snow" in ended.err
    assert (tmp_path / "videos" / f"{job.id}.mp4").is_file()
    assert [thing["status"] for thing in listed(octoremix)] == ["downloaded"]
    again = octoremix("resume", "--json", at=gateway)
    assert (again.code, again.out) == (0, "")
    assert "nothing is unfinished" in again.err


def test_resume_tells_how_each_job_ended(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """Each job has its object; a failed one makes the exit code 1."""
    gateway = start_gateway(outcome=lambda request: "failed" if request.index else "completed")
    ids = [octoremix(*REMIX, "--no-wait", at=gateway).out.strip() for _ in "ab"]
    ended = octoremix("resume", "--json", *FAST, at=gateway)
    assert ended.code == 1
    ends = {thing["id"]: thing["event"] for thing in ended.objects if thing["event"] != "update"}
    assert ends == dict(zip(ids, ["done", "error"], strict=True))


def test_resume_leaves_the_jobs_of_a_running_command_alone(
    octoremix: Run, launch: Launch, start_gateway: Callable[..., Emulator]
) -> None:
    """What another command still follows is told, and is not followed twice."""
    gateway = start_gateway(duration=60.0)
    process = launch(*REMIX, at=gateway)
    while "accepted" not in process.stderr.readline():
        pass
    ended = octoremix("resume", "--json", at=gateway)
    assert (ended.code, ended.out) == (0, "")
    assert "1 job is in the hands of a command that still runs" in ended.err
    process.kill()


def test_resume_leaves_other_gateways_alone(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """A key is sent to no address that was read from a file: the others are named instead."""
    here, there = start_gateway(), start_gateway()
    octoremix(*REMIX, "--no-wait", at=there)
    asked = there.books.requests.total()
    ended = octoremix("resume", at=here)
    assert ended.code == 0
    assert f"1 unfinished jobs of {there.url}" in ended.err
    assert there.books.requests.total() == asked


@needs_signals
def test_a_resume_that_is_interrupted_names_what_goes_on(
    octoremix: Run, launch: Launch, start_gateway: Callable[..., Emulator]
) -> None:
    """Ctrl-C ends the watch and not the jobs, which another `resume` takes up."""
    gateway = start_gateway(duration=60.0)
    task_id = octoremix(*REMIX, "--no-wait", at=gateway).out.strip()
    process = launch("resume", "--json", *FAST, at=gateway)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert ended.code == 130
    assert f"to follow: octoremix watch {task_id}" in ended.err
    assert [thing["status"] for thing in listed(octoremix)] == ["submitted"]


def test_serve_keeps_no_journal(launch: Launch, state: Path) -> None:
    """The local gateway is no purchase of anybody's."""
    process = launch("serve", "--port", "0", "--json")
    process.stdout.readline()
    process.terminate()
    process.wait(20)
    assert not list(state.iterdir())
