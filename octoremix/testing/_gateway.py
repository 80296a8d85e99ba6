"""What the emulated gateway answers, without the server around it."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from attrs import Factory, define, frozen

from . import _calls
from ._answers import (
    RefusedError,
    content_error,
    json_answer,
    middleware_error,
    no_route,
    panic_error,
    task_error,
)
from ._books import Bookkeeper, JobRequest
from ._calls import Call, Route
from ._content import CannedContent, Content, open_file, send
from ._jobs import OUTCOMES, Job, Outcome, Phase, Rendering, read
from ._profiles import OCTOPUS_DOC, Profile
from ._renderer import Renderer

logger = logging.getLogger(__name__)

_OLD_VIDEO_AGE = 3600.0  # seconds since the making of a video that was not made here

_UNFINISHED = json.dumps(
    {"error": {"message": "The source video is not completed", "type": "invalid_request_error"}}
)


@frozen
class Rules:
    """How the gateway behaves; see `Emulator` for the meaning of each."""

    api_key: str
    duration: float | Callable[[JobRequest], float]
    queued_share: float
    outcome: Outcome | Callable[[JobRequest], Outcome]
    content_size: int
    sources: Mapping[str, Path | None] | None
    profile: Profile = OCTOPUS_DOC


@define(eq=False)
class Gateway:
    """The jobs, and the answers to requests about them."""

    rules: Rules
    keeper: Bookkeeper
    renderer: Renderer | None = None
    _jobs: dict[str, Job] = Factory(dict)
    _request_numbers: itertools.count[int] = Factory(itertools.count)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        raw_path = request.rel_url.raw_path
        route, video_id = _calls.identify(request.method, raw_path)
        call = Call(request, route, video_id, self._new_request_id())
        with self.keeper.request(route, request.headers.get("Authorization", "")):
            try:
                response = await self._answer(call)
            except RefusedError as refused:
                response = refused.answer(call.request_id)
            except Exception as error:
                logger.exception("the emulator could not answer %s", route)
                response = panic_error(error).answer(call.request_id)
            if not response.prepared:
                response.headers.update(_headers(call))
            return response

    async def _answer(self, call: Call) -> web.StreamResponse:
        if call.route is Route.OTHER:
            return no_route(call.request.method, call.request.rel_url.raw_path)
        self._check_key(call)
        match call.route:
            case Route.CREATE:
                return await self._create(call)
            case Route.REMIX:
                return await self._remix(call)
            case Route.QUERY:
                return self._query(call)
            case _:
                return await self._content(call)

    def _check_key(self, call: Call) -> None:
        """Refuse a missing or unknown key; the prefix ``sk-`` is optional (new-api auth.go)."""
        scheme, _, key = call.request.headers.get("Authorization", "").partition(" ")
        wanted = self.rules.api_key
        if scheme.lower() != "bearer" or key.strip() not in (wanted, wanted.removeprefix("sk-")):
            raise middleware_error(401, "Invalid token")

    async def _create(self, call: Call) -> web.Response:
        # On this route a channel is chosen first, which wants a body and its model
        # (new-api middleware/distributor.go); hence the other envelope.
        body = await _calls.read_body(call.request, partial(middleware_error, 400))
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise middleware_error(400, "Model name not specified")
        _calls.check_types(body, "invalid_json")
        return self._accept(None, _calls.require_prompt(body), model, body)

    async def _remix(self, call: Call) -> web.Response:
        # The order of these checks is the gateway's (new-api relay/relay_task.go).
        source = self._find(call.video_id)
        if source is None:
            raise task_error(400, "task_not_exist", "task_origin_not_exist")
        unreadable = partial(task_error, 400, "invalid_request")
        body = await _calls.read_body(call.request, unreadable)
        _calls.check_types(body, "invalid_request")
        prompt = _calls.require_prompt(body)
        model = _calls.require_model(body)
        if read(source, self._now()).phase is not Phase.COMPLETED:
            # The gateway doesn't look; the upstream does, and its answer is passed on.
            raise task_error(400, "fail_to_fetch_task", _UNFINISHED)
        return self._accept(source, prompt, model, body)

    def _query(self, call: Call) -> web.Response:
        job = self._find(call.video_id)  # which may make a source that is ready from now on
        now = self._now()
        self.keeper.poll(call.video_id, now)
        if job is None:
            raise task_error(400, "task_not_exist", "task_not_exist")
        origin = f"{call.request.scheme}://{call.request.host}"
        path = quote(job.id.encode("utf-8", "surrogateescape"), safe="")
        url = f"{origin}/v1/videos/{path}/content"
        return json_answer(self.rules.profile.queried(job, read(job, now), url))

    async def _content(self, call: Call) -> web.StreamResponse:
        job = self._find(call.video_id)
        if job is None:
            raise content_error(404, "Task not found")
        phase = read(job, self._now()).phase
        if phase is not Phase.COMPLETED:
            state = phase.value.partition(" ")[0]
            message = f"Task is not completed yet, current status: {state}"
            raise content_error(400, message)
        return await send(call.request, await self._content_of(job), _headers(call))

    async def _content_of(self, job: Job) -> Content:
        if job.file is not None:
            return await open_file(job.file)
        if job.rendering is not None:
            return await open_file(job.rendering.path)
        if self.renderer is not None:
            return await open_file(await self.renderer.scene())
        return CannedContent(self.rules.content_size)

    def _find(self, video_id: str) -> Job | None:
        """A job made here, or a video that the account had before."""
        if job := self._jobs.get(video_id):
            return job
        sources = self.rules.sources
        if sources is not None and video_id not in sources:
            return None
        file = None if sources is None else sources[video_id]
        created_at = time.time() - _OLD_VIDEO_AGE
        return Job(
            video_id, "", "veo_3_1", "8", "720x1280", self._now(), created_at, 0.0, file=file
        )

    def _accept(
        self, source: Job | None, prompt: str, model: str, body: dict[str, Any]
    ) -> web.Response:
        """Take a job on, book its charge, and only then answer."""
        index = self.keeper.books.accepted
        source_id = None if source is None else source.id
        request = JobRequest(index, source_id, prompt, model, body)
        duration = self._duration_of(request)
        job = Job(
            id=f"video_{uuid.uuid4()}",
            source_id=source_id or "",
            model=model,
            seconds=str(body.get("seconds") or "8"),
            size=str(body.get("size") or "720x1280"),
            accepted_at=self._now(),
            created_at=time.time(),
            duration=duration,
            queued=duration * self.rules.queued_share,
            outcome=self._outcome_of(request),
        )
        if self.renderer is not None and job.outcome == "completed":
            job.rendering = self._start_rendering(self.renderer, source, prompt)
        self._jobs[job.id] = job
        self.keeper.accept(job.id, request, job.accepted_at)
        response = json_answer(self.rules.profile.submitted(job))
        response.headers["X-New-Api-Other-Ratios"] = '{"seconds":8,"size":1}'
        return response

    def _start_rendering(self, renderer: Renderer, source: Job | None, prompt: str) -> Rendering:
        if source is None:
            return renderer.start(prompt)
        made = None if source.rendering is None else source.rendering.path
        return renderer.start(prompt, made=made, file=source.file)

    def _duration_of(self, request: JobRequest) -> float:
        duration = self.rules.duration
        seconds = duration(request) if callable(duration) else duration
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise ValueError(f"duration must give seconds from 0 up, not {seconds!r}")
        return seconds

    def _outcome_of(self, request: JobRequest) -> Outcome:
        outcome = self.rules.outcome
        word = outcome(request) if callable(outcome) else outcome
        if word not in OUTCOMES:
            raise ValueError(f"outcome must give one of {', '.join(OUTCOMES)}, not {word!r}")
        return word

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _new_request_id(self) -> str:
        # The gateway's form: the time to the nanosecond, then eight characters.
        now = time.time_ns()
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(now // 10**9))
        return f"{stamp}{now % 10**9:09d}{next(self._request_numbers):08d}"


def _headers(call: Call) -> dict[str, str]:
    """What every answer carries (new-api ``middleware/request-id.go``, ``poweredby.go``)."""
    return {"X-Oneapi-Request-Id": call.request_id, "X-New-Api-Version": "v0.0.0-emulator"}
