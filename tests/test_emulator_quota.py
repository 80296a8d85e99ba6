"""Money and keys: what is charged, given back and refused, and what a key can learn of itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tenacity import wait_fixed

from octoremix import AuthenticationError, OctoremixError, PollPolicy, QuotaExceededError, Session
from octoremix.testing import Emulator, Key, Route

from .emulator_client import BODY, Client

POLL = PollPolicy(first_delay=3.0, wait=wait_fixed(12.0))


def outcome(request: Any) -> Any:
    return request.prompt if request.prompt in {"failed", "cancelled"} else "completed"


async def test_a_key_buys_until_too_little_is_left() -> None:
    """§3.2: a job that the key can't pay for is a 403 in the envelope of tasks, and free."""
    async with Emulator(quota=25, price=10) as gateway, Client(gateway) as client:
        await client.remix(prompt="1")
        await client.remix(prompt="2")
        answers = [
            await client.json("POST", path, json=BODY)
            for path in ("/v1/videos/v/remix", "/v1/videos")
        ]
        poll, _ = await client.json("GET", f"/v1/videos/{gateway.books.jobs[0].id}")
        async with Session(gateway.api_key, base_url=gateway.url) as session:
            with pytest.raises(QuotaExceededError) as caught:
                await session.submit("video_123", prompt="3")
    for status, answer in answers:
        assert (status, answer["code"]) == (403, "pre_consume_token_quota_failed")
    assert caught.value.safe_to_resubmit
    assert poll == 200
    gateway.books.assert_charged_once(2)


async def test_a_key_with_nothing_left_gets_401_on_everything() -> None:
    """§4.6: the submit that spends the last of it goes through, and then not even polls do."""
    async with Emulator(quota=10, price=10, duration=5) as gateway, Client(gateway) as client:
        video_id = (await client.remix())["id"]
        calls = [
            ("GET", f"/v1/videos/{video_id}"),
            ("GET", f"/v1/videos/{video_id}/content"),
            ("GET", f"/v1/video/generations/{video_id}"),
            ("POST", "/v1/videos/v/remix"),
        ]
        answers = [await client.json(method, path, json=BODY) for method, path in calls]
        assert [status for status, _ in answers] == [401] * 4
        assert answers[0][1]["error"]["message"].startswith("Invalid token (request id: ")
        status, usage = await client.json("GET", "/api/usage/token/")
    assert (status, usage["data"]["total_available"]) == (200, 0)


async def test_a_session_with_an_exhausted_key_keeps_its_ids() -> None:
    """§4.6: the job goes on and is paid for, and another key of the account finds it."""
    async with Emulator(quota=10, price=10, duration=60, keys={"sk-second": Key()}) as gateway:
        async with Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session:
            future = await session.submit("video_123", prompt="make it snow")
            with pytest.raises(OctoremixError) as caught:
                await future
            cause = caught.value.__cause__ or caught.value
            assert isinstance(cause, AuthenticationError)
            assert getattr(caught.value, "id", None) == future.id
        async with Session("sk-second", base_url=gateway.url, poll=POLL) as session:
            video = await session.track(future.id)
    assert video.status == "completed"
    gateway.books.assert_charged_once(1)


@pytest.mark.parametrize("refresh", [0.0, 15.0])
async def test_a_failure_is_given_back_when_the_gateway_sees_it(refresh: float) -> None:
    """§4.3: at the job's end, or at the first pass after it; a completed job stays paid."""
    async with (
        Emulator(quota=30, price=10, duration=20, outcome=outcome, refresh=refresh) as gateway,
        Client(gateway) as client,
    ):
        await asyncio.sleep(1)
        for prompt in ("completed", "failed", "cancelled"):
            await client.remix(prompt=prompt)
        assert gateway.books.refunded == 0
        await asyncio.sleep(20)  # it is 21 now; passes are at 15 and 30
        assert gateway.books.refunded == (0 if refresh else 2)
        await asyncio.sleep(9)
        assert gateway.books.refunded == 2
        _, usage = await client.json("GET", "/api/usage/token/")
        await client.remix(prompt="again")
    assert usage["data"]["total_used"] == 10
    assert usage["data"]["total_available"] == 20
    assert (gateway.books.charged, gateway.books.refunded) == (4, 2)
    assert "refunded=2" in repr(gateway.books)


async def test_a_key_of_few_models_creates_with_them_but_cannot_remix() -> None:
    """§3.2: new-api looks for a remix's model where it is not, and refuses the empty name."""
    key = Key(models=["veo_3_1"])
    async with (
        Emulator(keys={"sk-veo": key}, duration=0) as gateway,
        Client(gateway, "sk-veo") as client,
    ):
        made = await client.json("POST", "/v1/videos", json=BODY | {"model": "veo_3_1"})
        other = await client.json("POST", "/v1/videos", json=BODY)
        remix = await client.json(
            "POST", f"/v1/videos/{made[1]['id']}/remix", json=BODY | {"model": "veo_3_1"}
        )
        poll, _ = await client.json("GET", f"/v1/videos/{made[1]['id']}")
        _, models = await client.json("GET", "/v1/models")
    assert (made[0], other[0], remix[0], poll) == (200, 403, 403, 200)
    assert "no access to model veo_3_1-extend (request id" in other[1]["error"]["message"]
    assert "no access to model  (request id" in remix[1]["error"]["message"]
    assert [model["id"] for model in models["data"]] == ["veo_3_1"]


async def test_accounts_do_not_see_each_others_videos() -> None:
    """§4.1: the keys of one account share its videos; to another they don't exist."""
    keys = {"sk-mine": Key(user="me"), "sk-also-mine": Key(user="me"), "sk-other": Key(user="you")}
    async with Emulator(keys=keys, duration=0) as gateway:
        async with Client(gateway, "sk-mine") as mine:
            video_id = (await mine.remix())["id"]
        async with Client(gateway, "sk-also-mine") as also_mine:
            assert (await also_mine.query(video_id))["status"] == "completed"
        async with Client(gateway, "sk-other") as other:
            query = await other.json("GET", f"/v1/videos/{video_id}")
            remix = await other.json("POST", f"/v1/videos/{video_id}/remix", json=BODY)
            content = await other.json("GET", f"/v1/videos/{video_id}/content")
    assert (query[0], query[1]["code"]) == (400, "task_not_exist")
    assert (remix[0], remix[1]["message"]) == (400, "task_origin_not_exist")
    assert content[0] == 404
    assert gateway.books.jobs[0].key == "sk-mine"


async def test_the_order_of_refusals_is_the_gateways() -> None:
    """§3.2: with everything wrong at once, the first check of the real gateway answers."""
    limited = Key(models=["veo_3_1"], quota=5)
    async with (
        Emulator(quota=5, price=10, sources=["mine"], keys={"sk-few": limited}) as gateway,
        Client(gateway) as client,
    ):

        async def remix(key: str, source: str, body: Any) -> tuple[int, str]:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            path = f"/v1/videos/{source}/remix"
            status, answer = await client.json("POST", path, headers=headers, data=body)
            return status, answer.get("code", answer.get("error", {}).get("type"))

        api_key, fine = gateway.api_key, json.dumps(BODY)
        steps = [
            await remix("sk-wrong", "other", "{"),
            await remix("sk-few", "other", "{"),
            await remix(api_key, "other", "{"),
            await remix(api_key, "mine", "{"),
            await remix(api_key, "mine", '{"prompt": "p"}'),
            await remix(api_key, "mine", fine),
        ]
    assert steps == [
        (401, "new_api_error"),
        (403, "new_api_error"),
        (400, "task_not_exist"),
        (400, "invalid_request"),
        (400, "missing_model"),
        (403, "pre_consume_token_quota_failed"),
    ]
    assert gateway.books.accepted == 0


async def test_a_key_learns_what_it_used() -> None:
    """§4.3: the answer has the documented fields, with ``true`` for a code."""
    keys = {"sk-few": Key(quota=50, models=["veo_3_1"])}
    async with Emulator(price=7, keys=keys) as gateway, Client(gateway) as client:
        await client.remix()
        _, usage = await client.json("GET", "/api/usage/token/")
        headers = {"Authorization": "Bearer sk-few"}
        _, few = await client.json("GET", "/api/usage/token/", headers=headers)
    assert usage == {
        "code": True,
        "message": "ok",
        "data": {
            "object": "token_usage",
            "name": "emulator",
            "total_granted": 7,
            "total_used": 7,
            "total_available": 0,
            "unlimited_quota": True,
            "model_limits": {},
            "model_limits_enabled": False,
            "expires_at": 0,
        },
    }
    assert few["data"]["total_granted"] == few["data"]["total_available"] == 50
    assert few["data"]["model_limits"] == {"veo_3_1": True}


async def test_the_log_tells_what_was_bought_and_given_back() -> None:
    """§4.3: newest first: the path of each submit but not its new id, and the id of each refund."""
    keys = {"sk-other": Key()}
    async with (
        Emulator(price=7, duration=10, outcome=outcome, keys=keys) as gateway,
        Client(gateway) as client,
    ):
        await client.remix("video_1", prompt="failed")
        _, before = await client.json("GET", "/api/log/token")
        await asyncio.sleep(20)
        await client.json("POST", "/v1/videos", json=BODY)
        _, after = await client.json("GET", "/api/log/token")
        headers = {"Authorization": "Bearer sk-other"}
        _, other = await client.json("GET", "/api/log/token", headers=headers)
    assert [record["type"] for record in before["data"]] == [2]
    assert [record["type"] for record in after["data"]] == [2, 6, 2]
    assert [record["id"] for record in after["data"]] == [3, 2, 1]
    details = [json.loads(record["other"]) for record in after["data"]]
    assert details[0]["request_path"] == "/v1/videos"
    assert details[1]["task_id"] == gateway.books.jobs[0].id
    assert details[2]["request_path"] == "/v1/videos/video_1/remix"
    assert gateway.books.jobs[0].id not in str(before)
    assert other == {"success": True, "message": "", "data": []}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "No Authorization header"),
        ({"Authorization": "Bearer wrong"}, "Invalid Bearer token"),
        ({"Authorization": "sk-emulator"}, "Invalid Bearer token"),
    ],
)
@pytest.mark.parametrize("path", ["/api/usage/token/", "/api/log/token"])
async def test_these_routes_refuse_in_the_dashboards_envelope(
    path: str, headers: dict[str, str], message: str
) -> None:
    """§3.1 E4: a missing or unknown key is told as the documentation has it."""
    async with Emulator() as gateway, Client(gateway) as client:
        answer = await client.json("GET", path, headers=headers)
    assert answer == (401, {"success": False, "message": message})


async def test_these_routes_may_be_asked_twenty_times_in_twenty_minutes() -> None:
    """§4.5, §3.1 E5: then an empty 429 answers on both, until the first of them is twenty minutes old."""
    async with Emulator() as gateway, Client(gateway) as client:
        for number in range(20):
            path = "/api/usage/token/" if number % 2 else "/api/log/token"
            assert (await client.call("GET", path))[0] == 200
            await asyncio.sleep(1)
        status, headers, body = await client.call("GET", "/api/usage/token/")
        assert (status, body) == (429, b"")
        assert "Retry-After" not in headers
        await asyncio.sleep(1180)
        assert (await client.call("GET", "/api/log/token"))[0] == 200
    assert gateway.books.requests[Route.USAGE] == 11


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"price": -1}, ValueError, "price"),
        ({"refresh": -1.0}, ValueError, "refresh"),
        ({"refresh": float("inf")}, ValueError, "refresh"),
        ({"sweep_after": 0}, ValueError, "sweep_after"),
        ({"keys": {"a b": Key()}}, ValueError, "api_key"),
        ({"faults": "cut"}, TypeError, "faults"),
        ({"faults": ["fire"]}, ValueError, "fire"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    options: dict[str, Any], error: type[Exception], word: str
) -> None:
    """A wrong setting is an error at once, and the error names it."""
    with pytest.raises(error, match=word):
        Emulator(**options)


def test_the_models_of_a_key_are_several() -> None:
    """One name instead of a list of them would mean its letters."""
    with pytest.raises(TypeError, match="models"):
        Key(models="veo_3_1")
