"""Whose refusal a poll met: the gateway's own ends waits, that of what stands in front does not."""

from __future__ import annotations

import asyncio

import pytest
import tenacity

import octoremix

from .responses import HTML, answer, middleware_error, refused_query, task_error
from .scripted import ScriptedGateway, reply, task

STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5)

OWN = {
    "middleware": middleware_error("Invalid token"),
    "error of any type": {"error": {"message": "no", "code": None}},
    "task": task_error("access_denied"),
    "dashboard": {"success": False, "message": "no"},
}
FOREIGN = {
    "detail": {"detail": "Not authenticated"},
    "api gateway": {"message": "Forbidden"},
    "number for a code": {"code": 403, "message": "Forbidden"},
    "empty code": {"code": "", "message": "Forbidden"},
    "code of a success": {"code": "success", "message": "Forbidden"},
    "text for an error": {"error": "forbidden"},
    "error without a message": {"error": {"code": "forbidden"}},
    "problem": {"title": "Forbidden", "status": 403, "detail": "no"},
    "nothing": {},
}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", [*OWN, *FOREIGN])
def test_an_error_tells_whether_it_is_the_gateways(name: str, status: int) -> None:
    """§3.1: `APIError.from_gateway` is true of the gateway's own envelopes, and of no other JSON."""
    body = {**OWN, **FOREIGN}[name]
    assert refused_query(answer(body, status)).from_gateway is (name in OWN)


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_is_not_the_gateways(status: int) -> None:
    """§3.1 E7: what is no JSON at all was written by something in front."""
    assert not refused_query(answer(HTML, status)).from_gateway


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", FOREIGN)
async def test_a_foreign_refusal_is_a_failed_poll(name: str, status: int) -> None:
    """§3.1 E7: a 401 or 403 from something in front of the gateway costs polls, and ends no wait."""
    foreign = reply(FOREIGN[name], status=status)
    script = [foreign, foreign, foreign, task("completed")]
    async with ScriptedGateway(polls=script) as gateway:
        async with octoremix.Session("key", base_url=gateway.url, poll=STEADY) as octo:
            video = await octo.track("task_1")
            assert video.status is octoremix.TaskStatus.COMPLETED
        assert len(gateway.gets) == 4


@pytest.mark.parametrize("name", OWN)
async def test_the_gateways_own_403_ends_its_task(name: str) -> None:
    """§3.2: a 403 of the gateway's own ends that task at once, and no other."""
    script = [reply(OWN[name], status=403), task("completed")]
    async with ScriptedGateway(polls=script) as gateway:
        async with octoremix.Session("key", base_url=gateway.url, poll=STEADY) as octo:
            refused = octo.track("task_1")
            await asyncio.sleep(1)
            other = octo.track("task_2")
            with pytest.raises(octoremix.PollingFailedError) as caught:
                await refused
            assert isinstance(caught.value.__cause__, octoremix.PermissionDeniedError)
            await other
        assert len(gateway.gets) == 2


@pytest.mark.parametrize("name", OWN)
async def test_the_gateways_own_401_ends_every_wait(name: str) -> None:
    """§4.6: two 401 of the gateway's own, ten seconds apart, end all waits."""
    async with ScriptedGateway(polls=[reply(OWN[name], status=401)]) as gateway:
        async with octoremix.Session("key", base_url=gateway.url, poll=STEADY) as octo:
            futures = [octo.track("task_1"), octo.track("task_2")]
            await asyncio.wait(futures)
            causes = [getattr(future.exception(), "__cause__", None) for future in futures]
            assert {type(cause) for cause in causes} == {octoremix.AuthenticationError}
        assert len(gateway.gets) <= 4
