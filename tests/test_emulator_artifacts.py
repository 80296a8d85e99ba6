"""The task host of new-api's release candidate 30: a task's own route, its files and their links."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from octoremix.testing import PROFILES, Emulator, Key, Route

from .emulator_client import Client

if TYPE_CHECKING:
    from pathlib import Path

MISSING = {"message": "Task or artifact not found", "type": "artifact_not_found", "code": "artifact_not_found"}  # fmt: skip


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "rc30"])
async def test_other_deployments_have_no_task_host(profile: str) -> None:
    """§1.4: the routes came with one release candidate, and are unknown to the others."""
    async with Emulator(profile=profile) as gateway, Client(gateway) as client:
        for path in ("/v1/tasks/v", "/v1/tasks/v/artifacts", "/v1/tasks/v/artifacts/video/content"):
            status, answer = await client.json("GET", path)
            assert (status, answer["error"]["message"]) == (404, f"Invalid URL (GET {path})")


async def test_a_task_has_a_route_of_its_own() -> None:
    """§1.3 trap 7: it tells the lifecycle object, and of an unknown task a 404."""
    async with Emulator(profile="rc30", duration=0, sources=["v"]) as gateway, Client(gateway) as c:
        video_id = (await c.remix("v"))["id"]
        status, answer = await c.json("GET", f"/v1/tasks/{video_id}")
        assert (status, answer) == (200, await c.query(video_id))
        assert (answer["status"], answer["task_id"]) == ("SUCCESS", video_id)
        status, answer = await c.json("GET", "/v1/tasks/other")
    assert (status, answer["error"]["message"]) == (404, "Task not found")
    assert gateway.books.polls == {video_id: 2, "other": 1}


async def test_the_files_of_a_task_are_listed_once_it_is_done() -> None:
    """§1.4: an empty list before, then one signed link that needs no key, with ranges and HEAD."""
    async with (
        Emulator(profile="rc30", duration=10, queued_share=0.0) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        path = f"/v1/tasks/{video_id}/artifacts"
        empty = await client.json("GET", path)
        early = await client.json("GET", f"{path}/video/content")
        await asyncio.sleep(10)
        status, answer = await client.json("GET", path)
        (artifact,) = answer["artifacts"]
        link = artifact.pop("content_url")
        whole = await client.call("GET", link, headers={})
        part = await client.call("GET", link, headers={"Range": "bytes=0-7"})
        head = await client.call("HEAD", link, headers={})
        by_key = await client.call("GET", f"{path}/video/content")
    assert empty == (200, {"task_id": video_id, "artifacts": []})
    assert (early[0], early[1]["error"]["code"]) == (409, "artifact_not_ready")
    assert early[1]["error"]["type"] == "artifact_not_ready"
    assert (status, answer["task_id"]) == (200, video_id)
    assert artifact == {"key": "video", "type": "video", "mime_type": "video/mp4"}
    assert link.startswith(gateway.url)
    assert (whole[0], len(whole[2])) == (200, 2059)
    assert whole[1]["Cache-Control"] == "private, no-store"
    assert (part[0], part[2][4:]) == (206, b"ftyp")
    assert (head[0], head[2]) == (200, b"")
    assert by_key[2] == whole[2]
    assert gateway.books.requests[Route.ARTIFACT_HEAD] == 1


async def test_a_link_is_good_for_its_task_alone() -> None:
    """§1.4: another signature or name, or another account's key, gives one and the same 404."""
    keys = {"sk-other": Key(user="other")}
    async with (
        Emulator(profile="rc30", duration=lambda request: request.index * 50, keys=keys) as gateway,
        Client(gateway) as client,
        Client(gateway, "sk-other") as other,
    ):
        ids = [(await client.remix(prompt=str(number)))["id"] for number in range(2)]
        _, answer = await client.json("GET", f"/v1/tasks/{ids[0]}/artifacts")
        link = answer["artifacts"][0]["content_url"]
        access = link.partition("access=")[2]
        old = (await client.json("GET", "/v1/tasks/old/artifacts"))[1]["artifacts"][0][
            "content_url"
        ]
        assert (await client.call("GET", old, headers={}))[0] == 200
        paths = [
            link[:-1],
            f"/v1/tasks/{ids[1]}/artifacts/video/content?access={access}",
            link.replace("/video/", "/audio/"),
        ]
        for path in paths:
            status, answer = await client.json("GET", path, headers={})
            assert (status, answer["error"]) == (404, MISSING)
        for path in ("artifacts", "artifacts/video/content"):
            status, answer = await other.json("GET", f"/v1/tasks/{ids[0]}/{path}")
            assert (status, answer["error"]) == (404, MISSING)
        early = gateway._gateway._artifacts.describe(ids[1], "", "")["content_url"]
        status, answer = await client.json("GET", early, headers={})
        assert (status, answer["error"]) == (404, MISSING)
        status, answer = await client.json("GET", f"/v1/tasks/{ids[0]}/artifacts/audio/content")
        assert (status, answer["error"]) == (404, MISSING)


async def test_a_task_can_be_done_without_files() -> None:
    """§1.3 trap 7: a finished task has no file and no link to one."""
    async with (
        Emulator(profile="rc30", duration=0, faults=["no_url"]) as gateway,
        Client(gateway) as client,
    ):
        path = f"/v1/tasks/{(await client.remix())['id']}/artifacts"
        listed = await client.json("GET", path)
        status, answer = await client.json("GET", f"{path}/video/content")
    assert listed[1]["artifacts"] == []
    assert (status, answer["error"]) == (404, MISSING)


async def test_the_type_of_a_file_is_told(tmp_path: Path) -> None:
    """A source of the user's has its own type in the list."""
    file = tmp_path / "cow.webm"
    file.write_bytes(bytes(10))
    async with (
        Emulator(profile="rc30", sources={"cow": file}) as gateway,
        Client(gateway) as client,
    ):
        _, answer = await client.json("GET", "/v1/tasks/cow/artifacts")
    assert answer["artifacts"][0]["mime_type"] == "video/webm"
