"""The older query, ``GET /v1/video/generations/{id}``, which tells the gateway's own state.

Sources: new-api ``dto/task.go`` and ``relay/relay_task.go``.
"""

from __future__ import annotations

from typing import Any

from ._dialects import Links, sora_queried
from ._jobs import Job, Phase
from ._profiles import Profile
from ._views import View


def legacy(job: Job, view: View, links: Links, profile: Profile) -> dict[str, Any]:
    """The answer of ``GET /v1/video/generations/{id}``: the gateway's own state of a task."""
    if profile.live:
        return _simple(job, view, links)
    state = view.state
    created_at = int(job.created_at)
    finished_at = int(state.ended_at or 0)
    data = {
        "id": job.index + 1,
        "created_at": created_at,
        "updated_at": finished_at or created_at,
        "task_id": job.id,
        "platform": "55",
        "user_id": 1,
        "group": "default",
        "channel_id": 1,
        "quota": 500_000,
        "action": "remixGenerate" if job.source_id else "generate",
        "status": state.phase.state,
        "fail_reason": state.message,
        "submit_time": created_at,
        "start_time": 0 if state.phase is Phase.NOT_START else created_at,
        "finish_time": finished_at,
        "progress": f"{state.progress}%",
        "properties": {"input": "", "origin_model_name": job.model},
        "data": sora_queried(job, view, links),
    }
    if state.phase is Phase.COMPLETED:
        data["result_url"] = links.video
    return {"code": "success", "message": "", "data": data}


def _simple(job: Job, view: View, links: Links) -> dict[str, Any]:
    """The answer of channels that are asked themselves (new-api ``mapTaskStatusToSimple``)."""
    words = {"QUEUED": "queued", "SUCCESS": "succeeded", "FAILURE": "failed"}
    state = view.state
    error = {"code": 400, "message": state.message} if state.message else None
    data = {
        "task_id": job.id,
        "status": words.get(state.phase.state, "processing"),
        "url": links.content if state.phase is Phase.COMPLETED else "",
        "format": "mp4",
        "metadata": None,
        "error": error,
    }
    return {"code": "success", "message": "", "data": data}
