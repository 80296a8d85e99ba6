"""What the local gateway refuses: keys, bodies and routes that are wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from octoremix.testing import Emulator, Route, _emulator
from octoremix.testing._calls import ACCOUNT, HOST

from .emulator_client import BODY, Client


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic sk-emulator", "sk-emulator"]
)
@pytest.mark.parametrize("route", [r for r in Route if " " in r and r not in ACCOUNT])
async def test_every_route_wants_the_key(route: Route, header: str | None) -> None:
    """§3.1 E2, §4.6: a missing or unknown key is a 401 in the middleware's envelope, with the request's id."""
    method, path = route.replace("{id}", "v").replace("{key}", "video").split()
    headers = {} if header is None else {"Authorization": header}
    profile = "rc30" if route in HOST else "octopus-doc"
    async with Emulator(profile=profile) as gateway, Client(gateway) as client:
        status, answer_headers, body = await client.call(method, path, headers=headers, json=BODY)
    request_id = answer_headers["X-Oneapi-Request-Id"]
    message = f"Invalid token (request id: {request_id})"
    assert status == 401
    if method == "HEAD":
        assert body == b""
    else:
        error = {"message": message, "type": "new_api_error", "code": ""}
        assert json.loads(body) == {"error": error}
    assert gateway.books.accepted == 0
    assert gateway.books.authorizations == {(route, header or ""): 1}


@pytest.mark.parametrize("header", ["Bearer sk-mine", "bearer mine", "Bearer  mine "])
async def test_the_prefix_of_a_key_is_optional(header: str) -> None:
    """§4.6: a key is accepted with ``sk-`` and without, as the gateway does."""
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
    """§1.1, §3.2: each documented mistake has its code and wording, and nothing is charged."""
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
    """§1.2, §3.1 E1, E2: a remix answers it in the envelope of tasks, a create in that of the middleware."""
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
    """§1.2: a create wants its model first, in another envelope than the rest."""
    async with Emulator() as gateway, Client(gateway) as client:
        status, answer = await client.json("POST", "/v1/videos", json=body)
    assert status == 400
    found = answer[where]["message"] if where == "error" else answer[where]
    assert found.startswith(what)
    assert gateway.books.charged == 0


async def test_a_body_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.5: beyond the limit of the gateway a body is not read."""
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
    """§1, §3.1 E2: below the API's paths an unknown route is a 404 in JSON, with or without a key."""
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
    """§1, §3.1 E7: a wrong base URL finds a page of HTML and no error, as on the real gateway."""
    async with Emulator() as gateway, Client(gateway) as client:
        status, headers, body = await client.call("GET", path)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert body.startswith(b"<!doctype html>")
