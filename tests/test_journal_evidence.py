"""What the key's own log tells of doubts: charged, not seen, or nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

import octoremix
from octoremix._evidence import Evidence
from octoremix._protocol import Response
from octoremix.testing import Emulator, Fault

from .journals import path, session
from .scripted import ScriptedGateway, cut, reply, task

__all__ = ["path"]

NOW = 1_800_000_000.0
SUBMIT_TIMEOUT = 120.0


def charge(at: float, video: str = "video_1", **changes: Any) -> dict[str, Any]:
    """Return a record of a charge, so many seconds from `NOW`."""
    other = json.dumps({"request_path": f"/v1/videos/{video}/remix"})
    return {"type": 2, "created_at": int(NOW + at), "other": other, **changes}


def doubt(at: float, key: str = "a", video: str = "video_1") -> octoremix.InDoubt:
    sent_at = datetime.fromtimestamp(NOW + at, UTC)
    return octoremix.InDoubt(key=key, video_id=video, model="model", attempt=1, sent_at=sent_at)


class Books:
    """Answers for the ledger: when remixes of a video were accepted, in seconds from `NOW`."""

    def __init__(self, *accepted: float) -> None:
        self.accepted = [NOW + at for at in accepted]

    async def submits_of(self, video_id: str) -> list[float]:
        return self.accepted


class Look:
    """A gateway's log as the test writes it.

    Attributes:
        sent: How many times it was asked for.
        time: The wall clock, in seconds from `NOW`.
    """

    def __init__(self, *records: Any, accepted: tuple[float, ...] = (), **answer: Any) -> None:
        document = {"success": True, "data": list(records)}
        content = answer.pop("body", json.dumps(document).encode())
        answer = {"status": 200, "headers": CIMultiDict(), **answer}
        self.response = Response(body=content, **answer)
        self.sent, self.time = 0, 0.0
        books: Any = Books(*accepted)
        self.evidence = Evidence(
            self.ask,
            books,
            submit_timeout=SUBMIT_TIMEOUT,
            now=lambda: NOW + self.time,
        )

    async def ask(self) -> Response:
        await asyncio.sleep(1)
        self.sent += 1
        return self.response

    async def told(self, *doubts: octoremix.InDoubt) -> list[str]:
        found = await self.evidence.look(doubts)
        return [found[each.key] for each in doubts]


async def test_a_charge_of_the_same_video_and_time_is_evidence() -> None:
    """A charge near the time of the POST shows that it was bought; others show nothing."""
    charges = [charge(-600), charge(-3600, "video_2"), charge(-9000)]
    look = Look(*charges)
    doubts = [doubt(-601), doubt(-3600, "b"), doubt(-8000, "c"), doubt(-3601, "d", "video_2")]
    assert await look.told(*doubts) == ["charged", "not seen", "not seen", "charged"]


async def test_one_charge_is_evidence_of_one_doubt() -> None:
    """Of two doubts that a charge could belong to, the older gets it."""
    look = Look(charge(-600))
    assert await look.told(doubt(-610, "b"), doubt(-630, "a")) == ["not seen", "charged"]


async def test_charges_of_known_jobs_are_no_evidence() -> None:
    """A charge that a job of a known id accounts for is not taken for that of a doubt."""
    known = Look(charge(-600), accepted=(-598, -5000))
    assert await known.told(doubt(-601)) == ["not seen"]
    more = Look(charge(-600), charge(-590), accepted=(-589,))
    assert await more.told(doubt(-601)) == ["charged"]


async def test_ids_in_paths_may_be_escaped() -> None:
    """The path of a charge is recognised with the id as it is and as it was sent."""
    look = Look(charge(-600, "grok%3A4%2Fa"), charge(-600, "grok:5/b"))
    doubts = [doubt(-600, "a", "grok:4/a"), doubt(-600, "b", "grok:5/b")]
    assert await look.told(*doubts) == ["charged", "charged"]


async def test_what_may_still_be_charged_is_not_called_unseen() -> None:
    """Until the edge has given up, a charge may yet come: a young doubt has no evidence."""
    assert await Look().told(doubt(-SUBMIT_TIMEOUT + 1)) == ["unavailable"]
    assert await Look().told(doubt(-SUBMIT_TIMEOUT - 1)) == ["not seen"]


async def test_a_look_is_as_old_as_its_answer() -> None:
    """A log that was read before a doubt could be in it says nothing of it, also a minute later."""
    look = Look()
    look.time = -100.0
    assert await look.told(doubt(-101)) == ["unavailable"]
    look.time = 20.0
    assert await look.told(doubt(-101)) == ["unavailable"]
    await asyncio.sleep(60)
    assert await look.told(doubt(-101)) == ["not seen"]
    assert look.sent == 2


async def test_one_look_a_minute_is_made() -> None:
    """However often and by however many it is asked for, the log is read once a minute."""
    look = Look(status=429)
    await asyncio.gather(look.told(doubt(-600)), look.told(doubt(-600)))
    await asyncio.sleep(50)
    assert await look.told(doubt(-600)) == ["unavailable"]
    assert look.sent == 1
    await asyncio.sleep(11)
    await look.told(doubt(-600))
    assert look.sent == 2


@pytest.mark.parametrize(
    "other", [None, "", "{", "[]", {}, {"request_path": 7}, '{"request_path": null}', "[" * 9999]
)
async def test_a_charge_without_a_path_may_be_any(other: Any) -> None:
    """Where a build of the gateway does not tell the path of a charge, nothing can be said."""
    look = Look(charge(-600, other=other))
    assert await look.told(doubt(-601), doubt(-9000, "b")) == ["unavailable", "not seen"]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404},
        {"status": 429},
        {"body": b"<html>"},
        {"body": b"[" * 9999},
        {"body": b"[]"},
        {"body": b'{"success": false, "data": []}'},
        {"body": b'{"success": true, "data": {}}'},
        {"complete": False},
    ],
)
async def test_an_answer_that_is_no_log_is_no_evidence(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway that keeps no log, or limits its reading, leaves every doubt without evidence."""
    caplog.set_level(logging.INFO, "octoremix")
    assert await Look(**answer).told(doubt(-600)) == ["unavailable"]
    assert "the key's log can't be read" in caplog.text


@pytest.mark.parametrize("record", [7, None, charge(-600, type=1), charge(-600, created_at="x")])
async def test_what_is_no_charge_is_passed_over(record: Any) -> None:
    """Other records, and nonsense among them, are no evidence."""
    assert await Look(record).told(doubt(-600)) == ["not seen"]


async def test_a_log_that_cannot_be_reached_is_no_evidence() -> None:
    """A failed look is told as such and not as an error: the doubts are what counts."""
    look = Look()

    async def ask() -> Response:
        raise octoremix.APIConnectionError("no answer")

    look.evidence._ask_gateway = ask
    assert await look.told(doubt(-600)) == ["unavailable"]


async def later(octo: octoremix.Session, seconds: float) -> None:
    """Let the clock of a session's evidence go on."""
    assert octo._recovery is not None
    evidence = octo._recovery._evidence
    before: Callable[[], float] = evidence._now
    evidence._now = lambda: before() + seconds


async def test_a_session_asks_the_emulators_log(path: Path) -> None:
    """A submit that was charged and lost is told from one that was cut before it was charged."""
    faults = [Fault("lost_answer", call=2), Fault("cut", on="remix", call=3)]
    async with Emulator(faults=faults) as gateway:
        async with octoremix.Session(gateway.api_key, base_url=gateway.url, journal=path) as octo:
            await octo.submit("video_1", prompt="snow", key="a")
            for key, video in (("b", "video_2"), ("c", "video_3")):
                with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                    await octo.submit(video, prompt="snow", key=key)
            asked = "GET /api/log/token"
            assert [each.evidence for each in await octo.in_doubt()] == [None, None]
            assert gateway.books.requests[asked] == 0
            await later(octo, 300)
            told = {each.key: each.evidence for each in await octo.in_doubt(evidence=True)}
            assert told == {"b": "charged", "c": "not seen"}
            assert gateway.books.requests[asked] == 1
            (_, second) = await octo.in_doubt(evidence=True)
            assert second.evidence == "not seen"
            assert gateway.books.requests[asked] == 1
            assert {each.status for each in await octo.history()} == {"submitted", "in_doubt"}


async def test_without_doubts_nothing_is_asked(path: Path) -> None:
    """The limited look is not spent where nothing is in doubt."""
    async with ScriptedGateway(submits=[task("queued")]) as gateway:
        async with session(gateway, path) as octo:
            assert await octo.in_doubt(evidence=True) == []
        assert not gateway.calls


async def test_a_gateway_without_a_log_gives_no_evidence(path: Path) -> None:
    """Where the log is missing each doubt is `unavailable`, and stays a doubt."""
    async with ScriptedGateway(submits=[cut], contents=[reply(status=404)]) as gateway:
        async with session(gateway, path) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                await octo.submit("video_1", prompt="snow", key="a")
            (found,) = await octo.in_doubt(evidence=True)
            assert found.evidence == "unavailable"
            await octo.abandon(found)


async def test_a_charge_that_a_wrong_clock_puts_elsewhere_is_not_overlooked() -> None:
    """A charge of the same video some minutes off shows nothing, but nobody calls it unseen."""
    look = Look(charge(-1300), charge(-4000, "video_2"))
    doubts = [doubt(-1000), doubt(-9000, "b"), doubt(-2500, "c", "video_2")]
    assert await look.told(*doubts) == ["unavailable", "not seen", "not seen"]
