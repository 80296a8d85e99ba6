"""The dialects of the deployments.

A dialect is two functions of what is known of a job, and a few words on the gateway around
them; everything else is shared.
"""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Callable
from typing import Any

from attrs import frozen

from . import _dialects
from ._dialects import Links
from ._jobs import Job
from ._views import View


@frozen
class Profile:
    """One dialect.

    Attributes:
        submitted: The answer to a submit that was accepted.
        queried: The answer to a query.
        new_id: Makes the id of a job.
        live: Whether each query looks at the upstream itself.
        raw: Whether a query passes on what the upstream said, whatever the gateway makes of it.
        unified: Whether the routes below ``/v1/video/`` are there.
        host: Whether the routes below ``/v1/tasks/`` are there.
        place: Where a query's answer has the link; ``()`` if it has none.
    """

    submitted: Callable[[Job], dict[str, Any]]
    queried: Callable[[Job, View, Links], dict[str, Any]]
    new_id: Callable[[], str]
    live: bool = False
    raw: bool = False
    unified: bool = False
    host: bool = False
    place: tuple[str, ...] = ()


def _video_id() -> str:
    return f"video_{uuid.uuid4()}"


def _grok_id() -> str:
    return f"grok:{uuid.uuid4()}"


def _task_id() -> str:
    letters = string.ascii_letters + string.digits
    return "task_" + "".join(secrets.choice(letters) for _ in range(32))


OCTOPUS_DOC = Profile(
    _dialects.doc_submitted,
    _dialects.doc_queried,
    _video_id,
    raw=True,
    unified=True,
    place=("video_url",),
)

_BY_NAME: dict[str, Profile] = {
    "octopus-doc": OCTOPUS_DOC,
    "newapi-sora": Profile(
        _dialects.sora_submitted, _dialects.sora_queried, _task_id, raw=True, place=("video_url",)
    ),
    "newapi-built": Profile(
        _dialects.sora_submitted, _dialects.built_queried, _task_id, place=("metadata", "url")
    ),
    "newapi-gemini": Profile(
        _dialects.sora_submitted, _dialects.gemini_queried, _task_id, live=True
    ),
    "grok": Profile(
        _dialects.grok_submitted,
        _dialects.grok_queried,
        _grok_id,
        raw=True,
        unified=True,
        place=("output", "url"),
    ),
    "rc30": Profile(_dialects.sora_submitted, _dialects.lifecycle_queried, _task_id, host=True),
    "unified": Profile(
        _dialects.unified_submitted,
        _dialects.unified_queried,
        _task_id,
        raw=True,
        unified=True,
        place=("video_url",),
    ),
}

PROFILES: tuple[str, ...] = tuple(_BY_NAME)
"""The names of the dialects."""


def profile_named(name: str) -> Profile:
    """The dialect of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in _BY_NAME:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, not {name!r}")
    return _BY_NAME[name]
