"""The local gateway: what it answers, what it books, and that time is the loop's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoremix.testing import Emulator, JobRequest, Route, _canned, _emulator, _renderer
from octoremix.testing._calls import ACCOUNT
from octoremix.testing._effects import EFFECTS, MAX_EFFECTS, choose_effects
from octoremix.testing._jobs import Job, Phase, Rendering, read

from .emulator_client import BODY, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


async def test_a_remix_is_answered_with_the_documented_object() -> None:
    """A submit answers at once, with the object of the vendor's page and the headers."""
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


async def test_content_is_a_real_mp4_of_the_wanted_size() -> None:
    """The content streams once the video is ready, with its length, type and caching."""
    async with (
        Emulator(duration=5, content_size=300_000) as gateway,
        Client(gateway) as client,
    ):
        path = f"/v1/videos/{(await client.remix())['id']}/content"
        status, answer = await client.json("GET", path)
        assert (status, answer) == (
            400,
            {
                "error": {
                    "message": "Task is not completed yet, current status: QUEUED",
                    "type": "invalid_request_error",
                }
            },
        )
        await asyncio.sleep(2)
        _, answer = await client.json("GET", path)
        assert answer["error"]["message"].endswith("IN_PROGRESS")
        await asyncio.sleep(3)
        status, headers, body = await client.call("GET", path)
    assert status == 200
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == "300000"
    assert headers["Cache-Control"] == "public, max-age=86400"
    assert headers["X-Oneapi-Request-Id"]
    assert len(body) == 300_000
    assert body[4:8] == b"ftyp"


async def test_a_client_that_leaves_in_the_middle_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A download that is cut by its reader ends quietly and is in flight no more."""
    async with Emulator(content_size=200_000_000) as gateway, Client(gateway) as client:
        url = f"{gateway.url}/v1/videos/any/content"
        async with client.http.get(url, headers=client.headers) as response:
            await response.content.read(10)
            assert gateway.books.in_flight == 1
            response.close()
        async with asyncio.timeout(60):
            while gateway.books.in_flight:
                await asyncio.sleep(0.01)
    assert not caplog.records


@given(st.integers(min_value=0, max_value=300_000))
def test_canned_files_have_exactly_the_wanted_size(extra: int) -> None:
    """Any size from the least one on can be made, and its boxes add up."""
    size = _canned.BASE_SIZE + (_canned.BOX_HEADER + extra if extra else 0)
    _canned.check_size(size)
    data = b"".join(_canned.canned_chunks(size))
    assert len(data) == size
    at, kinds = 0, []
    while at < size:
        kinds.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4])
    assert at == size
    assert kinds[:2] == [b"ftyp", b"moov"]
    assert (kinds[-1] == b"free") is bool(extra)


def test_a_canned_file_may_be_larger_than_a_box_can_say() -> None:
    """Beyond 4 GiB the last box says that it goes to the end."""
    chunks = _canned.canned_chunks(2**33)
    next(chunks)
    assert next(chunks) == b"\0\0\0\0free"


@given(
    st.text(min_size=1).filter(lambda text: text not in {".", ".."}),
    st.text(min_size=1).filter(lambda text: text.strip()),
)
def test_any_id_and_prompt_arrive_as_they_were_sent(video_id: str, prompt: str) -> None:
    """Slashes, percent signs, spaces and every script survive in a path, and prompts in bodies."""

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
    """The address in an answer leads to the same video, whatever its id holds."""
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


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic sk-emulator", "sk-emulator"]
)
@pytest.mark.parametrize("route", [r for r in Route if " " in r and r not in ACCOUNT])
async def test_every_route_wants_the_key(route: Route, header: str | None) -> None:
    """A missing or unknown key is a 401 in the middleware's envelope, with the request's id."""
    method, path = route.replace("{id}", "v").split()
    headers = {} if header is None else {"Authorization": header}
    async with Emulator() as gateway, Client(gateway) as client:
        status, answer_headers, body = await client.call(method, path, headers=headers, json=BODY)
    request_id = answer_headers["X-Oneapi-Request-Id"]
    message = f"Invalid token (request id: {request_id})"
    assert status == 401
    assert json.loads(body) == {"error": {"message": message, "type": "new_api_error", "code": ""}}
    assert gateway.books.accepted == 0
    assert gateway.books.authorizations == {(route, header or ""): 1}


@pytest.mark.parametrize("header", ["Bearer sk-mine", "bearer mine", "Bearer  mine "])
async def test_the_prefix_of_a_key_is_optional(header: str) -> None:
    """A key is accepted with ``sk-`` and without, as the gateway does."""
    async with Emulator(api_key="sk-mine") as gateway, Client(gateway) as client:
        status, _, _ = await client.call("GET", "/v1/videos/v", headers={"Authorization": header})
    assert status == 200


@pytest.mark.parametrize(
    ("options", "status", "code", "message"),
    [
        ({"json": {"model": "m"}}, 400, "invalid_request", "field prompt is required"),
        (
            {"json": {"model": "m", "prompt": " \n"}},
            400,
            "invalid_request",
            "field prompt is required",
        ),
        ({"json": {"prompt": "p"}}, 400, "missing_model", "model field is required"),
        (
            {"json": BODY | {"seconds": 8}},
            400,
            "invalid_request",
            "json: cannot unmarshal number into Go struct field TaskSubmitReq.seconds of type string",
        ),
        (
            {"json": {"prompt": {}, "model": "m"}},
            400,
            "invalid_request",
            "json: cannot unmarshal object into Go struct field TaskSubmitReq.prompt of type string",
        ),
        (
            {"json": None, "data": b"null", "type": "application/json"},
            400,
            "invalid_request",
            "json: cannot unmarshal null into Go value of type common.TaskSubmitReq",
        ),
        (
            {"data": json.dumps(BODY), "type": "text/plain"},
            400,
            "invalid_request",
            "field prompt is required",
        ),
        ({}, 400, "invalid_request", "field prompt is required"),
    ],
)
async def test_a_remix_that_is_wrong_is_refused_and_free(
    options: dict[str, Any], status: int, code: str, message: str
) -> None:
    """Each documented mistake has its code and wording, and nothing is charged."""
    async with Emulator() as gateway, Client(gateway) as client:
        options = dict(options)
        kind = options.pop("type", None)
        headers = client.headers | ({"Content-Type": kind} if kind else {})
        answer = await client.json("POST", "/v1/videos/v/remix", headers=headers, **options)
    assert answer == (status, {"code": code, "message": message, "data": None})
    assert gateway.books.accepted == gateway.books.charged == 0
    assert not gateway.books.jobs


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_refused(data: bytes) -> None:
    """A remix answers it in the envelope of tasks, a create in that of the middleware."""
    async with Emulator() as gateway, Client(gateway) as client:
        headers = client.headers | {"Content-Type": "application/json"}
        status, answer = await client.json("POST", "/v1/videos/v/remix", data=data, headers=headers)
        assert (status, answer["code"]) == (400, "invalid_request")
        status, answer = await client.json("POST", "/v1/videos", data=data, headers=headers)
        assert (status, answer["error"]["type"]) == (400, "new_api_error")


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ({"prompt": "p"}, "error", "Model name not specified"),
        ({"prompt": "p", "model": 5}, "error", "Model name not specified"),
        ({"model": "m"}, "code", "invalid_request"),
        ({"model": "m", "prompt": "p", "size": True}, "code", "invalid_json"),
    ],
)
async def test_a_create_that_is_wrong_is_refused(body: Any, where: str, what: str) -> None:
    """A create wants its model first, in another envelope than the rest."""
    async with Emulator() as gateway, Client(gateway) as client:
        status, answer = await client.json("POST", "/v1/videos", json=body)
    assert status == 400
    found = answer[where]["message"] if where == "error" else answer[where]
    assert found.startswith(what)
    assert gateway.books.charged == 0


async def test_a_video_can_be_made_and_then_remixed() -> None:
    """A create makes a source that is remixed once it is ready, and not before."""
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
    """Multipart bodies are read too: repeated fields as lists, files by their names."""
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


async def test_a_body_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of the gateway a body is not read."""
    monkeypatch.setattr(_emulator, "MAX_REQUEST_BYTES", 1000)
    async with Emulator() as gateway, Client(gateway) as client:
        body = BODY | {"prompt": "x" * 2000}
        status, answer = await client.json("POST", "/v1/videos/v/remix", json=body)
    assert (status, answer["code"]) == (413, "read_request_body_failed")


async def test_a_body_that_breaks_off_buys_nothing() -> None:
    """A client that leaves before its body is complete has bought nothing."""
    async with Emulator() as gateway:
        _, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
        head = (
            "POST /v1/videos/v/remix HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-emulator\r\n"
        )
        writer.write(
            f"{head}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{{".encode()
        )
        await writer.drain()
        await asyncio.sleep(1)
        assert gateway.books.in_flight == 1
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(1)
        assert gateway.books.in_flight == 0
    assert gateway.books.charged == 0


async def test_only_known_sources_exist_where_they_are_listed() -> None:
    """With sources given, other ids answer as unknown, each route in its own way."""
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


async def test_a_source_can_be_a_file(tmp_path: Path) -> None:
    """A file of the user's is the content of its id, until it is gone."""
    file = tmp_path / "cow.webm"
    file.write_bytes(bytes(range(256)) * 3000)
    async with Emulator(sources={"cow": file}) as gateway, Client(gateway) as client:
        status, headers, body = await client.call("GET", "/v1/videos/cow/content")
        assert (status, headers["Content-Type"]) == (200, "video/webm")
        assert body == file.read_bytes()
        file.unlink()
        status, answer = await client.json("GET", "/v1/videos/cow/content")
    assert status == 502
    assert answer["error"] == {"message": "Failed to fetch video content", "type": "server_error"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/videos"),
        ("DELETE", "/v1/videos/x"),
        ("POST", "/v1/videos/x"),
        ("POST", "/v1/videos/x/content"),
        ("GET", "/v1/videos/x/remix"),
        ("GET", "/v1/videos/x/y/z"),
        ("GET", "/v1/videos/"),
        ("POST", "/v1/videos//remix"),
        ("POST", "/v1"),
        ("POST", "/v1/nothing"),
        ("GET", "/api/nothing"),
    ],
)
async def test_routes_that_do_not_exist_say_so(method: str, path: str) -> None:
    """Below the API's paths an unknown route is a 404 in JSON, with or without a key."""
    async with Emulator() as gateway, Client(gateway) as client:
        status, answer = await client.json(method, path, headers={})
    assert status == 404
    assert answer == {
        "error": {
            "message": f"Invalid URL ({method} {path})",
            "type": "invalid_request_error",
            "param": "",
            "code": "",
        }
    }
    assert gateway.books.requests == {Route.OTHER: 1}


@pytest.mark.parametrize("path", ["/", "/videos/x", "/v2/videos/x"])
async def test_other_paths_are_the_dashboards(path: str) -> None:
    """A wrong base URL finds a page of HTML and no error, as on the real gateway."""
    async with Emulator() as gateway, Client(gateway) as client:
        status, headers, body = await client.call("GET", path)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert body.startswith(b"<!doctype html>")


async def test_the_books_say_what_happened() -> None:
    """Jobs in order with what they asked for, polls with their times, and counts by route."""
    async with Emulator() as gateway, Client(gateway) as client:
        loop = asyncio.get_running_loop()
        start = loop.time()
        ids = [(await client.remix(f"v{i}", prompt=f"p{i}", extra=[i]))["id"] for i in range(3)]
        await asyncio.sleep(5)
        await client.query(ids[0])
        await asyncio.sleep(10)
        await client.query(ids[0])

    books = gateway.books
    assert (books.accepted, books.charged) == (3, 3)
    assert [job.id for job in books.jobs] == ids
    assert [job.charged for job in books.jobs] == [True] * 3
    request = books.jobs[1].request
    assert (request.index, request.source_id, request.prompt) == (1, "v1", "p1")
    assert request.model == "veo_3_1-extend"
    assert request.body == BODY | {"prompt": "p1", "extra": [1]}
    assert start <= books.jobs[0].accepted_at <= start + 5
    assert books.polls == {ids[0]: 2}
    first, second = books.poll_times[ids[0]]
    assert second - first == pytest.approx(10, abs=1)
    assert books.requests == {"POST /v1/videos/{id}/remix": 3, "GET /v1/videos/{id}": 2}
    assert books.authorizations[Route.QUERY, "Bearer sk-emulator"] == 2
    assert (books.in_flight, books.most_in_flight) == (0, 1)
    assert "accepted=3" in repr(gateway)


async def test_the_books_know_how_many_came_at_once() -> None:
    """The most in flight is of all routes together, and of each by itself."""
    release = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        data = json.dumps(BODY).encode()
        yield data[:5]
        await release.wait()
        yield data[5:]

    async with Emulator() as gateway, Client(gateway) as client:
        path = "/v1/videos/v/remix"
        headers = client.headers | {"Content-Type": "application/json"}
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(client.json("POST", path, data=body(), headers=headers))
            await asyncio.sleep(1)
            assert gateway.books.in_flight == 5
            await client.query("v")
            release.set()
    assert gateway.books.in_flight == 0
    assert gateway.books.most_in_flight == 6
    assert gateway.books.most_in_flight_by_route == {Route.REMIX: 5, Route.QUERY: 1}


async def test_a_job_is_charged_before_it_is_answered() -> None:
    """A client that leaves without its answer has paid all the same."""
    async with Emulator() as gateway:
        _, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
        data = json.dumps(BODY)
        head = (
            "POST /v1/videos/v/remix HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-emulator\r\n"
        )
        kind = "Content-Type: application/json\r\n"
        writer.write(f"{head}{kind}Content-Length: {len(data)}\r\n\r\n{data}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(1)
    assert (gateway.books.accepted, gateway.books.charged) == (1, 1)


async def test_without_records_the_books_hold_counts_only() -> None:
    """A run of very many jobs can do without a record of each."""
    async with Emulator(record=False) as gateway, Client(gateway) as client:
        video = await client.remix()
        await client.query(video["id"])
    books = gateway.books
    assert (books.accepted, books.charged, books.jobs) == (1, 1, [])
    assert (books.polls, books.poll_times) == ({video["id"]: 1}, {})


async def test_many_connections_at_once_are_all_served() -> None:
    """A burst of new connections is answered without one of them timing out."""
    async with Emulator() as gateway:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        headers = {"Authorization": f"Bearer {gateway.api_key}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:

            async def poll(number: int) -> int:
                async with http.get(f"{gateway.url}/v1/videos/{number}") as response:
                    return response.status

            assert set(await asyncio.gather(*map(poll, range(300)))) == {200}
    assert gateway.books.requests[Route.QUERY] == 300


async def test_it_can_be_started_and_closed_by_hand() -> None:
    """Without ``async with`` it is the same; closing twice is nothing, starting twice an error."""
    gateway = Emulator(host="127.0.0.1")
    with pytest.raises(RuntimeError, match="start"):
        _ = gateway.url
    assert "closed" in repr(gateway)
    await gateway.aclose()
    assert await gateway.start() is gateway
    with pytest.raises(RuntimeError, match="already"):
        await gateway.start()
    await asyncio.gather(gateway.aclose(), gateway.aclose())
    await gateway.aclose()


async def test_after_an_outage_it_is_the_same_gateway() -> None:
    """Closed and started again it listens where it did and knows its jobs."""
    gateway = Emulator(duration=10)
    async with Client(gateway) as client:
        async with gateway:
            video = await client.remix()
            url = gateway.url
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.query(video["id"])
        await asyncio.sleep(10)
        async with gateway:
            assert gateway.url == url
            assert (await client.query(video["id"]))["status"] == "completed"


async def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    """A start that fails can be tried again."""
    async with Emulator() as first:
        port = int(first.url.rpartition(":")[2])
        second = Emulator(port=port)
        with pytest.raises(OSError, match="address"):
            await second.start()
    async with second:
        assert second.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("localhost", "http://localhost:8080"),
    ],
)
def test_the_address_is_one_to_connect_to(host: str, url: str) -> None:
    """Listening everywhere still gives an address that a client can use."""
    assert Emulator(host=host, port=8080).url == url


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


@pytest.mark.parametrize(
    ("ended_at", "share", "now", "phase", "progress"),
    [
        (None, 0.5, 0.0, Phase.QUEUED, 0),
        (None, 0.5, 2.0, Phase.PROCESSING, 20),
        (None, 0.5, 99.0, Phase.PROCESSING, 50),
        (None, 1.0, 99.0, Phase.PROCESSING, 99),
        (5.0, 1.0, 9.0, Phase.PROCESSING, 90),
        (5.0, 1.0, 10.0, Phase.COMPLETED, 100),
        (50.0, 1.0, 49.0, Phase.PROCESSING, 99),
        (50.0, 1.0, 50.0, Phase.COMPLETED, 100),
    ],
)
def test_a_rendered_job_is_ready_when_time_and_rendering_are(
    tmp_path: Path,
    ended_at: float | None,
    share: float,
    now: float,
    phase: Phase,
    progress: int,
) -> None:
    """The later of the two decides, and progress is that of the slower."""
    rendering = Rendering(tmp_path, share, ended_at)
    job = Job("v", "", "m", "8", "", 0.0, 1000.0, 10.0, queued=1.0, rendering=rendering)
    reading = read(job, now)
    assert (reading.phase, reading.progress) == (phase, progress)


def test_a_rendering_that_failed_fails_its_job(tmp_path: Path) -> None:
    """The reason of a failed rendering is the job's error."""
    rendering = Rendering(tmp_path, 0.1, 20.0, "no picture")
    job = Job("v", "", "m", "8", "", 0.0, 1000.0, 10.0, rendering=rendering)
    reading = read(job, 30.0)
    assert (reading.phase, reading.message) == (Phase.FAILED, "no picture")
    assert reading.ended_at == 1020.0


def test_a_job_without_a_duration_waits_for_its_rendering(tmp_path: Path) -> None:
    """Where no time has to pass the progress is that of the rendering alone."""
    job = Job("v", "", "m", "8", "", 0.0, 0.0, 0.0, rendering=Rendering(tmp_path, 0.25))
    assert read(job, 0.0).progress == 25


class StubRender:
    """Stands in for the module that needs PyAV: its videos are the names of their makers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    class Progress:
        def __init__(self, report: Callable[[float], None], stopped: Callable[[], bool]) -> None:
            self.report = report
            self.stopped = stopped

        def at(self, share: float) -> None:
            if self.stopped():
                raise RuntimeError
            self.report(share)

    def render_scene(self, target: Path) -> None:
        self.calls.append("scene")
        target.write_text("scene")

    def prepare_source(self, file: Path, target: Path, progress: Progress) -> None:
        self.calls.append("prepare")
        progress.at(0.5)
        target.write_text(file.read_text())

    def render_remix(self, source: Path, prompt: str, target: Path, progress: Progress) -> None:
        progress.at(0.5)
        self.hold.wait(10)
        progress.at(1.0)
        if prompt == "break":
            raise OSError(5, "the codec gave up", str(source))
        target.write_text(f"{source.read_text()} {prompt}")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubRender:
    module = StubRender()
    monkeypatch.setattr(_renderer, "load", lambda: module)
    return module


async def test_rendered_jobs_build_on_each_other(stub: StubRender, tmp_path: Path) -> None:
    """A remix is made of its source: a file, a video made here or else the generated scene."""
    file = tmp_path / "cow.mp4"
    file.write_text("cow")
    async with (
        Emulator(duration=1, render=True, sources={"cow": file, "cow too": file}) as gateway,
        Client(gateway) as client,
    ):
        _, made = await client.json("POST", "/v1/videos", json=BODY | {"prompt": "nothing"})
        ids = [made["id"], (await client.remix("cow"))["id"], (await client.remix("cow too"))["id"]]
        await asyncio.sleep(30)
        ids.append((await client.remix(ids[1], prompt="at night"))["id"])
        await asyncio.sleep(30)
        contents = [(await client.call("GET", f"/v1/videos/{i}/content"))[2] for i in ids]
    assert contents == [
        b"scene nothing",
        b"cow make it snow",
        b"cow make it snow",
        b"cow make it snow at night",
    ]
    assert sorted(stub.calls) == ["prepare", "scene"]


async def test_a_job_waits_for_its_rendering_and_takes_its_failure(stub: StubRender) -> None:
    """Past its duration a job is still processing while its video is made, and may yet fail."""
    stub.hold.clear()
    async with Emulator(duration=0, render=True) as gateway, Client(gateway) as client:
        ids = [(await client.remix(prompt=prompt))["id"] for prompt in ("fine", "break")]
        while (await client.query(ids[0]))["progress"] != 50:
            await asyncio.sleep(0)
        status, _, _ = await client.call("GET", f"/v1/videos/{ids[0]}/content")
        assert status == 400
        stub.hold.set()
        await asyncio.sleep(30)
        fine, broken = [await client.query(video_id) for video_id in ids]
        _, _, source = await client.call("GET", "/v1/videos/video_123/content")
    assert (fine["status"], fine["progress"]) == ("completed", 100)
    assert broken["status"] == "failed"
    error = {"code": "render_failed", "message": "rendering failed: the codec gave up"}
    assert broken["error"] == error
    assert source == b"scene"


async def test_a_job_that_is_to_fail_is_not_rendered(stub: StubRender) -> None:
    """The outcome that was asked for is had without the work."""
    async with (
        Emulator(duration=0, outcome="failed", render=True) as gateway,
        Client(gateway) as client,
    ):
        video = await client.query((await client.remix())["id"])
    assert video["error"]["code"] == "generation_failed"
    assert not stub.calls


async def test_closing_stops_what_is_being_rendered(stub: StubRender) -> None:
    """Work that has not begun is dropped, and work that has ends at its next step."""
    async with Emulator(render=True) as gateway, Client(gateway) as client:
        stub.hold.clear()
        for number in range(20):
            await client.remix(prompt=str(number))
        # The thread is let go only when the gateway waits for it.
        threading.Timer(0.2, stub.hold.set).start()
    assert stub.calls == ["scene"]


def _names(prompt: str) -> list[str]:
    return [effect.name for effect in choose_effects(prompt)]


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("Make it SNOW!", ["snow"]),
        ("a rainy night", ["night", "rain"]),
        ("a train in Niceland", None),
        ("牛飞到海里去了", ["underwater"]),
        ("turn it into an old film", ["old film"]),
        ("a film of 1920, in colour", ["old film"]),
        ("the cows are dancing", ["spin"]),
        ("black and white, upside down", ["monochrome", "upside down"]),
    ],
)
def test_the_words_of_a_prompt_choose_what_happens(prompt: str, names: list[str] | None) -> None:
    """Whole words count, in any case and with their endings; a part of a word doesn't."""
    if names is None:
        assert _names(prompt)[0] == "tint"
    else:
        assert _names(prompt) == names


@given(st.text())
def test_any_prompt_does_something_and_always_the_same(prompt: str) -> None:
    """Every text has between one effect and the most that are combined."""
    assert 1 <= len(choose_effects(prompt)) <= MAX_EFFECTS
    assert choose_effects(prompt) == choose_effects(prompt)


def test_prompts_without_known_words_differ() -> None:
    """Different texts are turned and shaped differently, also where no word is known."""
    prompts = [hashlib.sha256(bytes([i])).hexdigest() for i in range(50)]
    assert len({str(choose_effects(prompt)) for prompt in prompts}) > 15


def test_every_effect_is_asked_for_by_its_words() -> None:
    """Each word of the table that is no pattern itself finds its own effect."""
    for effect in EFFECTS:
        for word in effect.words:
            if not set(word) & set("[]?"):
                assert effect in choose_effects(word), word


def test_without_pyav_rendering_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is missing the error says how to get it, and all else works."""
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "octoremix.testing._render", raising=False)
    monkeypatch.delitem(sys.modules, "octoremix.testing._render_graph", raising=False)
    with pytest.raises(ImportError, match=r'pip install "octoremix\[demo\]"'):
        Emulator(render=True)
    Emulator(render=False)


def test_loading_the_emulator_leaves_pyav_alone() -> None:
    """PyAV is loaded when something is to be rendered, and not before."""
    code = "import sys, octoremix.testing; sys.exit('av' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.asyncio(loop_factories=["real"])
async def test_a_source_is_ready_when_it_is_first_asked_for() -> None:
    """On a real clock too, any source reads as finished at once, with its link."""
    async with Emulator() as gateway, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {gateway.api_key}"}
        async with http.get(f"{gateway.url}/v1/videos/video_123", headers=headers) as response:
            answer = await response.json()
        assert answer["status"] == "completed"
        assert answer["video_url"]
