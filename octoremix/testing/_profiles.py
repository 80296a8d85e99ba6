"""How a job is put into JSON: the dialects of the deployments.

The one here is that of the OctopusX documentation. A dialect is two functions of what is
known of a job; another one has its own two and shares everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from ._jobs import Job, Phase, Reading

LINK_LIFETIME = 86_400.0
"""Seconds a finished video can be fetched; the documented examples expire after a day."""


@frozen
class Profile:
    """One dialect.

    Attributes:
        submitted: The answer to a submit that was accepted.
        queried: The answer to a query, from the job, its reading and the address of its
            content.
    """

    submitted: Callable[[Job], dict[str, Any]]
    queried: Callable[[Job, Reading, str], dict[str, Any]]


_WORDS = {
    Phase.QUEUED: "queued",
    Phase.PROCESSING: "processing",
    Phase.COMPLETED: "completed",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "cancelled",
}


def _submitted(job: Job) -> dict[str, Any]:
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


def _queried(job: Job, reading: Reading, content_url: str) -> dict[str, Any]:
    # What is not known yet is 0 or "", and the error object is there also when all is well.
    expires_from = job.created_at if reading.ended_at is None else reading.ended_at
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _WORDS[reading.phase],
        "progress": reading.progress,
        "created_at": int(job.created_at),
        "completed_at": int(reading.ended_at or 0),
        "expires_at": int(expires_from + LINK_LIFETIME),
        "seconds": job.seconds,
        "size": job.size,
        "remixed_from_video_id": job.source_id,
        "error": {"message": reading.message, "code": reading.code},
        "video_url": content_url if reading.phase is Phase.COMPLETED else "",
    }


OCTOPUS_DOC = Profile(_submitted, _queried)
"""The objects of the OctopusX documentation, "Video Remix" and "Veo Task Query"."""
