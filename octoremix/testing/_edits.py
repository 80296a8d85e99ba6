"""Faults in what an answer to a query says: the object, changed.

They work on the objects of every dialect, and leave alone what a dialect doesn't have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._faults import Fault
from ._jobs import Job, Phase, Reading

_TIMES = ("created_at", "completed_at", "expires_at", "finished_at", "status_update_time")
_LINKS = ("video_url", "output", "metadata")


def edit(answer: dict[str, Any], fault: Fault, *, ended: bool) -> dict[str, Any]:
    """The answer to one query with a fault in it; an end is never hidden."""
    return EDITS[fault.name](dict(answer), fault, ended)


def _status(answer: dict[str, Any], fault: Fault, ended: bool) -> dict[str, Any]:
    if not ended:
        answer["status"] = fault.word
    return answer


def _progress(answer: dict[str, Any], fault: Fault, ended: bool) -> dict[str, Any]:
    del fault
    if not ended and "progress" in answer:
        answer["progress"] = type(answer["progress"])(1)
    return answer


def _task_id(answer: dict[str, Any], fault: Fault, ended: bool) -> dict[str, Any]:
    del fault, ended
    return answer | {"task_id": "upstream_0123456789"} if "id" in answer else answer


def _milliseconds(answer: dict[str, Any], fault: Fault, ended: bool) -> dict[str, Any]:
    del fault, ended
    for name in _TIMES:
        if type(answer.get(name)) is int and answer[name] < 1e11:
            answer[name] *= 1000
    return answer


def _seconds(answer: dict[str, Any], fault: Fault, ended: bool) -> dict[str, Any]:
    del fault, ended
    text = str(answer.get("seconds", ""))
    return answer | {"seconds": int(text)} if text.isdecimal() else answer


def _completed_at(answer: dict[str, Any], fault: Fault, ended: bool) -> dict[str, Any]:
    del fault
    if not ended and "created_at" in answer:
        answer["completed_at"] = answer["created_at"]
    return answer


EDITS: dict[str, Callable[[dict[str, Any], Fault, bool], dict[str, Any]]] = {
    "unknown": _status,
    "odd_status": _status,
    "status_flap": _status,
    "progress_regress": _progress,
    "task_id_mismatch": _task_id,
    "ms_timestamps": _milliseconds,
    "numeric_seconds": _seconds,
    "early_completed_at": _completed_at,
}
"""Faults that change what one answer says."""


def end_oddly(
    answer: dict[str, Any], job: Job, reading: Reading, place: tuple[str, ...]
) -> dict[str, Any]:
    """The answer about a job that has ended, as the fault that stays with the job has it.

    Args:
        answer: What the dialect says.
        job: The job.
        reading: How it ended.
        place: Where the dialect has the link.
    """
    name = job.fault.name if job.fault is not None else ""
    if name == "error_without_status":
        error = {"message": "upstream returned an error", "type": "server_error", "code": "502"}
        return {"error": error, "id": job.id}
    if name == "failure_text_as_url" and reading.phase is Phase.FAILED:
        top, *rest = place or ("metadata", "url")
        return answer | {top: {rest[0]: reading.message} if rest else reading.message}
    if name == "no_url":
        return {key: value for key, value in answer.items() if key not in _LINKS}
    return answer
