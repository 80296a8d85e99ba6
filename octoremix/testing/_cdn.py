"""The second origin, from which finished videos are fetched without a key."""

from __future__ import annotations

import asyncio
from functools import partial
from urllib.parse import unquote_to_bytes

from aiohttp import web
from attrs import define

from ._answers import RefusedError
from ._content import send
from ._faults import Fault
from ._gateway import Gateway, expire_link
from ._jobs import Job, Phase, read
from ._strikes import STRIKES, page, strike


@define(eq=False)
class Cdn:
    """Serves the links in answers, and books who sends a key along."""

    gateway: Gateway

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        desk = self.gateway.desk
        desk.keeper.cdn(request.headers.get("Authorization", ""))
        name = request.rel_url.raw_path.removeprefix("/").removesuffix(".mp4")
        video_id = unquote_to_bytes(name).decode("utf-8", "surrogateescape")
        now = asyncio.get_running_loop().time()
        job = desk.find_made(video_id) or desk.find(video_id, "", now)
        if job is None or read(job, now).phase is not Phase.COMPLETED:
            return page(404)
        faults = desk.faults.choose("cdn", job)
        answer = partial(self._rightly, request, job, faults)
        for fault in reversed(faults):
            if fault.name in STRIKES:
                answer = partial(strike, request, fault, answer)
        try:
            return await answer()
        except RefusedError:  # a file of the user's that is gone
            return page(404)

    async def _rightly(
        self, request: web.Request, job: Job, faults: list[Fault]
    ) -> web.StreamResponse:
        version = request.query.get("version", "")
        if job.fault is not None and expire_link(job, int(version) if version.isdecimal() else 0):
            return page(job.fault.status)
        return await send(request, await self.gateway.desk.content_of(job), {}, faults)
