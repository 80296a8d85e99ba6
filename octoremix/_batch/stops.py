"""Which errors concern not one job but all of them."""

from __future__ import annotations

from ..errors import (
    APIError,
    AuthenticationError,
    JournalError,
    KeyReusedError,
    OctoremixError,
    PermissionDeniedError,
    QuotaExceededError,
    SessionClosedError,
    SubmitOutcomeUnknownError,
    TaskNotFoundError,
    UnexpectedRedirectError,
)

__all__ = ["concerns_all", "is_doubt", "tells_of_gateway"]

_OF_ALL = (
    AuthenticationError,
    QuotaExceededError,
    PermissionDeniedError,
    UnexpectedRedirectError,
    SessionClosedError,
    JournalError,
)

# New-api's words for what its operator, or who chose the model, has to mend.
_CODES = frozenset(
    {
        *("model_price_error", "model_mapping_failed", "model_not_found", "access_denied"),
        *("invalid_api_platform", "invalid_channel_id"),
    }
)

# The upstream's own refusal of one job, passed on with the upstream's status.
_PASSED_ON = frozenset({"fail_to_fetch_task"})


_NO_ROUTE = frozenset({404, 405})


def concerns_all(error: OctoremixError) -> bool:
    """Whether the next job would meet with the same: the account, the route, the configuration."""
    if isinstance(error, APIError):
        if error.code in _PASSED_ON:
            return False
        if error.code in _CODES:
            return True
        if error.status in _NO_ROUTE and not isinstance(error, TaskNotFoundError):
            return True
    cause = error.__cause__
    if isinstance(cause, AuthenticationError):  # the end of every wait
        return True
    return isinstance(error, _OF_ALL) and not isinstance(error, KeyReusedError)


def is_doubt(error: OctoremixError) -> bool:
    """Whether a submit that ended so may have bought a job of which nobody knows."""
    if isinstance(error, SubmitOutcomeUnknownError):
        return not error.abandoned
    return isinstance(error, APIError) and not error.safe_to_resubmit


def tells_of_gateway(doubt: OctoremixError) -> bool:
    """Whether a doubt comes of an answer, so that the next submit may end in one too.

    One that a process left when it was killed says nothing of what the gateway does.
    """
    return not (isinstance(doubt, SubmitOutcomeUnknownError) and doubt.interrupted)
