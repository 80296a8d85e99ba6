"""Where a job may stand."""

from __future__ import annotations

import enum

__all__ = ["OPEN_STATES", "SETTLED_STATES", "State"]


class State(enum.StrEnum):
    """Where a job stands in the journal."""

    INTENT = "intent"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DOWNLOADED = "downloaded"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"
    ABANDONED = "abandoned"


OPEN_STATES = (State.INTENT, State.SUBMITTED, State.IN_DOUBT)
SETTLED_STATES = tuple(state for state in State if state not in OPEN_STATES)
