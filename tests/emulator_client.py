"""Talks to an emulator as plainly as can be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from octoremix.testing import Emulator

BODY = {"prompt": "make it snow", "model": "veo_3_1-extend"}


class Client:
    """One connection pool, one key; nothing is retried or understood."""

    def __init__(self, gateway: Emulator, key: str | None = None) -> None:
        self.gateway = gateway
        self.headers = {"Authorization": f"Bearer {key or gateway.api_key}"}
        self.http = aiohttp.ClientSession()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any, bytes]:
        options.setdefault("headers", self.headers)
        base = "" if path.startswith("http") else self.gateway.url
        url = URL(base + path, encoded=True)
        async with self.http.request(method, url, **options) as response:
            return response.status, response.headers, await response.read()

    async def json(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        status, _, body = await self.call(method, path, **options)
        return status, json.loads(body)

    async def remix(self, source: str = "video_123", **fields: Any) -> dict[str, Any]:
        path = f"/v1/videos/{quote(source, safe='')}/remix"
        status, answer = await self.json("POST", path, json=BODY | fields)
        assert status == 200, answer
        result: dict[str, Any] = answer
        return result

    async def query(self, video_id: str) -> dict[str, Any]:
        status, answer = await self.json("GET", f"/v1/videos/{quote(video_id, safe='')}")
        assert status == 200, answer
        result: dict[str, Any] = answer
        return result
