"""The local gateway: what it answers about jobs, and that time is the loop's."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoremix.testing import Emulator, JobRequest, _canned

from .emulator_client import BODY, Client


async def test_a_remix_is_answered_with_the_documented_object() -> None:
    """§1.1: a submit answers at once, with the object of the vendor's page and the headers."""
    async with Emulator() as gateway, Client(gateway) as client:
        status, headers, body = await client.call(
            "POST", "/v1/videos/video_123/remix", json=BODY | {"size": "720P", "seconds": "5"}
        )
    answer = json.loads(body)
    created_at = answer.pop("created_at")
    video_id = answer.pop("id")
    assert status == 200
    assert video_id.startswith("video_")
    assert created_at > 1_700_000_000
    assert answer == {
        "object": "video",
        "model": "veo_3_1-extend",
        "status": "queued",
        "progress": 0,
        "size": "720P",
        "seconds": "5",
        "remixed_from_video_id": "video_123",
        "quality": "",
    }
    assert len(headers["X-Oneapi-Request-Id"]) == 31
    assert headers["X-New-Api-Other-Ratios"]
    assert headers["Content-Type"].startswith("application/json")


async def test_a_job_goes_its_way_on_the_loops_clock() -> None:
    """Queued, processing and completed follow from the time that passed, and so do the dates."""
    async with Emulator(duration=30.0, queued_share=0.2) as gateway, Client(gateway) as client:
        accepted = await client.remix()
        first = await client.query(accepted["id"])
        await asyncio.sleep(15)
        middle = await client.query(accepted["id"])
        await asyncio.sleep(15)
        last = await client.query(accepted["id"])
        url = f"{gateway.url}/v1/videos/{accepted['id']}/content"

    created_at = accepted["created_at"]
    assert (first["status"], first["progress"], first["video_url"]) == ("queued", 0, "")
    assert (first["completed_at"], first["expires_at"]) == (0, created_at + 86_400)
    assert first["error"] == {"message": "", "code": ""}
    assert (middle["status"], middle["progress"]) == ("processing", 50)
    assert (last["status"], last["progress"], last["video_url"]) == ("completed", 100, url)
    assert last["completed_at"] in range(created_at + 30, created_at + 32)
    assert last["expires_at"] == last["completed_at"] + 86_400
    assert last["remixed_from_video_id"] == "video_123"


async def test_durations_and_outcomes_can_follow_from_the_request() -> None:
    """A function decides for each request how long it takes and how it ends."""
    asked: list[JobRequest] = []

    def duration(request: JobRequest) -> float:
        asked.append(request)
        return 10.0 * request.index

    def outcome(request: JobRequest) -> Any:
        return {"bad": "failed", "stop": "cancelled"}.get(request.prompt, "completed")

    async with (
        Emulator(duration=duration, outcome=outcome) as gateway,
        Client(gateway) as client,
    ):
        ids = [(await client.remix(prompt=prompt))["id"] for prompt in ("good", "bad", "stop")]
        assert (await client.query(ids[0]))["status"] == "completed"
        assert (await client.query(ids[1]))["status"] == "queued"
        await asyncio.sleep(20)
        answers = [await client.query(video_id) for video_id in ids]
        refused = [
            await client.json("GET", f"/v1/videos/{video_id}/content") for video_id in ids[1:]
        ]

    assert [answer["status"] for answer in answers] == ["completed", "failed", "cancelled"]
    assert [answer["progress"] for answer in answers] == [100, 100, 100]
    assert [answer["error"]["code"] for answer in answers] == [
        "",
        "generation_failed",
        "cancelled",
    ]
    assert answers[1]["video_url"] == ""
    assert [(r.index, r.source_id, r.prompt) for r in asked][:2] == [
        (0, "video_123", "good"),
        (1, "video_123", "bad"),
    ]
    for status, answer in refused:
        assert status == 400
        message = answer["error"]["message"]
        assert message == "Task is not completed yet, current status: FAILURE"


@pytest.mark.parametrize(
    ("options", "word"),
    [({"duration": lambda _: -1.0}, "duration"), ({"outcome": lambda _: "won"}, "outcome")],
)
async def test_a_users_function_that_gives_nonsense_is_named(
    options: dict[str, Any], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers as the gateway does when it breaks, charges nothing, and the log says why."""
    async with Emulator(**options) as gateway, Client(gateway) as client:
        status, answer = await client.json("POST", "/v1/videos/v/remix", json=BODY)
    assert status == 500
    assert answer["error"]["type"] == "new_api_panic"
    assert word in answer["error"]["message"]
    assert gateway.books.charged == 0
    assert word in caplog.text


@given(
    st.text(min_size=1).filter(lambda text: text not in {".", ".."}),
    st.text(min_size=1).filter(lambda text: text.strip()),
)
def test_any_id_and_prompt_arrive_as_they_were_sent(video_id: str, prompt: str) -> None:
    """§4.2: slashes, percent signs, spaces and every script survive in a path, and prompts in bodies."""

    async def trip() -> None:
        async with Emulator(duration=0) as gateway, Client(gateway) as client:
            answer = await client.remix(video_id, prompt=prompt)
            source = await client.query(video_id)
            status, _, _ = await client.call(
                "GET", f"/v1/videos/{quote(video_id, safe='')}/content"
            )
        assert answer["remixed_from_video_id"] == source["id"] == video_id
        assert gateway.books.jobs[0].request.source_id == video_id
        assert gateway.books.jobs[0].request.prompt == prompt
        assert gateway.books.polls == {video_id: 1}
        assert status == 200

    asyncio.run(trip())


@pytest.mark.parametrize(
    "video_id", ["a/b", "a%2Fb", "a+b", "a=b", "grok:48a6", "a b", "视频", "x" * 254, "a//b/", "?#"]
)
async def test_awkward_ids_lead_to_their_content(video_id: str) -> None:
    """§4.2: the address in an answer leads to the same video, whatever its id holds."""
    async with Emulator(sources=[video_id]) as gateway, Client(gateway) as client:
        url = (await client.query(video_id))["video_url"]
        status, _, _ = await client.call("GET", url.removeprefix(gateway.url))
    assert status == 200


async def test_an_id_that_is_no_text_is_kept_apart_from_others() -> None:
    """Bytes that are no UTF-8 don't become the same id as other such bytes."""
    async with Emulator() as gateway, Client(gateway) as client:
        for path in ("/v1/videos/%ff", "/v1/videos/%fe"):
            _, answer = await client.json("GET", path)
            status, _, _ = await client.call("GET", answer["video_url"].removeprefix(gateway.url))
            assert status == 200
    assert len(gateway.books.polls) == 2


async def test_a_video_can_be_made_and_then_remixed() -> None:
    """§4.1: a create makes a source that is remixed once it is ready, and not before."""
    async with (
        Emulator(duration=10, sources=()) as gateway,
        Client(gateway) as client,
    ):
        status, made = await client.json("POST", "/v1/videos", json=BODY)
        assert (status, made["remixed_from_video_id"]) == (200, "")
        path = f"/v1/videos/{made['id']}/remix"
        status, answer = await client.json("POST", path, json=BODY)
        assert (status, answer["code"]) == (400, "fail_to_fetch_task")
        assert json.loads(answer["message"])["error"]["message"]
        await asyncio.sleep(10)
        remixed = await client.remix(made["id"])
        await asyncio.sleep(10)
        again = await client.remix(remixed["id"])
    assert again["remixed_from_video_id"] == remixed["id"]
    assert gateway.books.charged == 3
    assert gateway.books.jobs[0].request.source_id is None


async def test_a_create_may_be_a_form() -> None:
    """§1.2: multipart bodies are read too: repeated fields as lists, files by their names."""
    form = aiohttp.FormData()
    form.add_field("prompt", "a cat")
    form.add_field("model", "grok-video-3")
    for name in ("a.png", "b.png"):
        form.add_field("input_reference", b"\x89PNG", filename=name, content_type="image/png")
    async with Emulator() as gateway, Client(gateway) as client:
        status, answer = await client.json("POST", "/v1/videos", data=form)
        headers = client.headers | {"Content-Type": "multipart/form-data; boundary=x"}
        broken, _ = await client.json("POST", "/v1/videos", data=b"nothing", headers=headers)
    assert (status, answer["model"]) == (200, "grok-video-3")
    assert broken == 400
    assert gateway.books.jobs[0].request.body == {
        "prompt": "a cat",
        "model": "grok-video-3",
        "input_reference": ["a.png", "b.png"],
    }


async def test_only_known_sources_exist_where_they_are_listed() -> None:
    """§3.2: with sources given, other ids answer as unknown, each route in its own way."""
    async with Emulator(sources=["mine"]) as gateway, Client(gateway) as client:
        assert (await client.query("mine"))["status"] == "completed"
        remix = await client.json("POST", "/v1/videos/other/remix", json={})
        query = await client.json("GET", "/v1/videos/other")
        content = await client.json("GET", "/v1/videos/other/content")
    unknown = {"code": "task_not_exist", "data": None}
    assert remix == (400, unknown | {"message": "task_origin_not_exist"})
    assert query == (400, unknown | {"message": "task_not_exist"})
    error = {"message": "Task not found", "type": "invalid_request_error"}
    assert content == (404, {"error": error})


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"api_key": ""}, ValueError, "api_key"),
        ({"api_key": "a b"}, ValueError, "api_key"),
        ({"api_key": "schlüssel"}, ValueError, "api_key"),
        ({"api_key": "a\n"}, ValueError, "api_key"),
        ({"duration": -1}, ValueError, "duration"),
        ({"duration": float("nan")}, ValueError, "duration"),
        ({"duration": float("inf")}, ValueError, "duration"),
        ({"queued_share": 1.5}, ValueError, "queued_share"),
        ({"outcome": "won"}, ValueError, "outcome"),
        ({"content_size": 10}, ValueError, "content_size"),
        ({"content_size": _canned.BASE_SIZE + 7}, ValueError, "content_size"),
        ({"sources": "video_123"}, TypeError, "sources"),
        ({"sources": {"video_123": "/no/such/file.mp4"}}, ValueError, "video_123"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    options: dict[str, Any], error: type[Exception], word: str
) -> None:
    """A wrong setting is an error at once, and the error names it."""
    with pytest.raises(error, match=word):
        Emulator(**options)


@pytest.mark.asyncio(loop_factories=["real"])
async def test_a_source_is_ready_when_it_is_first_asked_for() -> None:
    """On a real clock too, any source reads as finished at once, with its link."""
    async with Emulator() as gateway, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {gateway.api_key}"}
        async with http.get(f"{gateway.url}/v1/videos/video_123", headers=headers) as response:
            answer = await response.json()
        assert answer["status"] == "completed"
        assert answer["video_url"]
