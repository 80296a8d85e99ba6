"""Submits that are always repeated, and strategies that fail: a doubt is told in every case."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tenacity

import octoremix

from .scripted import ScriptedGateway, cut, reply, task


def session(gateway: ScriptedGateway, **settings: Any) -> octoremix.Session:
    return octoremix.Session("key", base_url=gateway.url, **settings)


def always(wait: Any, attempts: int = 3) -> octoremix.RetryPolicy:
    return octoremix.RetryPolicy(submit="always", wait=wait, attempts=attempts)


NONSENSE: list[Any] = [
    pytest.param(lambda _: None, octoremix.ConfigurationError, id="none"),
    pytest.param(lambda _: -1, octoremix.ConfigurationError, id="negative"),
    pytest.param(lambda _: float("nan"), octoremix.ConfigurationError, id="nan"),
    pytest.param(lambda _: "1", octoremix.ConfigurationError, id="text"),
    pytest.param(lambda _: 1 / 0, ZeroDivisionError, id="raises"),
]


@pytest.mark.parametrize(("wait", "kind"), NONSENSE)
async def test_a_broken_strategy_is_told_and_buys_nothing(wait: Any, kind: type) -> None:
    """A `RetryPolicy.wait` that returns nonsense is named, and the submit ends there."""
    retry = octoremix.RetryPolicy(wait=wait)
    async with ScriptedGateway(submits=[reply(status=429)]) as gateway:
        async with session(gateway, retry=retry) as octo:
            with pytest.raises(kind, match=None if kind is ZeroDivisionError else "RetryPolicy"):
                await octo.submit("video_1", prompt="snow")
        assert len(gateway.posts) == 1


@pytest.mark.parametrize(("wait", "kind"), NONSENSE)
async def test_a_broken_strategy_does_not_hide_a_doubt(wait: Any, kind: type) -> None:
    """Where every submit is repeated, a strategy that fails leaves the doubt to be told."""
    async with ScriptedGateway(submits=[cut]) as gateway:
        async with session(gateway, retry=always(wait)) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError) as caught:
                await octo.submit("video_1", prompt="snow")
        assert isinstance(caught.value.__cause__, kind)
        assert caught.value.sent_at is not None
        assert len(gateway.posts) == 1


async def test_a_refusal_does_not_hide_the_doubt_before_it() -> None:
    """A second attempt that is refused says nothing of the first, which may be billed."""
    refusal = reply({"code": "invalid_request", "message": "no", "data": None}, status=400)
    async with ScriptedGateway(submits=[cut, refusal]) as gateway:
        async with session(gateway, retry=always(tenacity.wait_fixed(1))) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError) as caught:
                await octo.submit("video_1", prompt="snow")
        assert isinstance(caught.value.__cause__, octoremix.BadRequestError)
        assert len(gateway.posts) == 2


@pytest.mark.parametrize("how", ["cancel", "timeout", "close"])
async def test_leaving_between_two_attempts_does_not_hide_a_doubt(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A pause after an attempt in doubt that is broken off is not called free of charge."""
    async with ScriptedGateway(submits=[cut, task("queued")]) as gateway:
        async with session(gateway, retry=always(tenacity.wait_fixed(60))) as octo:
            timeout = 5 if how == "timeout" else None
            remix = asyncio.ensure_future(octo.remix("video_1", prompt="snow", timeout=timeout))
            await asyncio.sleep(5)
            if how == "cancel":
                remix.cancel()
            elif how == "close":
                await octo.aclose()
            (error,) = await asyncio.gather(remix, return_exceptions=True)
            await asyncio.sleep(100)
        assert len(gateway.posts) == 1
    if how == "cancel":
        assert "whose caller had left failed" in caplog.text
        assert "may be billed" in caplog.text
    else:
        assert isinstance(error, octoremix.SubmitOutcomeUnknownError)
