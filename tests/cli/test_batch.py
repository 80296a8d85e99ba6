"""`octoremix batch` against the local gateway, in this process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from octoremix import SQLiteJournal

from .conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from octoremix.testing import Emulator

BUY = ("--yes", "--poll-every", "1")

Run = "Callable[..., Ended]"
Script = "Callable[[Any], Scripted]"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Writes an input of prompts, or of whole records."""

    def write(*jobs: str | dict[str, Any], name: str = "list.jsonl") -> None:
        records = [{"video": "v", "prompt": job} if isinstance(job, str) else job for job in jobs]
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    return write


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """What holds of each prompt: its last line."""
    written = (folder / "results.jsonl").read_text(encoding="utf-8")
    return {job["prompt"]: job for job in map(json.loads, written.splitlines())}


def events(folder: Path) -> list[str]:
    written = (folder / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["event"] for line in written.splitlines()]


def prompts(gateway: Emulator) -> list[str]:
    """What was bought, in its order."""
    return [job.request.prompt for job in gateway.books.jobs]


def test_a_list_becomes_a_folder(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """Each line is bought once and its video saved; stdout is the folder, and the exit code 0."""
    write("rain", {"video": "w/x", "prompt": "雪", "model": "m", "key": "snow", "size": "720P"})
    ended = octoremix("batch", "list.jsonl", *BUY, at=gateway)
    assert (ended.code, ended.out) == (0, "list\n")
    folder = tmp_path / "list"
    found = results(folder)
    assert sorted(found) == ["rain", "雪"]
    for job in found.values():
        assert job["event"] == "downloaded"
        assert (folder / job["file"]).read_bytes()[4:8] == b"ftyp"
    assert found["雪"]["file"] == f"snow-{found['雪']['id']}.mp4"
    assert gateway.books.jobs[1].request.body == {"prompt": "雪", "model": "m", "size": "720P"}
    assert events(folder).count("submitted") == 2
    for name in ("results.jsonl", "journal.db"):
        assert os.name != "posix" or stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert "to be paid for: 2 jobs\n" in ended.err
    assert re.search(r"^2 jobs in \d+ s: 2 done, 2 downloaded$", ended.err, re.MULTILINE)
    assert "this run paid for 2 and the key used 1,000,000 units of quota\n" in ended.err
    for file in folder.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_a_page_is_made_at_the_end_on_demand(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """``--report`` leaves the page beside the videos, and says where."""
    write("snow", "rain")
    ended = octoremix("batch", "list.jsonl", *BUY, "--report", at=gateway)
    assert ended.code == 0
    assert "the page of it: list/report.html" in ended.err
    assert "snow" in (tmp_path / "list" / "report.html").read_text(encoding="utf-8")


def test_the_same_command_again_buys_nothing(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """A batch that is done is told as done, without a question, a request or a further line.

    What a killed run left of a download is removed.
    """
    write("one", "two")
    octoremix("batch", "list.jsonl", *BUY, at=gateway)
    before = events(tmp_path / "list")
    video = next((tmp_path / "list").glob("*.mp4"))
    left = video.with_name(f"{video.name[:50]}.0123abcd.part")
    left.touch()
    asked = gateway.books.requests.total()
    ended = octoremix("batch", "list.jsonl", at=gateway)
    assert ended.code == 0
    assert "      2  done already\nto be paid for: 0 jobs\n" in ended.err
    assert "2 done, 2 downloaded" in ended.err
    assert events(tmp_path / "list") == before
    assert not left.exists()
    assert gateway.books.requests.total() == asked


def test_an_edited_line_is_announced_and_bought_a_moved_one_is_neither(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """What a line buys names its job: lines may move, and an edit is told before it is paid."""
    write("one", "two", "three")
    octoremix("batch", "list.jsonl", *BUY, at=gateway)
    write("three", "one", "two, edited")
    told = octoremix("batch", "list.jsonl", "--dry-run", at=gateway).err
    assert "1 job of the folder not in the input any more" in told
    assert "to be paid for: 1 job\n" in told
    assert gateway.books.accepted == 3
    assert octoremix("batch", "list.jsonl", *BUY, at=gateway).code == 0
    assert prompts(gateway) == ["one", "two", "three", "two, edited"]
    assert len(list((tmp_path / "list").glob("*.mp4"))) == 4


def test_a_dry_run_needs_no_key_and_does_nothing(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """It tells the jobs, the price in jobs and the time, sends nothing and makes no folder."""
    write(*map(str, range(250)))
    ended = octoremix(
        *("batch", "list.jsonl", "--dry-run", "--rate", "2", "--json"),
        at=gateway,
        OCTOPUSX_API_KEY="",
    )
    assert ended.code == 0
    (planned,) = ended.objects
    assert planned["event"] == "plan"
    assert (planned["to_pay"], planned["new"], planned["seconds"]) == (250, 250, 1250)
    assert "it takes about 20 min, if a job takes 3 min\n" in ended.err
    assert not gateway.books.requests
    assert [file.name for file in tmp_path.iterdir()] == ["list.jsonl"]


def test_nobody_to_ask_buys_nothing(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """Without a terminal --yes is needed: else code 2, no request and no folder."""
    write("one", "two")
    ended = octoremix("batch", "list.jsonl", at=gateway)
    assert (ended.code, ended.out) == (2, "")
    assert "2 jobs would be paid for, and nobody can be asked: --yes buys" in ended.err
    assert not gateway.books.requests
    assert [file.name for file in tmp_path.iterdir()] == ["list.jsonl"]


WRONG: list[tuple[list[str], str]] = [
    (["list.jsonl", "--name", "{nothing}"], "{nothing}"),
    (["list.jsonl", "--format", "xml"], "--format must be csv or jsonl, not xml"),
    (["list.jsonl", "--out", "list.jsonl"], "list.jsonl is no folder: name another one with --out"),
    (["-"], "name a folder with --out"),
    (["gone.csv"], "gone.csv: No such file"),
    (["empty.csv"], "names no job"),
]


@pytest.mark.parametrize(("words", "reason"), WRONG, ids=lambda value: " ".join(value[:3]))
@pytest.mark.parametrize("how", ["--yes", "--dry-run"])
def test_wrong_use_costs_nothing(
    octoremix: Run,
    gateway: Emulator,
    write: Callable[..., None],
    tmp_path: Path,
    words: list[str],
    reason: str,
    how: str,
) -> None:
    """A mistake is told with exit code 2, before a request is sent or a folder is made."""
    write("one")
    (tmp_path / "empty.csv").touch()
    ended = octoremix("batch", *words, how, at=gateway)
    assert (ended.code, ended.out) == (2, "")
    assert reason in ended.err
    assert not gateway.books.requests
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty.csv", "list.jsonl"]


def test_bad_lines_are_told_each(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """All that is wrong with an input is told by line, on stderr and as JSON; nothing is sent."""
    write("one", {"prompt": "no video"}, {"video": "clip.mp4", "prompt": "a file"}, "fine")
    ended = octoremix("batch", "list.jsonl", "--json", *BUY, at=gateway)
    assert ended.code == 2
    assert re.search(r"^  line 2: .*\n  line 3: ", ended.err, re.MULTILINE)
    (told,) = ended.objects
    assert [problem[:7] for problem in told["problems"]] == ["line 2:", "line 3:"]
    assert not gateway.books.requests


def test_json_tells_the_plan_each_job_and_the_end(
    octoremix: Run, gateway: Emulator, write: Callable[..., None]
) -> None:
    """Stdout holds objects only: the plan, one for each job with its line and key, the sum."""
    write({"video": "v", "prompt": "x", "key": "a"}, {"video": "v", "prompt": "y", "key": "b"})
    told = octoremix("batch", "list.jsonl", "--json", *BUY, at=gateway).objects
    assert [one["event"] for one in told] == ["plan", "done", "done", "batch"]
    assert {(one["key"], one["line"]) for one in told[1:3]} == {("a", 1), ("b", 2)}
    assert all(one["file"].endswith(f"{one['key']}-{one['id']}.mp4") for one in told[1:3])
    numbers = {name: told[-1][name] for name in ("jobs", "bought", "used", "done", "failed")}
    assert numbers == {"jobs": 2, "bought": 2, "used": 1_000_000, "done": 2, "failed": 0}


def test_what_failed_is_told_and_bought_again_on_demand(
    octoremix: Run,
    start_gateway: Callable[..., Emulator],
    write: Callable[..., None],
    tmp_path: Path,
) -> None:
    """A failed job is an outcome and code 1; only --retry-failed buys it again."""
    gateway = start_gateway(outcome=lambda job: "failed" if job.index == 1 else "completed")
    write("one", "two")
    ended = octoremix("batch", "list.jsonl", "--concurrency", "1", *BUY, at=gateway)
    assert ended.code == 1
    assert "error: line 2: " in ended.err
    assert "1 done, 1 failed" in ended.err
    found = results(tmp_path / "list")
    assert (found["one"]["event"], found["two"]["event"]) == ("downloaded", "failed")
    assert found["two"]["error"]["type"] == "RemixFailedError"
    again = octoremix("batch", "list.jsonl", *BUY, at=gateway)
    assert (again.code, gateway.books.accepted) == (1, 2)
    assert "1  ended badly: --retry-failed buys them again\nto be paid for: 0 jobs" in again.err
    retried = octoremix("batch", "list.jsonl", "--retry-failed", *BUY, at=gateway)
    assert (retried.code, prompts(gateway)) == (0, ["one", "two", "two"])
    assert "1  ended badly: bought again\nto be paid for: 1 job\n" in retried.err
    assert results(tmp_path / "list")["two"]["event"] == "downloaded"


def test_a_doubt_is_told_and_never_bought_again(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """An unanswered POST is code 4 with the command that settles it; --retry-failed leaves it."""
    gateway.faults.add("lost_answer", call=2)
    write("one", "two", "three")
    ended = octoremix("batch", "list.jsonl", "--concurrency", "1", *BUY, at=gateway)
    assert ended.code == 4
    assert "2 done, 1 in doubt" in ended.err
    assert "to settle the doubts: octoremix doubts --journal list/journal.db\n" in ended.err
    assert results(tmp_path / "list")["two"]["event"] == "in_doubt"
    again = octoremix("batch", "list.jsonl", "--retry-failed", *BUY, at=gateway)
    assert (again.code, prompts(gateway)) == (4, ["one", "two", "three"])
    assert "1  in doubt: perhaps paid for, and not sent again" in again.err
    assert events(tmp_path / "list").count("in_doubt") == 1


def test_a_gateway_that_answers_524_is_not_asked_on(
    octoremix: Run, script: Script, write: Callable[..., None], tmp_path: Path
) -> None:
    """Too many doubts stop a batch: the gateway has seen one POST more than may be in doubt."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        status = 524 if request.method == "POST" else 404
        return web.Response(status=status, text="<html>", content_type="text/html")

    server = script(answer)
    write(*map(str, range(300)))
    ended = octoremix("batch", "list.jsonl", *BUY, at=server)
    assert ended.code == 4
    assert sum(method == "POST" for method, _ in server.requests) == 6
    assert "6 in doubt, 294 not submitted" in ended.err
    assert "it stopped buying: 6 jobs are in doubt" in ended.err
    assert "\nthen the same command again submits the rest\n" in ended.err
    said = {name["event"] for name in results(tmp_path / "list").values()}
    assert said == {"in_doubt", "not_submitted"}
    write("a new one, before those in doubt", *map(str, range(300)))
    again = octoremix("batch", "list.jsonl", "--concurrency", "1", *BUY, at=server)
    assert sum(method == "POST" for method, _ in server.requests) == 6
    assert again.code == 4
    assert "more than 5 are in doubt: settle them before anything is bought" in again.err
    assert "to be paid for: 0 jobs" in again.err


def test_an_answer_that_leaves_a_doubt_is_one(
    octoremix: Run, script: Script, write: Callable[..., None], tmp_path: Path
) -> None:
    """A gateway whose upstream was too slow may have bought the job: in doubt, and code 4."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        error = {"code": "do_request_failed", "message": "upstream timeout", "data": None}
        return web.json_response(error, status=504)

    write("one")
    ended = octoremix("batch", "list.jsonl", *BUY, at=script(answer))
    assert ended.code == 4
    assert results(tmp_path / "list")["one"]["event"] == "in_doubt"


def test_an_account_without_quota_stops_a_batch(
    octoremix: Run,
    start_gateway: Callable[..., Emulator],
    write: Callable[..., None],
    tmp_path: Path,
) -> None:
    """What the key has left is told; when it is used up the rest waits, and the code is 3."""
    gateway = start_gateway(quota=1_200_000, price=500_000)
    write("one", "two", "three", "four")
    ended = octoremix("batch", "list.jsonl", "--concurrency", "1", *BUY, at=gateway)
    assert ended.code == 3
    assert "the key has 1,200,000 units of quota left\n" in ended.err
    assert gateway.books.accepted == 2
    assert "1 refused, 1 not submitted" in ended.err
    found = results(tmp_path / "list")
    assert [found[name]["event"] for name in ("three", "four")] == ["refused", "not_submitted"]


def test_most_jobs_are_counted_over_all_runs(
    octoremix: Run, gateway: Emulator, write: Callable[..., None]
) -> None:
    """--max-jobs caps what the batch costs; the code tells that not all of it is there."""
    write("one", "two", "three", "four")
    ended = octoremix("batch", "list.jsonl", "--max-jobs", "2", *BUY, at=gateway)
    assert (ended.code, gateway.books.accepted) == (1, 2)
    assert "to be paid for: 2 jobs\n" in ended.err
    assert "2 done, 2 not submitted" in ended.err
    again = octoremix("batch", "list.jsonl", "--max-jobs", "2", *BUY, at=gateway)
    assert (again.code, gateway.books.accepted) == (1, 2)
    more = octoremix("batch", "list.jsonl", "--max-jobs", "3", *BUY, at=gateway)
    assert (more.code, gateway.books.accepted) == (1, 3)


def test_failures_are_told_to_a_limit(
    octoremix: Run, script: Script, write: Callable[..., None], tmp_path: Path
) -> None:
    """Of many refusals the first ten are told and the rest is in the results, with code 1."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        error = {"code": "invalid_request", "message": "no such \ud83d\x1b video", "data": None}
        return web.json_response(error, status=400)

    write(*map(str, range(30)))
    ended = octoremix("batch", "list.jsonl", *BUY, at=script(answer))
    assert ended.code == 1
    assert ended.err.count("error: line ") == 10
    assert "further failures are told in results.jsonl alone" in ended.err
    assert "\x1b" not in ended.err
    assert re.search(
        r"^30 jobs in \d+ s: 30 refused\nthis run paid for 0$", ended.err, re.MULTILINE
    )
    assert {job["event"] for job in results(tmp_path / "list").values()} == {"refused"}
    assert len(events(tmp_path / "list")) == 30


def test_a_job_that_takes_too_long_goes_on(
    octoremix: Run,
    start_gateway: Callable[..., Emulator],
    write: Callable[..., None],
    tmp_path: Path,
) -> None:
    """After --timeout a job is not waited for: code 5, and the same command follows it again."""
    gateway = start_gateway(duration=2.5)
    write("one")
    ended = octoremix("batch", "list.jsonl", "--yes", "--timeout", "0.3", at=gateway)
    assert ended.code == 5
    assert "1 not waited for" in ended.err
    assert results(tmp_path / "list")["one"]["event"] == "detached"
    again = octoremix("batch", "list.jsonl", "--poll-every", "1", at=gateway)
    assert (again.code, gateway.books.accepted) == (0, 1)
    assert "1  under way already: followed\nto be paid for: 0 jobs" in again.err
    assert results(tmp_path / "list")["one"]["event"] == "downloaded"


def test_a_failed_download_buys_nothing(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """A video that can't be fetched leaves the job bought and done: the next run only fetches."""
    gateway.faults.add("content_json", on="content")
    write("one")
    ended = octoremix("batch", "list.jsonl", *BUY, at=gateway)
    assert ended.code == 1
    assert "1 done" in ended.err
    assert "downloaded" not in ended.err
    assert events(tmp_path / "list")[-1] == "download_failed"
    gateway.faults.clear()
    again = octoremix("batch", "list.jsonl", at=gateway)
    assert (again.code, gateway.books.accepted) == (0, 1)
    assert events(tmp_path / "list")[-1] == "downloaded"


def test_a_folder_of_another_gateway_is_refused(
    octoremix: Run,
    start_gateway: Callable[..., Emulator],
    write: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Another base URL would buy all anew, so the folder is refused with both ways out."""
    first, second = start_gateway(), start_gateway()
    write("one")
    octoremix("batch", "list.jsonl", *BUY, at=first)
    ended = octoremix("batch", "list.jsonl", *BUY, at=second)
    assert (ended.code, ended.out) == (2, "")
    assert f"the folder list has jobs of {first.url}, and this is {second.url}" in ended.err
    assert "name another folder with --out, or that gateway with --base-url" in ended.err
    assert not second.books.requests


def test_an_input_without_a_suffix_has_a_folder_beside_it(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """The folder of `list` is `list-videos`, and that of --out may lie anywhere."""
    write("one", name="list")
    assert octoremix("batch", "list", *BUY, at=gateway).out == "list-videos\n"
    ended = octoremix("batch", "list", "--out", "a/b c", *BUY, at=gateway)
    assert (ended.code, ended.out) == (0, "a/b c\n")
    assert (tmp_path / "a" / "b c" / "journal.db").is_file()


def test_what_a_killed_run_left_is_told_as_a_doubt(
    octoremix: Run, gateway: Emulator, write: Callable[..., None], tmp_path: Path
) -> None:
    """A job that was being sent when its process died is planned as in doubt, and not sent."""
    write("one", "two")
    gateway.faults.add("lost_answer", next=1)
    octoremix("batch", "list.jsonl", "--concurrency", "1", *BUY, at=gateway)
    journal = tmp_path / "list" / "journal.db"
    import sqlite3

    with sqlite3.connect(journal) as database:
        database.execute("UPDATE job SET state = 'intent' WHERE state = 'in_doubt'")
    database.close()
    dry = octoremix("batch", "list.jsonl", "--dry-run", at=gateway).err
    assert "1  were just being bought: in doubt if that run was killed" in dry
    ended = octoremix("batch", "list.jsonl", *BUY, at=gateway)
    assert "1  in doubt since a run was killed: not sent again" in ended.err
    assert (ended.code, prompts(gateway)) == (4, ["one", "two"])
    known = asyncio.run(SQLiteJournal(journal).history(states=["in_doubt"]))
    assert len(known) == 1


def test_the_rate_is_kept(octoremix: Run, gateway: Emulator, write: Callable[..., None]) -> None:
    """--rate spaces the requests: five submits at ten a second take their time."""
    write(*map(str, range(5)))
    ended = octoremix("batch", "list.jsonl", "--rate", "10", *BUY, at=gateway)
    assert ended.code == 0
    times = [job.accepted_at for job in gateway.books.jobs]
    assert times[-1] - times[0] >= 0.3
