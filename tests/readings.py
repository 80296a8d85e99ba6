"""Answers as the protocol reads them, for the tests of what is decided on them."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

from octoremix import APIError, OctoremixError
from octoremix._schedule import EndEveryWait, Schedule
from octoremix._timetable import FollowedTask
from octoremix._wire import Reading
from octoremix.models import Video

Verdict = Video | OctoremixError | EndEveryWait | None


def reading(status: object = "processing", task_id: str = "task_1", **fields: Any) -> Reading:
    """Return a good answer about a task."""
    document = {"id": task_id, "object": "video", "status": status, **fields}
    return Reading(json.dumps(document).encode(), document, task_id)


def refused(kind: type[OctoremixError], task_id: str = "task_1", **fields: Any) -> OctoremixError:
    """Return a poll's failure."""
    told = {"from_gateway": True, **fields} if issubclass(kind, APIError) else fields
    return kind("it went wrong", id=task_id, **told)


def ask(schedule: Schedule, answer: Reading | OctoremixError, now: float) -> Verdict:
    """Take the task that is due first, give it an answer at the same moment, return the verdict."""
    task = schedule.take(now)
    assert task is not None, f"nothing is due at {now}"
    return schedule.observe(task, answer, now)


def follow(
    schedule: Schedule,
    task_id: str = "task_1",
    now: float = 0.0,
    *,
    deadline: float | None = None,
    accepted: Reading | None = None,
) -> FollowedTask:
    """Follow a task from `now` on."""
    return schedule.add(task_id, now, handle=None, deadline=deadline, accepted=accepted)


def assert_survives(error: OctoremixError) -> None:
    """Assert that copies and pickles of an error tell what it tells."""
    for other in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)
