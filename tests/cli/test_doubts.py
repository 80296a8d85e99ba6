"""Doubts: how they are told, shown and settled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from octoremix.cli._text import shell_command

from .conftest import ENVIRONMENT, end
from .systems import needs_signals, needs_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from octoremix.testing import Emulator


ODD = "-it's; $x"
REMIX = ("remix", "video_1", "-p", "make it snow")

Launch = "Callable[..., subprocess.Popen[str]]"
Run = "Callable[..., Ended]"
Script = "Callable[[Any], Scripted]"


@pytest.fixture
def doubtful(octoremix: Run, start_gateway: Callable[..., Emulator]) -> Emulator:
    """A gateway whose answer about the job "k" was lost, which it charged."""
    gateway = start_gateway(faults=["lost_answer:next=1"])
    assert octoremix(*REMIX, "--key", "k", at=gateway).code == 4
    assert gateway.books.charged == 1
    return gateway


def states(octoremix: Any) -> dict[str, str]:
    """How each key stands in the journal."""
    return {thing["key"]: thing["status"] for thing in octoremix("jobs", "--json").objects}


def test_a_doubt_names_the_commands_that_settle_it(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """A lost answer is code 4; the commands can be pasted, whatever the key is."""
    gateway = start_gateway(faults=["lost_answer:next=1"])
    named = (*REMIX, f"--key={ODD}")
    for _ in range(2):  # when it happens, and as often as it is asked for
        ended = octoremix(*named, "--json", at=gateway)
        assert ended.code == 4
        assert ended.objects[-1]["key"] == ODD
        assert "hint: the same --key buys nothing until this is settled" in ended.err
        quoted = shell_command(["--"], [ODD]).removeprefix("-- ")
        assert f"if it was bought: octoremix doubts adopt {quoted} TASK_ID\n" in ended.err
        assert f"if it was not:    octoremix doubts resubmit {quoted}\n" in ended.err
        assert f"to give it up:    octoremix doubts abandon {quoted}\n" in ended.err
        assert "to look for it:   octoremix doubts --evidence\n" in ended.err
    assert gateway.books.charged == 1
    assert octoremix("doubts", "abandon", "--", ODD, at=gateway).code == 0
    assert states(octoremix) == {ODD: "abandoned"}


def test_a_job_without_a_key_is_settled_by_the_one_it_was_given(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """Without --key a repetition may pay twice, and the doubt has a name all the same."""
    gateway = start_gateway(faults=["lost_answer:next=1"])
    ended = octoremix(*REMIX, at=gateway)
    assert ended.code == 4
    assert "may pay for it twice" in ended.err
    (key,) = states(octoremix)
    assert f"octoremix doubts abandon {key}\n" in ended.err


def test_without_a_journal_there_is_no_doubt_to_settle(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """With --no-journal no command is shown that would find nothing."""
    gateway = start_gateway(faults=["lost_answer:next=1"])
    ended = octoremix(*REMIX, "--no-journal", at=gateway)
    assert ended.code == 4
    assert "octoremix doubts" not in ended.err


def test_doubts_are_listed(octoremix: Run, doubtful: Emulator) -> None:
    """Each doubt is a few lines that tell what is known of it, and the exit code is 4."""
    asked = doubtful.books.requests.total()
    ended = octoremix("doubts", at=doubtful)
    assert ended.code == 4
    assert ended.out.startswith("k\n  sent:     ")
    assert "  video:    video_1\n" in ended.out
    assert "  prompt:   make it snow\n" in ended.out
    assert "evidence" not in ended.out
    assert "octoremix doubts adopt k TASK_ID" in ended.err
    assert doubtful.books.requests.total() == asked


def test_the_evidence_is_shown_when_asked_for(octoremix: Run, doubtful: Emulator) -> None:
    """--evidence looks at the key's log, once; it changes nothing."""
    ended = octoremix("doubts", "--evidence", at=doubtful)
    assert "  evidence: charged: the key's log has a charge" in ended.out
    (thing,) = octoremix("doubts", "--evidence", "--json", at=doubtful).objects
    assert thing["event"] == "doubt"
    assert (thing["key"], thing["evidence"], thing["prompt"]) == ("k", "charged", "make it snow")
    assert states(octoremix) == {"k": "in_doubt"}


def test_nothing_in_doubt_is_code_0(octoremix: Run, gateway: Emulator) -> None:
    """A journal without doubts says so."""
    octoremix(*REMIX, "--no-wait", at=gateway)
    ended = octoremix("doubts", at=gateway)
    assert (ended.code, ended.out) == (0, "")
    assert "nothing is in doubt" in ended.err


def test_doubts_of_other_gateways_are_named(
    octoremix: Run, doubtful: Emulator, start_gateway: Callable[..., Emulator]
) -> None:
    """What is in doubt elsewhere is not settled here, and not kept silent."""
    ended = octoremix("doubts", at=start_gateway())
    assert ended.code == 0
    assert f"1 more at {doubtful.url}: --base-url shows them" in ended.err


def test_resume_tells_of_doubts(octoremix: Run, doubtful: Emulator) -> None:
    """What is unfinished and what is in doubt are asked about together."""
    ended = octoremix("resume", "--json", at=doubtful)
    assert ended.code == 4
    assert [(thing["event"], thing["key"]) for thing in ended.objects] == [("doubt", "k")]
    assert "1 job is in doubt" in ended.err


def test_a_doubt_is_adopted(octoremix: Run, doubtful: Emulator) -> None:
    """The task that the console shows becomes the job's; its end is recorded."""
    (job,) = doubtful.books.jobs
    assert octoremix("watch", job.id, "--poll-every", "1", at=doubtful).code == 0
    ended = octoremix("doubts", "adopt", "k", job.id, at=doubtful)
    assert (ended.code, ended.out) == (0, f"{job.id}\n")
    assert states(octoremix) == {"k": "completed"}
    assert f"bought before: {job.id}" in octoremix(*REMIX, "--key", "k", at=doubtful).err
    assert doubtful.books.charged == 1


def test_what_cannot_be_its_task_is_not_adopted(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """A task that does not exist, of another video or another job leaves the doubt as it is."""
    gateway = start_gateway(faults=["lost_answer:call=3"], sources=["video_1", "video_2"])
    other = octoremix("remix", "video_2", "-p", "x", "--no-journal", "--no-wait", at=gateway)
    known = octoremix(*REMIX, "--no-wait", at=gateway)
    assert octoremix(*REMIX, "--key", "k", at=gateway).code == 4
    missing = octoremix("doubts", "adopt", "k", "video_typo", at=gateway)
    assert missing.code == 1
    refused = octoremix("doubts", "adopt", "k", other.out.strip(), at=gateway)
    assert refused.code == 2
    assert "--yes takes it all the same" in refused.err
    taken = octoremix("doubts", "adopt", "k", known.out.strip(), at=gateway)
    assert taken.code == 2
    assert "nothing was changed" in taken.err
    assert states(octoremix)["k"] == "in_doubt"
    assert octoremix("doubts", "adopt", "k", other.out.strip(), "--yes", at=gateway).code == 0


def test_a_doubt_is_given_up(octoremix: Run, doubtful: Emulator) -> None:
    """Its key buys nothing any more, but with --retry-failed, which the error names."""
    ended = octoremix("doubts", "abandon", "k", "--json", at=doubtful)
    assert [(thing["event"], thing["key"]) for thing in ended.objects] == [("abandoned", "k")]
    again = octoremix(*REMIX, "--key", "k", at=doubtful)
    assert again.code == 4
    assert "hint: the same command with --retry-failed buys it again" in again.err
    assert "doubts adopt" not in again.err
    bought = octoremix(*REMIX, "--key", "k", "--retry-failed", "--no-wait", at=doubtful)
    assert bought.code == 0
    assert states(octoremix) == {"k": "submitted"}


def test_buying_again_needs_a_yes(octoremix: Run, doubtful: Emulator) -> None:
    """Without a terminal nobody can be asked: --yes says it, and nothing else buys."""
    refused = octoremix("doubts", "resubmit", "k", at=doubtful, typed="y\n")
    assert refused.code == 2
    assert "say --yes" in refused.err
    assert doubtful.books.charged == 1
    ended = octoremix("doubts", "resubmit", "k", "--yes", at=doubtful)
    assert (ended.code, ended.out.strip()) == (0, doubtful.books.jobs[1].id)
    assert f"to follow: octoremix watch {ended.out.strip()}" in ended.err
    assert doubtful.books.charged == 2
    assert octoremix("doubts", "resubmit", "k", "--yes", at=doubtful).code == 2
    assert states(octoremix) == {"k": "submitted"}


@needs_terminal
@pytest.mark.parametrize(
    ("typed", "code", "charged"), [("y\n", 0, 2), ("n\n", 4, 1), ("\n", 4, 1), (None, 130, 1)]
)
def test_buying_again_is_asked_for(
    doubtful: Emulator, state: Path, typed: str | None, code: int, charged: int
) -> None:
    """At a terminal the question shows the job; only a yes buys, and Ctrl-C ends it."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "octoremix.cli", "doubts", "resubmit", "k"],
        env={**ENVIRONMENT, "XDG_STATE_HOME": str(state), "OCTOPUSX_BASE_URL": doubtful.url},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        os.close(theirs)
        asked = ""
        while "[y/N] " not in asked:
            letter = process.stderr.read(1)
            assert letter, asked
            asked += letter
        if typed is None:
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, typed.encode())
        ended = end(process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "make it snow" in asked
    assert ended.code == code
    assert doubtful.books.charged == charged


def test_options_before_the_command_are_not_lost(octoremix: Run, doubtful: Emulator) -> None:
    """An option that would be ignored is an error that names its place."""
    ended = octoremix("doubts", "--journal", "x.db", "abandon", "k", at=doubtful)
    assert ended.code == 2
    assert "behind the command" in ended.err
    assert states(octoremix) == {"k": "in_doubt"}


@needs_signals
def test_a_submit_that_is_given_up_is_a_doubt(
    octoremix: Run, launch: Launch, script: Script
) -> None:
    """Who gives up the answer by a second Ctrl-C finds the job in doubt, with its commands."""
    posted, release = threading.Event(), threading.Event()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        posted.set()
        await asyncio.to_thread(release.wait, 20)
        return web.Response()

    process = launch(*REMIX, "--key", "k", at=script(answer))
    assert posted.wait(20)
    process.send_signal(signal.SIGINT)
    while "waiting at most" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    ended = end(process)
    release.set()
    assert ended.code == 4
    assert "octoremix doubts abandon k" in ended.err
    assert states(octoremix) == {"k": "in_doubt"}


@needs_signals
def test_a_command_that_dies_leaves_a_doubt(octoremix: Run, launch: Launch, script: Script) -> None:
    """A process that is killed while its POST is out is found out by the next command."""
    posted, release = threading.Event(), threading.Event()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        posted.set()
        await asyncio.to_thread(release.wait, 20)
        return web.Response()

    server = script(answer)
    process = launch(*REMIX, "--key", "k", at=server)
    assert posted.wait(20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    release.set()
    ended = octoremix(*REMIX, "--key", "k", at=server)
    assert ended.code == 4
    assert "octoremix doubts resubmit k" in ended.err
    assert [method for method, _ in server.requests] == ["POST"]
