"""The dialects: what each answers to a submit and to queries, and when it sees what."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_fixed

from octoremix import PollPolicy, RemixError, Session
from octoremix.testing import PROFILES, Emulator, Fault, Outcome, Route
from octoremix.testing._jobs import Job, Phase
from octoremix.testing._views import Rhythm, failed_at, look

from .emulator_client import BODY, Client

if TYPE_CHECKING:
    from pathlib import Path

POLL = PollPolicy(first_delay=3.0, wait=wait_fixed(7.0))

DOC_KEYS = {
    "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at",
    "seconds", "size", "remixed_from_video_id", "error", "video_url",
}  # fmt: skip
SORA_KEYS = {
    "id", "object", "model", "status", "progress", "created_at", "seconds", "size",
    "remixed_from_video_id",
}  # fmt: skip
BUILT_KEYS = {"id", "object", "model", "status", "progress", "created_at", "completed_at"}
LIFECYCLE_KEYS = {
    "created_at", "fail_reason", "finished_at", "platform", "progress", "status", "task_id",
}  # fmt: skip
UNIFIED_KEYS = {
    "id", "object", "model", "status", "progress", "created_at", "size", "video_url",
    "enhanced_prompt", "status_update_time", "detail",
}  # fmt: skip
SORA_SUBMIT = SORA_KEYS | {"task_id"}

# The prefix of its ids, the fields of a submit, and of queries in the middle and at the end.
SHAPES: dict[str, tuple[str, set[str], set[str], set[str]]] = {
    "octopus-doc": ("video_", (DOC_KEYS | {"quality"}) - {"completed_at", "expires_at", "error", "video_url"}, DOC_KEYS, DOC_KEYS),
    "newapi-sora": ("task_", SORA_SUBMIT, SORA_KEYS, SORA_KEYS | {"completed_at", "video_url", "expires_at"}),
    "newapi-built": ("task_", SORA_SUBMIT, BUILT_KEYS, BUILT_KEYS | {"metadata"}),
    "newapi-gemini": ("task_", SORA_SUBMIT, BUILT_KEYS, BUILT_KEYS),
    "grok": ("grok:", {"id", "status", "status_update_time"}, DOC_KEYS - {"video_url"}, DOC_KEYS - {"video_url"} | {"output"}),
    "rc30": ("task_", SORA_SUBMIT, LIFECYCLE_KEYS, LIFECYCLE_KEYS),
    "unified": ("task_", {"id", "status", "status_update_time", "created_at"}, UNIFIED_KEYS, UNIFIED_KEYS),
}  # fmt: skip

# Status and progress of queries while queued, while running, completed, failed and cancelled.
WORDS: dict[str, list[tuple[str, Any]]] = {
    "octopus-doc": [("queued", 0), ("processing", 50), ("completed", 100), ("failed", 100), ("cancelled", 100)],
    "newapi-sora": [("queued", 0), ("in_progress", 50), ("completed", 100), ("failed", 100), ("cancelled", 100)],
    "newapi-built": [("queued", 0), ("in_progress", 50), ("completed", 100), ("failed", 100), ("failed", 100)],
    "newapi-gemini": [("queued", 0), ("in_progress", 50), ("completed", 100), ("failed", 100), ("failed", 100)],
    "grok": [("processing", 0), ("processing", 50), ("completed", 100), ("failed", 100), ("cancelled", 100)],
    "rc30": [("QUEUED", "0%"), ("IN_PROGRESS", "50%"), ("SUCCESS", "100%"), ("FAILURE", "100%"), ("FAILURE", "100%")],
    "unified": [("pending", "0"), ("processing", "50"), ("completed", "100"), ("failed", "100"), ("cancelled", "100")],
}  # fmt: skip

LINK_PLACES: dict[str, list[str]] = {
    "octopus-doc": ["video_url"],
    "newapi-sora": ["video_url"],
    "newapi-built": ["metadata", "url"],
    "grok": ["output", "url"],
    "unified": ["video_url"],
}


def follow_prompt(request: Any) -> Any:
    return request.prompt


@pytest.mark.parametrize("profile", PROFILES)
async def test_each_dialect_has_its_own_objects(profile: str) -> None:
    """§1.1, §1.3, §1.6, §2.1: submits and queries have the fields, ids, words and types of their dialect."""
    prefix, submitted, running, ended = SHAPES[profile]
    async with (
        Emulator(profile=profile, outcome=follow_prompt, duration=30) as gateway,
        Client(gateway) as client,
    ):
        answers = [
            await client.remix(prompt=prompt) for prompt in ("completed", "failed", "cancelled")
        ]
        ids = [job.id for job in gateway.books.jobs]
        first = await client.query(ids[0])
        await asyncio.sleep(15)
        middle = await client.query(ids[0])
        await asyncio.sleep(15)
        last = [await client.query(video_id) for video_id in ids]
    assert all(answer["id"] == video_id for answer, video_id in zip(answers, ids, strict=True))
    assert ids[0].startswith(prefix)
    assert set(answers[0]) == submitted
    assert set(middle) == running
    assert set(last[0]) == ended
    seen = [(answer["status"], answer["progress"]) for answer in (first, middle, *last)]
    assert seen == WORDS[profile]


@pytest.mark.parametrize("profile", PROFILES)
async def test_each_dialect_has_the_link_in_its_place(profile: str) -> None:
    """§2.3, §1.3 trap 3: a finished video's link stands where the dialect has it, or nowhere."""
    async with (
        Emulator(profile=profile, duration=0, cdn=True) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        answer: Any = await client.query(video_id)
        text = json.dumps(answer)
        place = LINK_PLACES.get(profile)
        if place is None:
            assert "http" not in text
            return
        for step in place:
            answer = answer[step]
        own = profile == "newapi-built"  # the gateway's own address, which wants the key
        assert answer.startswith(gateway.url if own else gateway.cdn_url)
        headers = client.headers if own else {}
        status, _, _ = await client.call("GET", answer, headers=headers)
    assert status == 200
    assert not gateway.books.cdn_keys


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("refresh", [0.0, 15.0])
@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
async def test_a_session_understands_every_dialect(
    profile: str, refresh: float, outcome: Any, tmp_path: Path
) -> None:
    """§1.3: through each dialect a wait ends as the books say, once paid, and the video is fetched."""
    async with (
        Emulator(profile=profile, refresh=refresh, outcome=outcome, cdn=True) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session,
    ):
        future = await session.submit("video_123", prompt="make it snow")
        if outcome == "completed":
            video = await future
            target = await session.download(video, tmp_path / "video.mp4")
            assert target.stat().st_size == 2059
        else:
            with pytest.raises(RemixError) as caught:
                await future
            video = caught.value.video
    assert video.id == gateway.books.jobs[0].id
    assert video.status == gateway.books.jobs[0].outcome
    gateway.books.assert_charged_once(1)
    assert gateway.books.refunded == (outcome != "completed")
    assert not gateway.books.cdn_keys


@pytest.mark.parametrize(
    ("profile", "before"),
    [
        ("octopus-doc", ("queued", 0)),
        ("newapi-sora", ("queued", 0)),
        ("newapi-built", ("unknown", 0)),
        ("grok", ("processing", None)),
        ("rc30", ("NOT_START", "0%")),
        ("unified", ("pending", None)),
    ],
)
async def test_between_two_passes_the_gateway_repeats_what_it_saw(
    profile: str, before: tuple[str, Any]
) -> None:
    """§4.4: until the first pass there is the submit's answer or nothing; then each lasts 15 seconds."""
    async with (
        Emulator(profile=profile, refresh=15.0, duration=40.0) as gateway,
        Client(gateway) as client,
    ):
        await asyncio.sleep(1)  # between two passes, at 1 s
        video_id = (await client.remix())["id"]
        seen = []
        for _ in range(16):
            answer = await client.query(video_id)
            seen.append((answer["status"], answer.get("progress")))
            await asyncio.sleep(3.5)
    # Asked at 1, 4.5, 8, 11.5; 15, 18.5, 22, 25.5, 29; 32.5, …: passes at 15, 30 and 45.
    assert seen[:4] == [before] * 4
    assert len(set(seen[4:9])) == 1
    assert len(set(seen[9:13])) == 1
    assert len(set(seen)) == 4
    assert seen[12] != seen[13] == seen[15]
    assert seen[15][0] in {"completed", "SUCCESS"}


async def test_a_live_dialect_knows_no_passes() -> None:
    """§4.4: where each query looks at the upstream, an end is seen at once."""
    async with (
        Emulator(profile="newapi-gemini", refresh=15.0, duration=2.0) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        await asyncio.sleep(2)
        assert (await client.query(video_id))["status"] == "completed"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("refresh", [0.0, 15.0])
async def test_a_job_that_is_swept_is_told_by_the_older_route(profile: str, refresh: float) -> None:
    """§1.3 trap 5, §4.5: the sweep ends and refunds a job, but an upstream's stored answer stays as it was."""
    raw = profile in {"octopus-doc", "newapi-sora", "grok", "unified"}
    async with (
        Emulator(
            profile=profile, refresh=refresh, duration=1000, queued_share=0.01, sweep_after=100
        ) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        await asyncio.sleep(99)
        before = await client.query(video_id)
        assert gateway.books.refunded == 0
        await asyncio.sleep(1)
        after = await client.query(video_id)
        _, legacy = await client.json("GET", f"/v1/video/generations/{video_id}")
        status, answer = await client.json("GET", f"/v1/videos/{video_id}/content")
    assert gateway.books.refunded == 1
    assert status == 400
    assert answer["error"]["message"].endswith("FAILURE")
    if raw:
        assert after["status"] == before["status"]
        assert gateway.books.jobs[0].outcome == "stuck"
    else:
        assert after["status"] in {"failed", "FAILURE"}
        assert gateway.books.jobs[0].outcome == "failed"
    assert legacy["code"] == "success"
    if profile == "newapi-gemini":
        assert legacy["data"]["status"] == "failed"
        return
    data = legacy["data"]
    assert (data["status"], data["progress"]) == ("FAILURE", "100%")
    assert data["fail_reason"] == "任务超时（2分钟）"  # noqa: RUF001
    assert data["data"]["status"] == "in_progress"


async def test_the_older_route_wraps_the_gateways_own_row() -> None:
    """§1.5: it has an envelope, a text for progress, the outer status and the link."""
    async with Emulator(refresh=15.0, duration=20.0) as gateway, Client(gateway) as client:
        await asyncio.sleep(1)
        video_id = (await client.remix())["id"]
        path = f"/v1/video/generations/{video_id}"
        _, before = await client.json("GET", path)
        await asyncio.sleep(14)
        _, middle = await client.json("GET", path)
        await asyncio.sleep(15)
        _, after = await client.json("GET", path)
        unknown = await client.json("GET", "/v1/video/generations/a%2Fb")
        link = f"{gateway.url}/v1/videos/{video_id}/content"
    assert {answer["code"] for answer in (before, middle, after)} == {"success"}
    rows = [answer["data"] for answer in (before, middle, after)]
    assert [row["status"] for row in rows] == ["NOT_START", "IN_PROGRESS", "SUCCESS"]
    assert [row["progress"] for row in rows] == ["0%", "70%", "100%"]
    assert [row.get("result_url") for row in rows] == [None, None, link]
    assert rows[0]["task_id"] == video_id
    assert (rows[0]["start_time"], rows[0]["finish_time"]) == (0, 0)
    assert rows[2]["finish_time"] > 0
    assert unknown[1]["data"]["task_id"] == "a/b"
    assert gateway.books.requests[Route.LEGACY_QUERY] == 4
    assert not gateway.books.polls


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("completed", ["queued", "processing", "succeeded"]), ("failed", ["queued", "processing", "failed"])],
)  # fmt: skip
async def test_the_older_route_of_a_live_channel_is_simpler(outcome: Any, words: list[str]) -> None:
    """§1.5: channels that are asked themselves have four words and the link in one place."""
    async with (
        Emulator(profile="newapi-gemini", outcome=outcome) as gateway,
        Client(gateway) as client,
    ):
        path = f"/v1/video/generations/{(await client.remix())['id']}"
        answers = []
        for _ in words:
            answers.append((await client.json("GET", path))[1]["data"])
            await asyncio.sleep(15)
    assert [answer["status"] for answer in answers] == words
    assert answers[0]["url"] == ""
    assert bool(answers[2]["url"]) is (outcome == "completed")
    assert bool(answers[2]["error"]) is (outcome == "failed")


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_unified_routes_are_octopusx_own(profile: str) -> None:
    """§1.6: create, query and remix below ``/v1/video/`` work there, and are unknown to new-api."""
    async with (
        Emulator(profile=profile, duration=0) as gateway,
        Client(gateway) as client,
    ):
        created = await client.json("POST", "/v1/video/create", json=BODY)
        if profile not in {"octopus-doc", "grok", "unified"}:
            assert created[0] == 404
            assert created[1]["error"]["message"] == "Invalid URL (POST /v1/video/create)"
            return
        source = created[1]["id"]
        path = "/v1/video/remix"
        remixed = await client.json("POST", path, json=BODY | {"task_id": source})
        found = await client.json("GET", f"/v1/video/query?id={remixed[1]['id']}")
        for path in (f"/v1/videos/{source}/extend", "/v1/video/extend"):
            await client.json("POST", path, json=BODY | {"task_id": source})
        nameless = await client.json("POST", path, json=BODY)
        broken, _ = await client.json("POST", path, data=b"{", headers=client.headers)
    assert found[1]["id"] == remixed[1]["id"]
    assert found[1]["status"] == "completed"
    assert [job.request.source_id for job in gateway.books.jobs] == [None] + [source] * 3
    assert (nameless[0], nameless[1]["message"]) == (400, "task_id is required")
    assert broken == 400
    assert gateway.books.polls == {remixed[1]["id"]: 1}


async def test_the_older_create_and_the_models_are_there() -> None:
    """§1: the other routes of new-api answer too."""
    async with Emulator(duration=0) as gateway, Client(gateway) as client:
        created = await client.json("POST", "/v1/video/generations", json=BODY)
        models = await client.json("GET", "/v1/models")
    assert created[1]["object"] == "video"
    assert gateway.books.requests[Route.LEGACY_CREATE] == 1
    assert models[1]["data"][0]["object"] == "model"


async def test_a_failure_of_the_built_object_has_its_reason_for_a_link() -> None:
    """§1.3 trap 2: new-api puts a failed job's reason where the link belongs."""
    async with (
        Emulator(profile="newapi-built", duration=0, outcome="failed") as gateway,
        Client(gateway) as client,
    ):
        answer = await client.query((await client.remix())["id"])
    assert answer["metadata"]["url"] == answer["error"]["message"]
    assert not answer["metadata"]["url"].startswith("http")


async def test_the_built_objects_completed_at_means_nothing() -> None:
    """§1.3 trap 1: it is set from the start, for it is the time of the row's last change."""
    async with Emulator(profile="newapi-built") as gateway, Client(gateway) as client:
        answer = await client.query((await client.remix())["id"])
    assert (answer["status"], answer["completed_at"]) == ("queued", answer["created_at"])


@given(
    accepted_at=st.integers(0, 60),
    duration=st.integers(0, 200),
    refresh=st.sampled_from([0, 1, 15]),
    sweep_after=st.one_of(st.just(math.inf), st.integers(1, 200)),
    outcome=st.sampled_from(["completed", "failed", "cancelled"]),
    fault=st.sampled_from([None, "odd_end", "stuck"]),
)
def test_a_failure_is_given_back_in_the_moment_in_which_it_is_seen(
    accepted_at: int,
    duration: int,
    refresh: int,
    sweep_after: float,
    outcome: Outcome,
    fault: str | None,
) -> None:
    """What the ledger knows beforehand is what a query would have told from then on."""
    rhythm = Rhythm(refresh, sweep_after)
    job = Job(
        "v", "", "m", "8", "", accepted_at, 0.0, duration, outcome=outcome, index=0,
        fault=None if fault is None else Fault(fault),
    )  # fmt: skip
    failures = [
        now
        for now in range(accepted_at, accepted_at + 420)
        if look(job, now, rhythm).state.phase in {Phase.FAILED, Phase.CANCELLED}
    ]
    assert failed_at(job, rhythm) == next(iter(failures), None)
    assert failures == list(range(failures[0], accepted_at + 420)) if failures else True


def test_an_unknown_dialect_is_refused() -> None:
    """The error names those that there are."""
    with pytest.raises(ValueError, match="newapi-built"):
        Emulator(profile="veo")
