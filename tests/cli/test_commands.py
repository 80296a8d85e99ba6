"""The commands against the local gateway, when all goes well and when it is used wrongly."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

import pytest

import octoremix as library
from octoremix.cli._app import app
from octoremix.cli._doubts import doubts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from octoremix.testing import Emulator


FAST = ("--poll-every", "1")
FIELDS = ["event", "id", "status", "progress", "url", "file", "error"]

Run = "Callable[..., Ended]"


def test_a_remix_ends_with_its_link(octoremix: Run, gateway: Emulator) -> None:
    """Without --out, stdout is the link; stderr tells the id and how to save the video."""
    ended = octoremix("remix", "video_1", "-p", "make it snow", *FAST, at=gateway)
    (job,) = gateway.books.jobs
    assert ended.code == 0
    assert ended.out == f"{gateway.url}/v1/videos/{job.id}/content\n"
    assert f"accepted: {job.id}" in ended.err
    assert ended.err.endswith(f"to save it: octoremix download {job.id}\n")


def test_a_remix_is_saved(octoremix: Run, gateway: Emulator, tmp_path: Path) -> None:
    """With --out the video is in that file, whose path is all of stdout."""
    ended = octoremix("remix", "video_1", "-p", "x", "--out", "snow.mp4", *FAST, at=gateway)
    assert (ended.code, ended.out) == (0, "snow.mp4\n")
    assert (tmp_path / "snow.mp4").read_bytes()[4:8] == b"ftyp"
    assert [file.name for file in tmp_path.iterdir()] == ["snow.mp4"]


def test_a_remix_need_not_be_waited_for(octoremix: Run, gateway: Emulator) -> None:
    """With --no-wait stdout is the id alone, for a shell's variable, and no poll is sent."""
    ended = octoremix("remix", "video_1", "-p", "x", "--no-wait", at=gateway)
    (job,) = gateway.books.jobs
    assert (ended.code, ended.out) == (0, f"{job.id}\n")
    assert f"to follow: octoremix watch {job.id}\n" in ended.err
    assert not gateway.books.polls


def test_what_is_asked_for_is_what_is_sent(octoremix: Run, gateway: Emulator) -> None:
    """Prompt, model and further fields arrive as they were given, texts as texts."""
    words = ["--model", "veo_x", "--extra", "size=720P", "--extra", "seconds=8", "--extra", "n:=2"]
    octoremix("remix", "a/b c", "-p", "雪 & [bold]", *words, "--no-wait", at=gateway)
    (job,) = gateway.books.jobs
    assert job.request.source_id == "a/b c"
    assert job.request.body == {
        "prompt": "雪 & [bold]",
        "model": "veo_x",
        "size": "720P",
        "seconds": "8",
        "n": 2,
    }


def test_json_is_all_there_is_on_stdout(octoremix: Run, gateway: Emulator) -> None:
    """A remix with --json writes objects with the documented fields, from acceptance to file."""
    ended = octoremix("remix", "v", "-p", "x", "--out", "a.mp4", "--json", *FAST, at=gateway)
    (job,) = gateway.books.jobs
    assert ended.code == 0
    assert [thing["event"] for thing in ended.objects] == ["accepted", "done"]
    assert all(list(thing) == FIELDS for thing in ended.objects)
    assert {thing["id"] for thing in ended.objects} == {job.id}
    assert ended.objects[-1] == {
        "event": "done",
        "id": job.id,
        "status": "completed",
        "progress": 100.0,
        "url": f"{gateway.url}/v1/videos/{job.id}/content",
        "file": "a.mp4",
        "error": None,
    }


def test_several_are_watched_until_all_are_done(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """Each id has a line with its status and link as it ends; the same id twice has one."""
    gateway = start_gateway(duration=lambda request: 0.1 + request.index)
    ids = [octoremix("remix", "v", "-p", "x", "--no-wait", at=gateway).out.strip() for _ in "ab"]
    ended = octoremix("watch", ids[1], ids[0], ids[1], *FAST, at=gateway)
    assert ended.code == 0
    link = f"{gateway.url}/v1/videos/{{}}/content"
    assert ended.out.splitlines() == [
        f"{task_id}\tcompleted\t{link.format(task_id)}" for task_id in ids
    ]


def test_updates_are_told_as_json(octoremix: Run, start_gateway: Callable[..., Emulator]) -> None:
    """Each change of a watched task is one object, the last one `done`."""
    gateway = start_gateway(duration=1.6)
    task_id = octoremix("remix", "v", "-p", "x", "--no-wait", at=gateway).out.strip()
    ended = octoremix("watch", task_id, "--json", *FAST, at=gateway)
    events = [thing["event"] for thing in ended.objects]
    assert set(events[:-1]) == {"update"}
    assert events[-1] == "done"


def test_a_finished_video_is_downloaded(octoremix: Run, gateway: Emulator, tmp_path: Path) -> None:
    """The file is named after the id, and an existing one is replaced only with --force."""
    task_id = octoremix("remix", "v", "-p", "x", "--no-wait", at=gateway).out.strip()
    octoremix("watch", task_id, *FAST, at=gateway)
    file = tmp_path / f"{task_id}.mp4"
    assert octoremix("download", task_id, at=gateway).out == f"{file.name}\n"
    file.write_text("mine")
    refused = octoremix("download", task_id, at=gateway)
    assert (refused.code, file.read_text()) == (2, "mine")
    assert "exists already: --force replaces it" in refused.err
    assert octoremix("download", task_id, "--force", at=gateway).code == 0
    assert file.read_bytes()[4:8] == b"ftyp"


def test_what_is_not_done_is_not_downloaded(
    octoremix: Run, start_gateway: Callable[..., Emulator], tmp_path: Path
) -> None:
    """A running task is named as running, with the command that waits for it."""
    gateway = start_gateway(duration=60.0)
    task_id = octoremix("remix", "v", "-p", "x", "--no-wait", at=gateway).out.strip()
    ended = octoremix("download", task_id, "--json", at=gateway)
    assert ended.code == 5
    assert [thing["event"] for thing in ended.objects] == ["detached"]
    assert f"octoremix watch {task_id}" in ended.err
    assert not list(tmp_path.iterdir())


def test_waiting_ends_after_the_timeout(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """The exit code says that the job goes on, and stderr how to follow it."""
    gateway = start_gateway(duration=60.0)
    ended = octoremix("remix", "v", "-p", "x", "--timeout", "0.5", "--json", at=gateway)
    (job,) = gateway.books.jobs
    assert ended.code == 5
    assert ended.objects[-1]["event"] == "detached"
    assert ended.objects[-1]["error"]["type"] == "WaitTimeoutError"
    assert f"octoremix watch {job.id}" in ended.err


def test_the_next_command_reaches_the_same_gateway(
    octoremix: Run, gateway: Emulator, tmp_path: Path
) -> None:
    """Options that were needed here are part of the command that is shown."""
    (tmp_path / "key").write_text(f"{gateway.api_key}\n")
    (tmp_path / "key").chmod(0o600)
    options = ["--base-url", gateway.url, "--api-key-file", "key", "--proxy", "none"]
    ended = octoremix("remix", "v", "-p", "x", "--no-wait", *options, OCTOPUSX_API_KEY="")
    assert ended.code == 0
    shown = f"--base-url {gateway.url} --proxy none --api-key-file key {ended.out.strip()}"
    assert f"to follow: octoremix watch {shown}\n" in ended.err


def test_a_proxys_password_is_not_repeated(octoremix: Run, gateway: Emulator) -> None:
    """The proxy's address may hold a password, so the shown command leaves it out."""
    proxy = gateway.url.replace("//", "//me:pass-word@")
    ended = octoremix("remix", "v", "-p", "x", "--proxy", proxy, "--no-wait", at=gateway)
    assert "pass-word" not in ended.err + ended.out


WRONG: list[tuple[list[str], str]] = [
    (["remix", "movie.mp4", "-p", "x"], "only videos made on the gateway can be remixed"),
    (["remix", "..", "-p", "x"], "can't be part of a URL"),
    (["remix", "v", "-p", " "], "prompt is empty"),
    (["remix", "v", "-p", "x", "--extra", "size"], "not of the form NAME=VALUE"),
    (["remix", "v", "-p", "x", "--extra", "n:={"], "no JSON"),
    (["remix", "v", "-p", "x", "--extra", "a=1", "--extra", "a=2"], "twice"),
    (["remix", "v", "-p", "x", "--extra", "model=y"], "pass model="),
    (["remix", "v", "-p", "x", "--out", "."], "is a folder"),
    (["remix", "v", "-p", "x", "--out", "no/a.mp4"], "folder no does not exist"),
    (["remix", "v", "-p", "x", "--out", "there.txt"], "--force replaces it"),
    (["remix", "v", "-p", "x", "--out", "a.mp4", "--no-wait"], "--no-wait"),
    (["remix", "v", "-p", "x", "--ca-file", "there.txt"], "no PEM certificates"),
    (["remix", "v", "-p", "x", "--ca-file", "gone"], "No such file"),
    (["remix", "v", "-p", "x", "--api-key-file", "gone"], "No such file"),
    (["remix", "v", "-p", "x", "--api-key-file", "empty"], "is empty"),
    (["remix", "v", "-p", "x", "--api-key-file", "two"], "more than a key"),
    (["remix", "v", "-p", "x", "--proxy", "ftp://x"], "proxy can't be used"),
    (["remix", "v", "-p", "x", "--key", "k", "--no-journal"], "--key needs the journal"),
    (["remix", "v", "-p", "x", "--key", ""], "key"),
    (["remix", "v", "-p", "x", "--retry-failed"], "--retry-failed needs the --key"),
    (["remix", "v", "-p", "x", "--journal", "a.db", "--no-journal"], "can't be had together"),
    (["remix", "v", "-p", "x", "--journal", "."], "no regular file"),
    (["remix", "v", "-p", "x", "--journal", "there.txt"], "no journal of octoremix"),
    (["watch", "v", "--journal", "gone.db"], "there is no journal gone.db"),
    (["watch", "v", "--journal", "there.txt"], "no journal of octoremix"),
    (["download", "v", "--journal", "gone.db"], "there is no journal gone.db"),
    (["resume", "--journal", "gone.db"], "there is no journal gone.db"),
    (["jobs", "--journal", "gone.db"], "there is no journal gone.db"),
    (["jobs", "--prune", "30"], "write it as in 30d"),
    (["jobs", "--prune", "30d", "--limit", "1"], "leave out --status and --limit"),
    (["doubts", "--journal", "gone.db"], "there is no journal gone.db"),
    (["doubts", "adopt", "k", "video_1"], "is not in doubt"),
    (["doubts", "abandon", "k"], "is not in doubt"),
    (["doubts", "resubmit", "k", "--yes"], "is not in doubt"),
    (["watch", "good", ".."], "can't be part of a URL"),
    (["download", "."], "can't be part of a URL"),
    (["serve", "--port", "70000"], "--port must be"),
]


@pytest.mark.parametrize(("words", "reason"), WRONG, ids=lambda value: " ".join(value[:6]))
def test_wrong_use_costs_nothing(
    octoremix: Run, gateway: Emulator, tmp_path: Path, words: list[str], reason: str
) -> None:
    """A mistake is told in one line, with exit code 2, before a single request is sent."""
    for name, text in {"there.txt": "mine", "empty": "", "two": "sk-a sk-b"}.items():
        (tmp_path / name).write_text(text)
    ended = octoremix(*words, at=gateway)
    assert (ended.code, ended.out) == (2, "")
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert reason in errors[0]
    assert not gateway.books.requests


def test_a_key_on_the_command_line_is_refused(octoremix: Run, gateway: Emulator) -> None:
    """--api-key says why it can't be used, and does not repeat the key."""
    ended = octoremix("remix", "v", "-p", "x", "--api-key", "sk-typed", at=gateway)
    assert ended.code == 2
    assert "process lists" in ended.err
    assert "sk-typed" not in ended.err
    assert not gateway.books.requests


def test_a_missing_key_names_both_ways_to_give_it(octoremix: Run, gateway: Emulator) -> None:
    """Without a key the error names the variable and the option."""
    ended = octoremix("watch", "v", at=gateway, OCTOPUSX_API_KEY="")
    assert ended.code == 2
    assert "OCTOPUSX_API_KEY" in ended.err
    assert "--api-key-file" in ended.err


def test_a_key_file_that_others_can_read_is_told(
    octoremix: Run, gateway: Emulator, tmp_path: Path
) -> None:
    """A key that everybody can read is used, with a warning that names the fix."""
    (tmp_path / "key").write_text(gateway.api_key)
    (tmp_path / "key").chmod(0o644)
    ended = octoremix("remix", "v", "-p", "x", "--no-wait", "--api-key-file", "key", at=gateway)
    assert ended.code == 0
    assert "warning: everybody on this machine can read key: chmod 600 it" in ended.err


def test_certificates_are_read(octoremix: Run, gateway: Emulator) -> None:
    """A file of certificates is taken."""
    bundle = ssl.get_default_verify_paths().cafile
    if bundle is None:
        pytest.skip("this system has no bundle of certificates")
    ended = octoremix("remix", "v", "-p", "x", "--no-wait", "--ca-file", bundle, at=gateway)
    assert ended.code == 0


def test_an_unencrypted_gateway_is_told(octoremix: Run) -> None:
    """A key that would go over the network in clear text is worth a warning."""
    ended = octoremix("watch", "..", "--base-url", "http://gateway.example")
    assert "warning: http://gateway.example is not encrypted" in ended.err


def test_foreign_text_reaches_no_terminal_raw(octoremix: Run, gateway: Emulator) -> None:
    """Control characters of a prompt are escaped, and brackets are no markup."""
    prompt = "\x1b]0;title\x07 [bold]x[/bold] [/]"
    ended = octoremix("remix", "v", "-p", prompt, *FAST, at=gateway)
    assert ended.code == 0
    assert "\x1b" not in ended.err + ended.out
    assert r"\x1b]0;title\x07 [bold]x[/bold] [/]" in ended.err


def test_verbose_shows_the_librarys_log(octoremix: Run, gateway: Emulator) -> None:
    """The log of the library goes to stderr when it is wanted, and only then."""
    words = ("remix", "v", "-p", "x", "--no-wait")
    assert "remixes video v" in octoremix(*words, "--verbose", at=gateway).err
    assert "remixes video v" not in octoremix(*words, at=gateway).err


def test_the_version_is_told(octoremix: Run) -> None:
    """--version prints the name and version on stdout."""
    assert octoremix("--version").out == f"octoremix {library.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        *([command.callback.__name__] for command in app.registered_commands),
        ["doubts"],
        *(["doubts", command.callback.__name__] for command in doubts.registered_commands),
    ],
    ids=" ".join,
)
def test_help_fits_80_columns(octoremix: Run, words: list[str]) -> None:
    """Each help text is there, within 80 columns, and says nothing that is cut off."""
    ended = octoremix(*words, "--help", COLUMNS="80", TERMINAL_WIDTH="80")
    text = re.sub(r"\x1b\[[0-9;]*m", "", ended.out)
    assert ended.code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "--api-key " not in text


def test_every_command_is_listed(octoremix: Run) -> None:
    """The overview names the commands and the exit codes."""
    text = octoremix("--help").out
    for name in (
        *("demo", "remix", "watch", "download", "jobs", "resume", "doubts", "serve"),
        "Exit codes",
    ):
        assert name in text
