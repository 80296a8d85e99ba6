"""Folders as a batch leaves them, for the tests of its page."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def event(event: str, key: str = "a", at: float = 0.0, **fields: Any) -> dict[str, Any]:
    """One line of the record, `at` so many seconds after the start."""
    return {
        "time": (START + timedelta(seconds=at)).isoformat(),
        "event": event,
        "key": key,
        "line": None,
        "id": f"task_{key}",
        "video": "video_1",
        "prompt": f"prompt of {key}",
        "model": "veo_3_1-extend",
        "url": None,
        "file": None,
        "error": None,
        **fields,
    }


def write_record(folder: Path, *events: dict[str, Any]) -> Path:
    """Write a record with these lines; return the folder."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(each) + "\n" for each in events]
    (folder / "results.jsonl").write_text("".join(lines))
    return folder


def job_done(
    key: str, *, accepted: float = 0.0, took: float = 60.0, **fields: Any
) -> list[dict[str, Any]]:
    """The lines of a job that went well, half of its time waiting."""
    end = accepted + took
    return [
        event("submitted", key, accepted, **fields),
        event("started", key, accepted + took / 2, **fields),
        event("completed", key, end, **fields),
        event("downloaded", key, end, **{"file": f"{key}.mp4", **fields}),
    ]
