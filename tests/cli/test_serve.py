"""What the local gateway of ``octoremix serve`` is told to be."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from octoremix.cli._serve import _fault
from octoremix.testing import FAULTS, PROFILES, Faults

from .conftest import end

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Ended

Launch = "Callable[..., subprocess.Popen[str]]"


def ask(serving: dict[str, Any], path: str, body: object = None) -> tuple[int, Any]:
    """One call to the gateway that a command serves."""
    request = urllib.request.Request(
        serving["base_url"] + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {serving['api_key']}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def test_serve_speaks_a_dialect_and_goes_wrong(launch: Launch) -> None:
    """The profile, the refresh and each of the faults reach the gateway."""
    options = ["--profile", "grok", "--refresh", "600", "--duration", "0"]
    faults = ["--faults", "html_502:first=1", "--faults", "html_503:on=remix,next=1"]
    process = launch("serve", "--port", "0", "--json", *options, *faults, "--seed", "7")
    serving = json.loads(process.stdout.readline())
    body = {"prompt": "make it snow", "model": "veo_3_1-extend"}

    refused, _ = ask(serving, "/v1/videos/video_1/remix", body)
    _, job = ask(serving, "/v1/videos/video_1/remix", body)
    first, _ = ask(serving, f"/v1/videos/{job['id']}")
    second, seen = ask(serving, f"/v1/videos/{job['id']}")

    assert refused == 503
    assert job["id"].startswith("grok:")
    assert (first, second) == (502, 200)
    assert seen["status"] != "completed"  # it is, but the gateway looks in ten minutes
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert (ended.code, ended.objects[-1]["accepted"]) == (0, 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--profile", "groc"], [*PROFILES, "groc"]),
        (["--faults", "rain"], [*FAULTS, "'rain'"]),
        (["--faults", "cut", "--faults", ""], [*FAULTS, "no fault is called ''"]),
        (["--faults", "cut:nxt=1"], ["--faults cut:nxt=1: ", "use on, next, call, task, first"]),
        (["--faults", "cut:next"], ["--faults cut:next: ", "use on, next, call, task, first"]),
        (["--faults", "cut:next=some"], ["--faults cut:next=some: ", "next ", "not 'some'"]),
        (["--faults", "mix"], ["--faults mix: ", "needs a rate, as in mix:rate=0.3"]),
        (["--faults", "mix:rate=2"], ["rate must be from 0 to 1, not 2"]),
        (["--faults", "cut:rate=7"], ["rate must be from 0 to 1, not 7"]),
        (["--faults", "cut:on=moon"], ["cut happens on query, remix", "not on 'moon'"]),
        (["--faults", "\x1b[31m"], ["\\x1b[31m"]),
        (["--refresh", "inf"], ["refresh must be seconds from 0 up, not inf"]),
        (["--refresh", "-1"], ["--refresh"]),
    ],
)
def test_serve_refuses_what_does_not_exist(
    octoremix: Callable[..., Ended], options: list[str], told: list[str]
) -> None:
    """A wrong name or setting is a usage error, in words that list what there is."""
    ended = octoremix("serve", "--port", "0", *options)
    assert (ended.code, ended.out) == (2, "")
    assert [text for text in told if text not in ended.err] == []
    assert "report it" not in ended.err
    assert "\x1b[31m" not in ended.err


@pytest.mark.parametrize(
    ("text", "seeded"),
    [
        ("cut:rate=0.5", "cut:rate=0.5,seed=7"),
        ("cut:rate=0.5,seed=3", "cut:rate=0.5,seed=3"),
        ("cut", "cut:seed=7"),
        ("cut:", "cut:,seed=7"),
        ("mix:rate=0.2", "mix:rate=0.2,seed=7"),
    ],
)
def test_the_seed_is_that_of_each_fault_without_one(text: str, seeded: str) -> None:
    """``--seed`` varies all faults at once, and leaves alone what has a seed of its own."""
    assert _fault(text, 7) == seeded
    Faults.of([seeded])
