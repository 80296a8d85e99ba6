"""The objects of each dialect, from what is known of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from ._jobs import Job, Phase, Reading
from ._views import View

LINK_LIFETIME = 86_400.0
"""Seconds a finished video can be fetched; the documented examples expire after a day."""


@frozen
class Links:
    """Where a finished video can be had.

    Attributes:
        content: From the gateway, with the key.
        video: From where the upstream keeps it.
    """

    content: str
    video: str


def _word(reading: Reading, words: dict[Phase, str]) -> str:
    return reading.word or words[reading.phase]


def _error(reading: Reading) -> dict[str, str]:
    return {"message": reading.message, "code": reading.code}


_ENDS = {Phase.COMPLETED: "completed", Phase.FAILED: "failed", Phase.CANCELLED: "cancelled"}
_DOC_WORDS = {Phase.QUEUED: "queued", Phase.PROCESSING: "processing"} | _ENDS
_SORA_WORDS = {Phase.QUEUED: "queued", Phase.PROCESSING: "in_progress"} | _ENDS
# The gateway's own object (new-api dto/openai_video.go, ToVideoStatus) knows no cancelled tasks.
_BUILT_WORDS = _SORA_WORDS | {Phase.NOT_START: "unknown", Phase.CANCELLED: "failed"}
_GROK_WORDS = {Phase.QUEUED: "processing", Phase.PROCESSING: "processing"} | _ENDS
_UNIFIED_WORDS = {Phase.QUEUED: "pending", Phase.PROCESSING: "processing"} | _ENDS


# OctopusX documentation, "Video Remix" and "Veo Task Query".


def doc_submitted(job: Job) -> dict[str, Any]:
    """The documented answer to a submit."""
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": "queued",
        "progress": 0,
        "created_at": int(job.created_at),
        "size": job.size,
        "seconds": job.seconds,
        "remixed_from_video_id": job.source_id,
        "quality": "",
    }


def doc_queried(job: Job, view: View, links: Links) -> dict[str, Any]:
    """The documented answer to a query; before the first pass that of the submit."""
    if view.raw is None:
        return doc_submitted(job)
    # What is not known yet is 0 or "", and the error object is there also when all is well.
    reading = view.raw
    expires_from = job.created_at if reading.ended_at is None else reading.ended_at
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _word(reading, _DOC_WORDS),
        "progress": reading.progress,
        "created_at": int(job.created_at),
        "completed_at": int(reading.ended_at or 0),
        "expires_at": int(expires_from + LINK_LIFETIME),
        "seconds": job.seconds,
        "size": job.size,
        "remixed_from_video_id": job.source_id,
        "error": _error(reading),
        "video_url": links.video if reading.phase is Phase.COMPLETED else "",
    }


# OctopusX documentation, "Grok Video Remix" and "Grok Task Query".


def grok_submitted(job: Job) -> dict[str, Any]:
    """The least that a submit is answered with."""
    return {"id": job.id, "status": "processing", "status_update_time": int(job.created_at)}


def grok_queried(job: Job, view: View, links: Links) -> dict[str, Any]:
    """As documented, but for the words and the link's place."""
    if view.raw is None:
        return grok_submitted(job)
    answer = doc_queried(job, view, links)
    link = answer.pop("video_url")
    answer["status"] = _word(view.raw, _GROK_WORDS)
    return answer | ({"output": {"url": link}} if link else {})


# OctopusX documentation, "Unified Generation" and "Unified Query".


def unified_submitted(job: Job) -> dict[str, Any]:
    """The answer of ``/v1/video/create``, with a time as Go writes it."""
    created = datetime.fromtimestamp(int(job.created_at), UTC)
    return {
        "id": job.id,
        "status": "pending",
        "status_update_time": int(job.created_at * 1000),
        # As Go writes it, to the nanosecond.
        "created_at": f"{created:%Y-%m-%dT%H:%M:%S}.{int(job.created_at % 1 * 1e9):09d}Z",
    }


def unified_queried(job: Job, view: View, links: Links) -> dict[str, Any]:
    """The answer of ``/v1/video/query``."""
    if view.raw is None:
        return unified_submitted(job)
    reading = view.raw
    updated_at = job.created_at if reading.ended_at is None else reading.ended_at
    answer = {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _word(reading, _UNIFIED_WORDS),
        "progress": str(reading.progress),
        "created_at": int(job.created_at),
        "size": job.size,
        "video_url": links.video if reading.phase is Phase.COMPLETED else None,
        "enhanced_prompt": "",
        "status_update_time": int(updated_at * 1000),
        "detail": {"input": {"model": job.model, "size": job.size, "seconds": job.seconds}},
    }
    return answer | ({"error": _error(reading)} if reading.code else {})


# new-api relay/channel/task/sora/adaptor.go: what is empty is left out.


def _sora_object(job: Job, reading: Reading) -> dict[str, Any]:
    answer = {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _word(reading, _SORA_WORDS),
        "progress": reading.progress,
        "created_at": int(job.created_at),
        "seconds": job.seconds,
        "size": job.size,
    }
    return answer | ({"remixed_from_video_id": job.source_id} if job.source_id else {})


def sora_submitted(job: Job) -> dict[str, Any]:
    """The upstream's object, with the id twice."""
    return _sora_object(job, Reading(Phase.QUEUED)) | {"task_id": job.id}


def sora_queried(job: Job, view: View, links: Links) -> dict[str, Any]:
    """The upstream's object as it was last seen."""
    reading = view.raw
    if reading is None:
        return _sora_object(job, Reading(Phase.QUEUED))
    answer = _sora_object(job, reading)
    if reading.ended_at is not None:
        answer["completed_at"] = int(reading.ended_at)
    if reading.phase is Phase.COMPLETED:
        answer |= {"video_url": links.video, "expires_at": answer["completed_at"] + 86_400}
    return answer | ({"error": _error(reading)} if reading.code else {})


# new-api dto/openai_video.go: the object that the gateway itself builds from its row.


def _built(job: Job, state: Reading) -> dict[str, Any]:
    answer = {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _BUILT_WORDS[state.phase],
        "progress": state.progress,
        "created_at": int(job.created_at),
        # The time of the row's last change, whatever the status.
        "completed_at": int(state.ended_at or job.created_at),
    }
    return answer | ({"error": _error(state)} if answer["status"] == "failed" else {})


def built_queried(job: Job, view: View, links: Links) -> dict[str, Any]:
    """The gateway's own object, whose link is the gateway's own too."""
    state = view.state
    answer = _built(job, state)
    if state.phase.ended:
        # The reason of a failure stands where the address would (GetResultURL).
        address = links.content if state.phase is Phase.COMPLETED else state.message
        answer["metadata"] = {"url": address}
    return answer


def gemini_queried(job: Job, view: View, links: Links) -> dict[str, Any]:
    """The gateway's own object without any link."""
    del links  # only the gateway can fetch it
    answer = _built(job, view.state)
    if view.state.phase is Phase.PROCESSING:
        answer["progress"] = 50
    return answer


def lifecycle_queried(job: Job, view: View, links: Links) -> dict[str, Any]:
    """The object of the release candidate 30, which knows no ``id``."""
    del links
    state = view.state
    return {
        "created_at": int(job.created_at),
        "fail_reason": state.message,
        "finished_at": int(state.ended_at or 0),
        "platform": "1",
        "progress": f"{state.progress}%",
        "status": state.phase.state,
        "task_id": job.id,
    }
