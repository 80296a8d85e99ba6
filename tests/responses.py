"""Answers of the gateway, as the tests of the protocol write them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from octoremix import Video
from octoremix._protocol import Response, read_task

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
