"""What the commands make of a gateway that fails: exit codes, error lines, nothing lost."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

import octoremix as library
from octoremix.cli._output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from octoremix.testing import Emulator


FAST = ("--poll-every", "1")
REMIX = ("remix", "video_1", "-p", "make it snow")

Run = "Callable[..., Ended]"
Script = "Callable[[Any], Scripted]"

VIDEO = {"id": "video_new", "object": "video", "status": "queued", "progress": 0}


def refuse(status: int, code: str, message: str = "no") -> web.Response:
    """A refusal in the gateway's own envelope."""
    return web.json_response({"code": code, "message": message, "data": None}, status=status)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid_request", 1),
        (400, "task_not_exist", 1),
        (401, "unauthorized", 3),
        (403, "forbidden", 3),
        (403, "insufficient_user_quota", 3),
        (500, "fail_to_fetch_task", 1),
    ],
)
def test_a_refusal_ends_with_its_code(
    octoremix: Run, script: Script, status: int, code: str, expected: int
) -> None:
    """A refused submit is one error line, one JSON object with the error, and no second POST."""

    async def answer(request: web.Request) -> web.Response:
        return refuse(status, code, "the gateway's\nown \x1b[31mwords")

    server = script(answer)
    ended = octoremix(*REMIX, "--json", at=server)
    assert ended.code == expected
    (thing,) = ended.objects
    assert (thing["event"], thing["id"]) == ("error", None)
    assert thing["error"]["exit_code"] == expected
    assert thing["error"]["code"] == code
    assert ended.err.count("error: ") == 1
    assert "\x1b" not in ended.err
    assert len(server.requests) == 1


def test_a_lost_answer_is_in_doubt(octoremix: Run, script: Script) -> None:
    """When the answer to a submit is lost, exit code 4 says so and nothing is sent again."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server = script(answer)
    ended = octoremix(*REMIX, "--json", at=server)
    assert ended.code == 4
    assert len(server.requests) == 1
    (thing,) = ended.objects
    assert thing["error"]["type"] == "SubmitOutcomeUnknownError"
    assert "may exist and may be billed" in ended.err
    assert "may pay for it twice" in ended.err


def test_an_unreachable_gateway_is_told(octoremix: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing could be sent, nothing goes on: code 1, and the options to look at."""
    once = functools.partial(library.Session, retry=library.RetryPolicy(attempts=1))
    monkeypatch.setattr("octoremix.cli._options.Session", once)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ended = octoremix("download", "video_1", "--base-url", f"http://127.0.0.1:{port}")
    assert ended.code == 1
    assert "hint: check the network, --base-url and --proxy" in ended.err


def test_what_helps_several_errors_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors in a row that have one remedy are followed by it once, others by their own."""
    output = Output()
    for number, hint in enumerate(["look", "look", "wait", "", "wait"]):
        output.complain(f"failure {number}", hint)
    assert capsys.readouterr().err.splitlines() == [
        "error: failure 0",
        " hint: look",
        "error: failure 1",
        "error: failure 2",
        " hint: wait",
        "error: failure 3",
        "error: failure 4",
        " hint: wait",
    ]


@pytest.mark.parametrize("words", [("remix", "v", "-p", "x"), ("watch",)])
def test_a_failed_job_is_code_1(
    octoremix: Run, start_gateway: Callable[..., Emulator], words: tuple[str, ...]
) -> None:
    """A job that ends without a video is told with the gateway's reason."""
    gateway = start_gateway(outcome="failed")
    if words == ("watch",):
        words += (octoremix(*REMIX, "--no-wait", at=gateway).out.strip(),)
    ended = octoremix(*words, *FAST, at=gateway)
    assert ended.code == 1
    assert "[generation_failed] The video could not be generated" in ended.err


def test_a_failed_job_has_no_video_to_download(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """`download` of a failed job says why there is nothing to fetch."""
    gateway = start_gateway(outcome="failed", duration=0.0)
    task_id = octoremix(*REMIX, "--no-wait", at=gateway).out.strip()
    ended = octoremix("download", task_id, at=gateway)
    assert ended.code == 1
    assert "is failed, there is no video: The video could not be generated" in ended.err


def test_the_gravest_of_several_decides(
    octoremix: Run, start_gateway: Callable[..., Emulator]
) -> None:
    """One failed and one done make 1; each has its line and its object."""
    gateway = start_gateway(outcome=lambda request: "failed" if request.index else "completed")
    ids = [octoremix(*REMIX, "--no-wait", at=gateway).out.strip() for _ in "ab"]
    ended = octoremix("watch", *ids, "--json", *FAST, at=gateway)
    assert ended.code == 1
    ends = {thing["id"]: thing for thing in ended.objects if thing["event"] != "update"}
    assert [ends[task_id]["event"] for task_id in ids] == ["done", "error"]
    assert ends[ids[1]]["status"] == "failed"
    assert ends[ids[1]]["error"]["type"] == "RemixFailedError"


def test_an_unknown_id_is_told(octoremix: Run, start_gateway: Callable[..., Emulator]) -> None:
    """An id that the gateway does not know ends its watch with the advice to check it."""
    gateway = start_gateway(sources=["video_1"])
    ended = octoremix("watch", "video_typo", *FAST, at=gateway)
    assert (ended.code, ended.out) == (1, "video_typo\tunknown\t-\n")
    assert "check the id" in ended.err


def test_a_failed_download_is_not_a_lost_video(octoremix: Run, script: Script) -> None:
    """What was paid for and is done stays so: the error shows the command that fetches it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response(VIDEO)
        if request.path.endswith("/content"):
            return web.Response(text="<html>gone", content_type="text/html")
        return web.json_response(VIDEO | {"status": "completed", "progress": 100})

    ended = octoremix(*REMIX, "--out", "it's.mp4", *FAST, at=script(answer))
    assert ended.code == 1
    assert ended.out == ""
    again = """octoremix download --out 'it'"'"'s.mp4' video_new"""
    assert f"the video is done and paid for; to fetch it: {again}" in ended.err


def test_a_file_that_appears_meanwhile_is_kept(
    octoremix: Run, script: Script, tmp_path: Any
) -> None:
    """The target is looked at again before it is written to."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            (tmp_path / "a.mp4").write_text("mine")
            return web.json_response(VIDEO)
        return web.json_response(VIDEO | {"status": "completed"})

    ended = octoremix(*REMIX, "--out", "a.mp4", *FAST, at=script(answer))
    assert ended.code == 1
    assert (tmp_path / "a.mp4").read_text() == "mine"
    assert "octoremix download --out a.mp4 video_new" in ended.err


def test_a_links_query_is_shown_on_stdout_alone(octoremix: Run, script: Script) -> None:
    """A signed link is a permission: stdout has it whole, stderr never."""
    link = "https://cdn.example/v.mp4?signature=abc"

    async def answer(request: web.Request) -> web.StreamResponse:
        done = {"status": "completed", "video_url": link}
        return web.json_response(VIDEO if request.method == "POST" else VIDEO | done)

    ended = octoremix(*REMIX, *FAST, "--verbose", at=script(answer))
    assert (ended.code, ended.out) == (0, f"{link}\n")
    assert "signature" not in ended.err


def test_a_key_that_stops_working_is_code_3(octoremix: Run, script: Script) -> None:
    """A key that is refused while a task is followed is about the key; the task goes on."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return refuse(401, "unauthorized")

    ended = octoremix("watch", "video_1", "--json", *FAST, at=script(answer))
    assert ended.code == 3
    assert ended.objects[-1]["event"] == "detached"
    assert "check the key" in ended.err


def test_a_pause_that_the_gateway_asks_for_is_told(octoremix: Run, script: Script) -> None:
    """A 429 with a long Retry-After is no silence: the user sees why nothing happens."""
    answers = iter([429, 200])

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        if next(answers) == 429:
            return web.Response(status=429, headers={"Retry-After": "2"})
        return web.json_response(VIDEO)

    ended = octoremix(*REMIX, "--no-wait", at=script(answer))
    assert (ended.code, ended.out) == (0, "video_new\n")
    assert "the gateway asks to wait" in ended.err


def test_a_fault_of_ours_is_no_traceback(
    octoremix: Run, gateway: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is one line, whole with --verbose, and names what goes on."""
    monkeypatch.setattr("octoremix.cli._display.Display.change", lambda *_: 1 / 0)
    ended = octoremix(*REMIX, *FAST, at=gateway)
    (job,) = gateway.books.jobs
    assert ended.code == 1
    assert "error: unexpected ZeroDivisionError" in ended.err
    assert f"octoremix watch {job.id}" in ended.err
    assert "Traceback" in octoremix(*REMIX, *FAST, "--verbose", at=gateway).err


def test_errors_as_json_are_ascii(octoremix: Run, script: Script) -> None:
    """Whatever a gateway says, an object is one line that any program can read."""

    async def answer(request: web.Request) -> web.Response:
        return refuse(400, "bad", "\u2028雪\n\x00")

    ended = octoremix(*REMIX, "--json", at=script(answer))
    assert ended.out.isascii()
    assert json.loads(ended.out)["error"]["type"] == "BadRequestError"
