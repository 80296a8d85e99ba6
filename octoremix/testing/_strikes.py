"""Faults in how a call is answered, around whatever the answer is."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from aiohttp import web

from ._answers import (
    RefusedError,
    artifact_error,
    content_error,
    hang_up,
    json_answer,
    middleware_error,
    panic_error,
    task_error,
)
from ._calls import read_body
from ._faults import Fault

Answer = Callable[[], Awaitable[web.StreamResponse]]

_PHRASES = {
    200: "Just a moment...",
    429: "Too Many Requests",
    502: "Bad gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway time-out",
    524: "A timeout occurred",
}


async def strike(request: web.Request, fault: Fault, answer: Answer) -> web.StreamResponse:
    """Answer a call with a fault.

    Args:
        request: The call.
        fault: What goes wrong.
        answer: Gives the right answer, and does what the call asks for.

    Raises:
        RefusedError: for an error in one of the gateway's envelopes.
    """
    if fault.name in _AROUND:
        return await _AROUND[fault.name](request, fault, answer)
    if fault.accepted:
        await answer()
    return await _INSTEAD[fault.name](request, fault)


def page(status: int, headers: dict[str, str] | None = None) -> web.Response:
    """A page of the edge in front of the gateway."""
    phrase = f"{status} {_PHRASES.get(status, 'Error')}"
    text = (
        f"<!DOCTYPE html>\n<html><head><title>{phrase}</title></head><body>{phrase}</body></html>\n"
    )
    edge = {"Server": "cloudflare", "cf-ray": "8f0123456789abcd-FRA"}
    return web.Response(
        text=text, status=status, content_type="text/html", headers=edge | (headers or {})
    )


def is_of_edge(response: web.StreamResponse) -> bool:
    """Whether an answer never saw the gateway, and has none of its headers."""
    return "cf-ray" in response.headers


# Instead of the right answer.


async def _cut(request: web.Request, fault: Fault) -> web.StreamResponse:
    del fault
    hang_up(request)
    return web.Response()


async def _hung(request: web.Request, fault: Fault) -> web.StreamResponse:
    await asyncio.sleep(fault.seconds)
    return await _cut(request, fault)


async def _empty(_: web.Request, __: Fault) -> web.StreamResponse:
    return web.Response(content_type="application/json")


async def _page(_: web.Request, fault: Fault) -> web.StreamResponse:
    return page(fault.status or 200)


async def _rate_limited_edge(_: web.Request, fault: Fault) -> web.StreamResponse:
    return page(429, {"Retry-After": f"{fault.seconds:g}"})


async def _rate_limited_empty(_: web.Request, __: Fault) -> web.StreamResponse:
    return web.Response(status=429)


async def _panic(_: web.Request, __: Fault) -> web.StreamResponse:
    raise panic_error(RuntimeError("runtime error: invalid memory address"))


async def _error_in_202(_: web.Request, __: Fault) -> web.StreamResponse:
    body = {"code": "fail_to_fetch_task", "message": '{"id":"","status":"accepted"}', "data": None}
    return json_answer(body, 202)


async def _content_502(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault.on == "cdn":
        return page(fault.status)
    del request
    raise content_error(fault.status, "Upstream service returned status 404", "server_error")


async def _content_blocked(_: web.Request, fault: Fault) -> web.StreamResponse:
    if fault.on == "cdn":
        return page(fault.status)
    message = "request blocked: domain not in whitelist: cdn.example"
    raise content_error(fault.status, message, "server_error")


async def _content_json(_: web.Request, __: Fault) -> web.StreamResponse:
    error = {"error": {"message": "Failed to fetch video content", "type": "server_error"}}
    return web.Response(body=json.dumps(error).encode(), content_type="video/mp4")


async def _artifact_unavailable(_: web.Request, fault: Fault) -> web.StreamResponse:
    message = "Artifact preview plugin is unavailable"
    raise artifact_error(fault.status, "artifact_plugin_unavailable", message)


def _refusing(status: int, code: str, message: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    async def refuse(_: web.Request, __: Fault) -> web.StreamResponse:
        if not code:
            raise middleware_error(status, message)
        raise task_error(status, code, message)

    return refuse


_SATURATED = "当前分组上游负载已饱和，请稍后再试"  # noqa: RUF001 - the gateway's own text
_UPSTREAM_ERROR = json.dumps({"error": {"message": "upstream broke", "type": "server_error"}})
_UNKNOWN_UPSTREAM = json.dumps(
    {"error": {"message": "task does not exist", "type": "invalid_request_error"}}
)

_INSTEAD: dict[str, Callable[[web.Request, Fault], Awaitable[web.StreamResponse]]] = {
    "cut": _cut,
    "hung": _hung,
    "empty": _empty,
    "html": _page,
    "html_502": _page,
    "html_503": _page,
    "html_504": _page,
    "html_524": _page,
    "panic": _panic,
    "database_error": _refusing(500, "", "Database error, please try again later"),
    "upstream_error": _refusing(500, "fail_to_fetch_task", _UPSTREAM_ERROR),
    "rate_limited": _refusing(429, "fail_to_fetch_task", _SATURATED),
    "rate_limited_empty": _rate_limited_empty,
    "rate_limited_edge": _rate_limited_edge,
    "key_exhausted": _refusing(401, "", "Invalid token"),
    "model_limited_key": _refusing(403, "", "This token has no access to model "),
    "lost_answer": _cut,
    "error_in_202": _error_in_202,
    "remix_bug": _refusing(400, "fail_to_fetch_task", _UNKNOWN_UPSTREAM),
    "source_channel_disabled": _refusing(
        400, "task_channel_disable", "the channel of the origin task is disabled"
    ),
    "source_unfinished": _refusing(
        400, "origin_task_not_completed", "the origin task is not completed"
    ),
    "quota_exceeded": _refusing(403, "insufficient_user_quota", "用户额度不足"),
    "not_found": _refusing(400, "task_not_exist", "task_not_exist"),
    "not_implemented": _refusing(501, "not_implemented", "not implemented"),
    "content_502": _content_502,
    "content_blocked": _content_blocked,
    "content_json": _content_json,
    "artifact_unavailable": _artifact_unavailable,
}


# Around the right answer.


async def _slow(_: web.Request, fault: Fault, answer: Answer) -> web.StreamResponse:
    await asyncio.sleep(fault.seconds)
    return await answer()


async def _hung_submit(request: web.Request, fault: Fault, answer: Answer) -> web.StreamResponse:
    # The gateway goes on whether its client waits or not, for it has the body already.
    with contextlib.suppress(RefusedError):
        await read_body(request, partial(middleware_error, 400))
    await asyncio.sleep(fault.seconds)
    if fault.accepted:
        await answer()
    return await _cut(request, fault)


async def _body_of(answer: Answer) -> tuple[web.Response, bytes]:
    response = cast("web.Response", await answer())
    return response, cast("bytes", response.body)


async def _truncated(_: web.Request, __: Fault, answer: Answer) -> web.StreamResponse:
    response, body = await _body_of(answer)
    response.body = body[: len(body) // 2]
    return response


async def _wrong_length(request: web.Request, _: Fault, answer: Answer) -> web.StreamResponse:
    right, body = await _body_of(answer)
    response = web.StreamResponse(headers={"Content-Type": right.headers["Content-Type"]})
    response.content_length = len(body) + 100
    with contextlib.suppress(ConnectionError):  # of a client that has left
        await response.prepare(request)
        await response.write(body)
    hang_up(request)
    return response


async def _gzip(_: web.Request, __: Fault, answer: Answer) -> web.StreamResponse:
    response, body = await _body_of(answer)
    response.body = gzip.compress(body)
    response.headers["Content-Encoding"] = "gzip"
    return response


_AROUND: dict[str, Callable[[web.Request, Fault, Answer], Awaitable[web.StreamResponse]]] = {
    "slow": _slow,
    "hung_submit": _hung_submit,
    "truncated": _truncated,
    "wrong_length": _wrong_length,
    "gzip": _gzip,
}

STRIKES = frozenset({*_INSTEAD, *_AROUND})
"""Faults that change how a call is answered."""
