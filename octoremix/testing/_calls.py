"""What a request means: which route, which id, which body.

Sources: the OctopusX documentation of the endpoints; new-api ``router/video-router.go`` for
the routes and ``relay/common/relay_info.go`` (``TaskSubmitReq``) for the types of a body.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from attrs import frozen

from ._answers import RefusedError, task_error
from ._faults import Fault


class Route(enum.StrEnum):
    """A method and path, as the books spell it."""

    CREATE = "POST /v1/videos"
    REMIX = "POST /v1/videos/{id}/remix"
    QUERY = "GET /v1/videos/{id}"
    CONTENT = "GET /v1/videos/{id}/content"
    CONTENT_HEAD = "HEAD /v1/videos/{id}/content"
    EXTEND = "POST /v1/videos/{id}/extend"
    LEGACY_CREATE = "POST /v1/video/generations"
    LEGACY_QUERY = "GET /v1/video/generations/{id}"
    UNIFIED_CREATE = "POST /v1/video/create"
    UNIFIED_REMIX = "POST /v1/video/remix"
    UNIFIED_EXTEND = "POST /v1/video/extend"
    UNIFIED_QUERY = "GET /v1/video/query"
    TASK = "GET /v1/tasks/{id}"
    ARTIFACTS = "GET /v1/tasks/{id}/artifacts"
    ARTIFACT = "GET /v1/tasks/{id}/artifacts/{key}/content"
    ARTIFACT_HEAD = "HEAD /v1/tasks/{id}/artifacts/{key}/content"
    MODELS = "GET /v1/models"
    USAGE = "GET /api/usage/token/"
    LOG = "GET /api/log/token"
    OTHER = "other"


UNIFIED = frozenset(
    {
        Route.EXTEND,
        Route.UNIFIED_CREATE,
        Route.UNIFIED_REMIX,
        Route.UNIFIED_EXTEND,
        Route.UNIFIED_QUERY,
    }
)
"""The routes that OctopusX has beside those of new-api."""

ARTIFACT = frozenset({Route.ARTIFACT, Route.ARTIFACT_HEAD})
"""The routes of an artifact's bytes."""

HOST = frozenset({Route.TASK, Route.ARTIFACTS}) | ARTIFACT
"""The routes that came to new-api with its release candidate 30."""

ACCOUNT = frozenset({Route.USAGE, Route.LOG})
"""The routes about the key itself."""

PLACES: dict[Route, str] = {
    Route.CREATE: "create",
    Route.LEGACY_CREATE: "create",
    Route.UNIFIED_CREATE: "create",
    Route.REMIX: "remix",
    Route.EXTEND: "remix",
    Route.UNIFIED_REMIX: "remix",
    Route.UNIFIED_EXTEND: "remix",
    Route.QUERY: "query",
    Route.UNIFIED_QUERY: "query",
    Route.LEGACY_QUERY: "legacy",
    Route.CONTENT: "content",
    Route.CONTENT_HEAD: "content",
    Route.TASK: "query",
    Route.ARTIFACTS: "artifacts",
    Route.ARTIFACT: "content",
    Route.ARTIFACT_HEAD: "content",
}
"""What a fault calls each route."""


@frozen
class Call:
    """One request.

    Attributes:
        request: The request.
        route: Its route.
        video_id: The id in its path, ``""`` where the route has none.
        request_id: The id that it was given.
        key: The key that it came with.
        faults: What goes wrong with it.
    """

    request: web.Request
    route: Route
    video_id: str
    request_id: str
    key: str = ""
    faults: tuple[Fault, ...] = ()


# Routes with an id in them, by method, folder and action.
_ROUTES = {
    ("POST", "videos", "remix"): Route.REMIX,
    ("POST", "videos", "extend"): Route.EXTEND,
    ("GET", "videos", ""): Route.QUERY,
    ("GET", "videos", "content"): Route.CONTENT,
    ("HEAD", "videos", "content"): Route.CONTENT_HEAD,
    ("GET", "tasks", ""): Route.TASK,
    ("GET", "tasks", "artifacts"): Route.ARTIFACTS,
}


def identify(method: str, raw_path: str) -> tuple[Route, str]:
    """The route of a request, and the id in its path.

    Args:
        method: The HTTP method.
        raw_path: The path as it came, still percent-encoded, so that a ``/`` within an id
            is told from one between segments.

    Returns:
        `Route.OTHER` and ``""`` for a path that the gateway doesn't know.
    """
    if fixed := _FIXED.get(f"{method} {raw_path}"):
        return fixed, ""
    head, *rest = raw_path.removeprefix("/").split("/")
    name = ""
    route: Route = Route.OTHER
    if rest[:2] == ["video", "generations"] and method == "GET" and len(rest) == 3:
        route, name = Route.LEGACY_QUERY, rest[2]
    elif rest[:1] == ["tasks"] and len(rest) == 5 and rest[2::2] == ["artifacts", "content"]:
        methods = {"GET": Route.ARTIFACT, "HEAD": Route.ARTIFACT_HEAD}
        route, name = methods.get(method, Route.OTHER), rest[1]
    elif len(rest) in {2, 3}:
        action = "" if len(rest) == 2 else rest[2] or "/"
        route, name = _ROUTES.get((method, rest[0], action), Route.OTHER), rest[1]
    if head != "v1" or not name or route is Route.OTHER:
        return Route.OTHER, ""
    # Bytes that are no UTF-8 survive too: two ids never become one.
    return route, unquote_to_bytes(name).decode("utf-8", "surrogateescape")


_FIXED = {route.value: route for route in Route if " " in route and "{" not in route}


async def read_body(
    request: web.Request, unreadable: Callable[[str], RefusedError]
) -> dict[str, Any]:
    """The body of a submit as an object.

    Args:
        request: JSON or a multipart form; the gateway leaves any other type unread, so that
            such a body has no fields.
        unreadable: Makes the refusal of a body that can't be parsed from what is wrong.

    Raises:
        RefusedError: for a body that can't be parsed, or with 413 for one that is too large.
    """
    kind = request.headers.get("Content-Type", "")
    try:
        if kind.startswith("multipart/form-data"):
            return await _read_form(request)
        raw = await request.read()
        body = json.loads(raw) if kind.startswith("application/json") else {}
    except web.HTTPRequestEntityTooLarge:
        raise task_error(413, "read_request_body_failed", "request body too large") from None
    except (OSError, ValueError, RecursionError, web.RequestPayloadError) as error:
        raise unreadable(f"invalid body: {error}") from None
    if not isinstance(body, dict):
        raise unreadable(_mismatch(body, "value of type common.TaskSubmitReq"))
    return body


async def _read_form(request: web.Request) -> dict[str, Any]:
    """A multipart form as an object: files by their name, a repeated field as a list."""
    form = await request.post()
    body: dict[str, Any] = {}
    for name in form:
        values = [v.filename if isinstance(v, web.FileField) else v for v in form.getall(name)]
        body[name] = values[0] if len(values) == 1 else values
    return body


_STRINGS = ("prompt", "model", "mode", "image", "size", "seconds")


def check_types(body: dict[str, Any], code: str) -> None:
    """Refuse a field of another type than the gateway's own struct has, with ``code``."""
    for name in _STRINGS:
        value = body.get(name)
        if value is not None and not isinstance(value, str):
            place = f"struct field TaskSubmitReq.{name} of type string"
            raise task_error(400, code, _mismatch(value, place))


_GO_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}


def _mismatch(value: object, place: str) -> str:
    kind = "null" if value is None else _GO_NAMES.get(type(value), "object")
    return f"json: cannot unmarshal {kind} into Go {place}"


def require_prompt(body: dict[str, Any]) -> str:
    """The prompt, or a 400 where it is missing, empty or blank."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise task_error(400, "invalid_request", "field prompt is required")
    return prompt


def require_model(body: dict[str, Any]) -> str:
    """The model, or a 400: the OctopusX documentation says that it is required."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise task_error(400, "missing_model", "model field is required")
    return model
