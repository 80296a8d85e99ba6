"""What the emulated gateway answers, without the server around it."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from aiohttp import web
from attrs import Factory, define, evolve, field, frozen

from . import _calls
from ._account import Account
from ._answers import (
    RefusedError,
    artifact_error,
    content_error,
    json_answer,
    middleware_error,
    no_route,
    panic_error,
    task_error,
)
from ._artifacts import HEADERS, KEY, NOT_FOUND, Artifacts
from ._books import JobRequest
from ._calls import ACCOUNT, ARTIFACT, HOST, PLACES, UNIFIED, Call, Route
from ._content import send
from ._desk import Desk
from ._dialects import Links
from ._edits import EDITS, edit, end_oddly
from ._fault_kinds import JOB_FAULTS
from ._jobs import Job, Phase, read
from ._legacy import legacy
from ._strikes import STRIKES, is_of_edge, strike

logger = logging.getLogger(__name__)

_UNFINISHED = json.dumps(
    {"error": {"message": "The source video is not completed", "type": "invalid_request_error"}}
)


@frozen
class _About:
    """What a call is about, for the plan of faults."""

    id: str
    index: int


@define(eq=False)
class Gateway:
    """The answers to requests about jobs.

    Attributes:
        desk: The jobs.
        cdn_url: The second origin, ``""`` if there is none.
    """

    desk: Desk
    cdn_url: str = ""
    _account: Account = field(
        default=Factory(
            lambda self: Account(self.desk.ledger, self.desk.keeper.books), takes_self=True
        )
    )
    _artifacts: Artifacts = Factory(Artifacts)
    _request_numbers: itertools.count[int] = Factory(itertools.count)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        route, video_id = _calls.identify(request.method, request.rel_url.raw_path)
        if route is Route.UNIFIED_QUERY:
            video_id = request.query.get("id", "")
        call = Call(request, route, video_id, self._new_request_id())
        with self.desk.keeper.request(route, request.headers.get("Authorization", "")):
            try:
                response = await self._answer(call)
            except RefusedError as refused:
                response = refused.answer(call.request_id)
            except Exception as error:
                logger.exception("the emulator could not answer %s", route)
                response = panic_error(error).answer(call.request_id)
            if not response.prepared and not is_of_edge(response):
                response.headers.update(_headers(call))
            return response

    async def _answer(self, call: Call) -> web.StreamResponse:
        route = call.route
        self.desk.catch_up(_now())
        if not self._has(route):
            return no_route(call.request.method, call.request.rel_url.raw_path)
        if route in ACCOUNT:
            header = call.request.headers.get("Authorization", "")
            return self._account.answer(route, self._key_of(call), header, _now())
        if route in ARTIFACT and "access" in call.request.query:
            if not self._artifacts.grants(call.video_id, call.request.query["access"]):
                raise artifact_error(404, "artifact_not_found", NOT_FOUND)
        else:
            call = evolve(call, key=self._check_key(call))
        if route is Route.MODELS:
            models = self.desk.ledger.keys[call.key].models or ["veo_3_1", "veo_3_1-extend"]
            data = [{"id": model, "object": "model", "owned_by": "emulator"} for model in models]
            return json_answer({"success": True, "data": data, "object": "list"})
        if route in {Route.UNIFIED_REMIX, Route.UNIFIED_EXTEND}:
            call = evolve(call, video_id=await self._source_in_body(call))
        call = self._with_faults(call)
        answer = partial(self._rightly, call)
        for fault in reversed(call.faults):
            if fault.name in STRIKES:
                answer = partial(strike, call.request, fault, answer)
        return await answer()

    def _has(self, route: Route) -> bool:
        """Whether this deployment knows the route."""
        profile = self.desk.rules.profile
        others = (route in UNIFIED and not profile.unified) or (route in HOST and not profile.host)
        return route is not Route.OTHER and not others

    def _key_of(self, call: Call) -> str | None:
        """The key that a request comes with; the prefix ``sk-`` is optional (new-api auth.go)."""
        scheme, _, given = call.request.headers.get("Authorization", "").partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer":
            return None
        wanted = (key for key in self.desk.ledger.keys if given in (key, key.removeprefix("sk-")))
        return next(wanted, None)

    def _check_key(self, call: Call) -> str:
        """Refuse a missing or unknown key, and one with nothing left: not even polls."""
        key = self._key_of(call)
        left = None if key is None else self.desk.ledger.left(key, _now())
        if key is None or (left is not None and left <= 0):
            raise middleware_error(401, "Invalid token")
        if PLACES.get(call.route) == "remix" and self.desk.ledger.keys[key].models:
            # The model is looked for where a remix has none (new-api middleware/distributor.go).
            raise middleware_error(403, "This token has no access to model ")
        return key

    def _with_faults(self, call: Call) -> Call:
        """The call with what goes wrong with it, which counts as a call for the plan."""
        place = PLACES[call.route]
        submit = place in {"remix", "create"}
        job = None if submit else self.desk.find_made(call.video_id)
        index = self.desk.next_index if submit else -1 if job is None else job.index
        chosen = self.desk.faults.choose(place, _About(call.video_id, index), submit=submit)
        if any(fault.name == "restart" for fault in chosen):
            self.desk.forget_unfinished(_now())
        if place == "query":
            self.desk.keeper.poll(call.video_id, _now())
        return evolve(call, faults=tuple(chosen))

    async def _rightly(self, call: Call) -> web.StreamResponse:
        answers: dict[str, Callable[[Call], Awaitable[web.StreamResponse]]] = {
            "create": self._create,
            "remix": self._remix,
            "query": self._query,
            "legacy": self._legacy,
            "content": self._artifact if call.route in ARTIFACT else self._content,
            "artifacts": self._list_artifacts,
        }
        return await answers[PLACES[call.route]](call)

    async def _create(self, call: Call) -> web.Response:
        # On this route a channel is chosen first, which wants a body and its model
        # (new-api middleware/distributor.go); hence the other envelope.
        body = await _calls.read_body(call.request, partial(middleware_error, 400))
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise middleware_error(400, "Model name not specified")
        models = self.desk.ledger.keys[call.key].models
        if models and model not in models:
            raise middleware_error(403, f"This token has no access to model {model}")
        _calls.check_types(body, "invalid_json")
        prompt = _calls.require_prompt(body)
        self._check_quota(call)
        return self._accept(call, None, prompt, model, body)

    async def _remix(self, call: Call) -> web.Response:
        # The order of these checks is the gateway's (new-api relay/relay_task.go).
        source = self._find(call)
        if source is None:
            raise task_error(400, "task_not_exist", "task_origin_not_exist")
        unreadable = partial(task_error, 400, "invalid_request")
        body = await _calls.read_body(call.request, unreadable)
        _calls.check_types(body, "invalid_request")
        prompt = _calls.require_prompt(body)
        model = _calls.require_model(body)
        self._check_quota(call)
        if read(source, _now()).phase is not Phase.COMPLETED:
            # The gateway doesn't look; the upstream does, and its answer is passed on.
            raise task_error(400, "fail_to_fetch_task", _UNFINISHED)
        return self._accept(call, source, prompt, model, body)

    async def _source_in_body(self, call: Call) -> str:
        unreadable = partial(task_error, 400, "invalid_request")
        source = (await _calls.read_body(call.request, unreadable)).get("task_id")
        if not isinstance(source, str) or not source:
            raise task_error(400, "invalid_request", "task_id is required")
        return source

    def _check_quota(self, call: Call) -> None:
        """Refuse a job that the key can't pay for."""
        price, left = self.desk.ledger.price, self.desk.ledger.left(call.key, _now())
        if left is not None and left < price:
            message = f"token quota is not enough, remaining: {left}, need: {price}"
            raise task_error(403, "pre_consume_token_quota_failed", message)

    def _accept(
        self, call: Call, source: Job | None, prompt: str, model: str, body: dict[str, Any]
    ) -> web.Response:
        """Take a job on, book its charge, and only then answer."""
        source_id = None if source is None else source.id
        request = JobRequest(self.desk.next_index, source_id, prompt, model, body)
        fault = next((fault for fault in call.faults if fault.name in JOB_FAULTS), None)
        job = self.desk.accept(request, source, call.key, fault, _now())
        answer = self.desk.rules.profile.submitted(job)
        if job.has("id_echo"):
            answer |= {name: job.source_id for name in ("id", "task_id") if name in answer}
        response = json_answer(answer)
        response.headers["X-New-Api-Other-Ratios"] = '{"seconds":8,"size":1}'
        return response

    async def _query(self, call: Call) -> web.Response:
        job, links = self._wanted(call)
        if job.fault is not None and job.has("late_visible") and job.hidden < job.fault.times:
            job.hidden += 1
            raise _unknown(call)
        profile, view = self.desk.rules.profile, self.desk.look(job, _now())
        answer = profile.queried(job, view, links)
        told = view.raw if profile.raw else view.state
        ended = told is not None and told.phase.ended
        status = 200
        if told is not None and ended:
            answer = end_oddly(answer, job, told, profile.place)
            if job.fault is not None and job.has("failure_as_error"):
                status = job.fault.status
        for fault in call.faults:
            if fault.name in EDITS:
                answer = edit(answer, fault, ended=ended)
        return json_answer(answer, status)

    async def _legacy(self, call: Call) -> web.Response:
        job, links = self._wanted(call)
        view = self.desk.look(job, _now())
        return json_answer(legacy(job, view, links, self.desk.rules.profile))

    async def _content(self, call: Call) -> web.StreamResponse:
        job = self._find(call)
        if job is None:
            raise content_error(404, "Task not found")
        phase = self.desk.look(job, _now()).state.phase
        if phase is not Phase.COMPLETED:
            message = f"Task is not completed yet, current status: {phase.state}"
            raise content_error(400, message)
        if not self.cdn_url and expire_link(job, job.link_version):
            raise content_error(502, "Upstream service returned status 403", "server_error")
        content = await self.desk.content_of(job)
        return await send(call.request, content, _headers(call), call.faults)

    async def _list_artifacts(self, call: Call) -> web.Response:
        job = self._find(call)
        if job is None:
            raise artifact_error(404, "artifact_not_found", NOT_FOUND)
        found = []
        completed = self.desk.look(job, _now()).state.phase is Phase.COMPLETED
        if completed and not job.has("no_url"):
            kind = (await self.desk.content_of(job)).content_type
            base = f"{call.request.scheme}://{call.request.host}"
            found.append(self._artifacts.describe(job.id, kind, base))
        return json_answer({"task_id": job.id, "artifacts": found})

    async def _artifact(self, call: Call) -> web.StreamResponse:
        job = self._find(call)
        completed = job is not None and self.desk.look(job, _now()).state.phase is Phase.COMPLETED
        if job is not None and not completed and call.key:
            raise artifact_error(409, "artifact_not_ready", "Task artifacts are not ready")
        key = call.request.rel_url.raw_path.split("/")[5]
        # To a signed link every refusal is the same.
        if job is None or not completed or key != KEY or job.has("no_url"):
            raise artifact_error(404, "artifact_not_found", NOT_FOUND)
        headers = _headers(call) | HEADERS
        return await send(call.request, await self.desk.content_of(job), headers, call.faults)

    def _find(self, call: Call) -> Job | None:
        made = self.desk.find_made(call.video_id)
        if call.key:
            user = self.desk.ledger.keys[call.key].user
        else:  # a signed link, which is good for whoever has it
            user = "" if made is None else made.user
        return self.desk.find(call.video_id, user, _now())

    def _wanted(self, call: Call) -> tuple[Job, Links]:
        """The job that is asked for, and where its video will be."""
        job = self._find(call)
        if job is None:
            raise _unknown(call)
        path = quote(job.id.encode("utf-8", "surrogateescape"), safe="")
        content = f"{call.request.scheme}://{call.request.host}/v1/videos/{path}/content"
        on_cdn = f"{self.cdn_url}/{path}.mp4?version={job.link_version}"
        return job, Links(content, on_cdn if self.cdn_url else content)

    def _new_request_id(self) -> str:
        # The gateway's form: the time to the nanosecond, then eight characters.
        now = time.time_ns()
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(now // 10**9))
        return f"{stamp}{now % 10**9:09d}{next(self._request_numbers):08d}"


def expire_link(job: Job, version: int) -> bool:
    """Whether a link of that version has expired, so that a query gives a newer one."""
    if job.fault is None or not job.has("url_expired") or version >= job.fault.times:
        return False
    job.link_version = max(job.link_version, version + 1)
    return True


def _unknown(call: Call) -> RefusedError:
    """What a query about a task that isn't there is answered with."""
    if call.route is Route.TASK:
        return content_error(404, "Task not found")
    return task_error(400, "task_not_exist", "task_not_exist")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _headers(call: Call) -> dict[str, str]:
    """What every answer carries (new-api ``middleware/request-id.go``, ``poweredby.go``)."""
    return {"X-Oneapi-Request-Id": call.request_id, "X-New-Api-Version": "v0.0.0-emulator"}
