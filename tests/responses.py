"""Answers of the gateway, as the tests of the protocol write them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from octoremix import APIError, Video
from octoremix._protocol import Response, read_task

HTML = b"<!DOCTYPE html><html><head><title>502 Bad gateway</title></head></html>"

WIRE = Path(__file__).parent / "wire"


def sample(name: str) -> Any:
    """Return a recorded answer of the folder `wire`."""
    return json.loads((WIRE / f"{name}.json").read_text(encoding="utf-8"))


def answer(
    content: object = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    complete: bool = True,
) -> Response:
    """An answer whose body is bytes as they are, or anything else as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(status=status, headers=CIMultiDict(headers or {}), body=body, complete=complete)


def video_of(document: object, task_id: str = "task_1") -> Video:
    """Read a document as the answer to the query about a task."""
    return read_task(answer(document), task_id).video


def task_error(code: str, message: str = "no", data: object = None) -> dict[str, Any]:
    """What everything in the gateway's handling of tasks answers."""
    return {"code": code, "message": message, "data": data}


def middleware_error(message: str = "no", code: object = "", **fields: Any) -> dict[str, Any]:
    """What the gateway answers before the handling of tasks."""
    return {"error": {"message": message, "type": "new_api_error", "code": code, **fields}}


def refused_query(response: Response) -> APIError:
    """The error that an answer to the query about `task_1` is."""
    with pytest.raises(APIError) as caught:
        read_task(response, "task_1")
    assert caught.value.id == "task_1"
    assert caught.value.status == response.status
    return caught.value
