"""The answers to polls: OctopusX's documented object of a task."""

from __future__ import annotations

import json


def answer(task_id: str, status: str = "processing", progress: int = 0) -> bytes:
    """Return the body of one answer."""
    task = {
        "id": task_id,
        "object": "video",
        "model": "veo_3_1-extend",
        "status": status,
        "progress": progress,
        "created_at": 1735689600,
        "completed_at": 0,
        "expires_at": 1735776000,
        "seconds": "8",
        "size": "720x1280",
        "remixed_from_video_id": "video_123",
        "error": {"message": "", "code": ""},
        "video_url": "https://cdn.example/v.mp4" if status == "completed" else "",
    }
    return json.dumps(task).encode()


def task_ids(count: int) -> list[str]:
    """Return ids of the gateway's usual form."""
    return [f"video_{number:08x}-5475-4882-8714-57df146c6dbe" for number in range(count)]
