"""The envelopes of the gateway's errors, byte-shaped.

Sources: new-api ``dto/task.go`` and ``controller/relay.go`` (task errors),
``middleware/utils.go`` (errors of the middleware), ``controller/video_proxy.go`` (errors of
``/content``), ``router/web-router.go`` and ``controller/relay.go`` (unknown routes).
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

DASHBOARD = "<!doctype html>\n<html><head><title>Gateway</title></head><body></body></html>\n"


def json_answer(payload: Any, status: int = 200) -> web.Response:
    """A JSON answer as the gateway's framework writes it."""
    return web.Response(
        body=json.dumps(payload).encode(),
        status=status,
        headers={"Content-Type": "application/json; charset=utf-8"},
    )


class RefusedError(Exception):
    """An answer that says no, raised where a check fails.

    Attributes:
        status: The HTTP status.
        payload: What the body says.
    """

    def __init__(self, status: int, payload: dict[str, Any]) -> None:
        super().__init__(status, payload)
        self.status = status
        self.payload = payload

    def answer(self, request_id: str) -> web.Response:
        """The answer to the request of that id, which some envelopes repeat."""
        del request_id
        return json_answer(self.payload, self.status)


class MiddlewareRefusedError(RefusedError):
    """One whose message ends in the request's id."""

    def answer(self, request_id: str) -> web.Response:
        """The answer to the request of that id."""
        error = dict(self.payload["error"])
        error["message"] += f" (request id: {request_id})"
        return json_answer({"error": error}, self.status)


def task_error(status: int, code: str, message: str) -> RefusedError:
    """What everything in the handling of tasks answers: exactly these three keys."""
    return RefusedError(status, {"code": code, "message": message, "data": None})


def middleware_error(status: int, message: str) -> RefusedError:
    """What is answered before a request reaches the handling of tasks."""
    error = {"message": message, "type": "new_api_error", "code": ""}
    return MiddlewareRefusedError(status, {"error": error})


def content_error(status: int, message: str, kind: str = "invalid_request_error") -> RefusedError:
    """What ``/content`` answers: no code."""
    return RefusedError(status, {"error": {"message": message, "type": kind}})


def artifact_error(status: int, code: str, message: str) -> RefusedError:
    """What the routes of artifacts answer: the code twice."""
    return RefusedError(status, {"error": {"message": message, "type": code, "code": code}})


def no_route(method: str, raw_path: str) -> web.Response:
    """What an unknown path answers: an error under the API, else the dashboard's page."""
    if raw_path.split("/")[1:2] not in (["v1"], ["api"], ["assets"]):
        return web.Response(text=DASHBOARD, content_type="text/html")
    message = f"Invalid URL ({method} {raw_path})"
    error = {"message": message, "type": "invalid_request_error", "param": "", "code": ""}
    return json_answer({"error": error}, 404)


def panic_error(error: Exception) -> RefusedError:
    """What the gateway answers when its own code raised."""
    message = f"Panic detected, error: {error}"
    return RefusedError(500, {"error": {"message": message, "type": "new_api_panic"}})


def hang_up(request: web.Request) -> None:
    """Close a connection whatever else was to be sent, but for what was written already."""
    if request.transport is not None:  # else the client was faster
        request.transport.close()
