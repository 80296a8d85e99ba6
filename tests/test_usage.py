"""What a key has left, as the gateway tells it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import octoremix
from octoremix.testing import Emulator

from .scripted import ScriptedGateway, reply

PATH = "/api/usage/token/"


def answered(**data: Any) -> dict[str, Any]:
    return {"code": True, "message": "ok", "data": data}


async def asked(content: Any, *, status: int = 200) -> octoremix.KeyUsage:
    answer = content if callable(content) else reply(content, status=status)
    async with ScriptedGateway(contents=[answer]) as gateway:
        async with octoremix.Session("key", base_url=gateway.url) as octo:
            try:
                return await octo.usage()
            finally:
                (call,) = gateway.calls
                assert (call.method, call.path) == ("GET", PATH)
                assert call.headers["Authorization"] == "Bearer key"


async def test_what_the_key_has_left_is_read() -> None:
    """The gateway's numbers and the day of its end, as they are."""
    usage = await asked(
        answered(
            object="token_usage",
            name="for tests",
            total_granted=100,
            total_used=30.5,
            total_available="69.5",
            unlimited_quota=False,
            expires_at=1_800_000_000,
        )
    )
    assert usage == octoremix.KeyUsage(
        name="for tests",
        granted=100,
        used=30.5,
        available=69.5,
        expires_at=datetime.fromtimestamp(1_800_000_000, UTC),
    )


@pytest.mark.parametrize(
    "expiry", [{}, {"expires_at": 0}, {"expires_at": None}, {"expires_at": -1}]
)
async def test_a_key_without_an_end_has_none(expiry: dict[str, Any]) -> None:
    """What stands for «never» is no date; a name that is missing is none."""
    amounts = {"total_granted": 0, "total_used": 5, "total_available": -5}
    usage = await asked(answered(**amounts, **expiry, unlimited_quota=True))
    assert usage.expires_at is None
    assert usage.name is None
    assert usage.unlimited
    assert usage.available == -5


AMOUNTS = {"total_granted": 1, "total_used": 1, "total_available": 0}

MALFORMED = {
    "a missing number": answered(total_granted=1, total_used=1),
    "no number": answered(**{**AMOUNTS, "total_used": "much"}),
    "a truth": answered(**{**AMOUNTS, "total_used": True}),
    "no data": {"code": True, "message": "ok"},
    "data that is a list": {"code": True, "data": []},
    "a page": "<html>the dashboard</html>",
    "a list": [1],
    "nothing": b"",
    "a task": {"id": "task_1", "status": "queued"},
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
async def test_an_answer_that_can_not_be_read_is_told(content: Any) -> None:
    """What is no such answer is an `APIError`, never a guess."""
    with pytest.raises(octoremix.APIError):
        await asked(content)


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        ({"success": False, "message": "no"}, 200, octoremix.APIError),
        ({"code": False, "message": "no", "data": AMOUNTS}, 200, octoremix.APIError),
        ({"error": {"message": "no", "type": "x"}}, 401, octoremix.AuthenticationError),
        (b"", 429, octoremix.RateLimitError),
        (answered(**AMOUNTS), 500, octoremix.APIError),
        (b"", 404, octoremix.APIError),
    ],
)
async def test_a_refusal_is_told(content: Any, status: int, kind: type[Exception]) -> None:
    """An answer that says no is named by its status, and never read as numbers."""
    with pytest.raises(kind):
        await asked(content, status=status)


async def test_a_question_is_asked_once() -> None:
    """The gateway allows few of them, so a failure is told, not repeated."""
    with pytest.raises(octoremix.ServerError):
        await asked({"error": {"message": "busy", "type": "x"}}, status=503)


async def test_usage_follows_what_is_bought() -> None:
    """Against the emulator: each remix is seen in the numbers."""
    async with Emulator(duration=10, quota=100, price=10) as gateway:
        async with octoremix.Session(gateway.api_key, base_url=gateway.url) as octo:
            before = await octo.usage()
            await octo.submit("video_123", prompt="snow")
            after = await octo.usage()
        assert (before.granted, before.used, before.available) == (100, 0, 100)
        assert (after.granted, after.used, after.available) == (100, 10, 90)


async def test_a_closed_session_tells_nothing() -> None:
    """`usage` needs a session that is open."""
    octo = octoremix.Session("key", base_url="http://127.0.0.1:1")
    await octo.aclose()
    with pytest.raises(octoremix.SessionClosedError):
        await octo.usage()
