"""Which error leads to which exit code."""

from __future__ import annotations

import inspect

import pytest

import octoremix
from octoremix.cli._exit import Code, gravest, verdict_on

CODES = {
    "OctoremixError": 1,
    "ConfigurationError": 2,
    "SessionClosedError": 5,
    "APIConnectionError": 1,
    "APITimeoutError": 1,
    "APIError": 1,
    "BadRequestError": 1,
    "AuthenticationError": 3,
    "PermissionDeniedError": 3,
    "QuotaExceededError": 3,
    "TaskNotFoundError": 1,
    "RateLimitError": 1,
    "ServerError": 1,
    "UnexpectedRedirectError": 1,
    "InvalidResponseError": 1,
    "SubmitOutcomeUnknownError": 4,
    "JournalError": 2,
    "JournalBusyError": 1,
    "KeyReusedError": 2,
    "NotSubmittedError": 1,
    "RemixError": 1,
    "RemixFailedError": 1,
    "RemixCancelledError": 1,
    "RemixExpiredError": 1,
    "WaitError": 5,
    "WaitTimeoutError": 5,
    "PollingFailedError": 5,
    "DetachedError": 5,
    "TaskLostError": 1,
    "DownloadError": 1,
    "IncompleteDownloadError": 1,
    "NotAVideoError": 1,
    "ResultExpiredError": 1,
    "TooLargeError": 1,
}


def test_every_public_error_has_a_row_here() -> None:
    """An error that is added to the library gets its exit code on purpose, not by chance."""
    public = {
        name
        for name in octoremix.__all__
        if inspect.isclass(getattr(octoremix, name))
        and issubclass(getattr(octoremix, name), octoremix.OctoremixError)
    }
    assert set(CODES) == public


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_an_error_has_its_exit_code(name: str, code: int) -> None:
    """Each error of the public tree leads to the documented code."""
    assert verdict_on(getattr(octoremix, name)("x")).code == code


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (octoremix.AuthenticationError("401"), 3),
        (octoremix.PermissionDeniedError("403"), 3),
        (octoremix.QuotaExceededError("quota"), 3),
        (octoremix.APIConnectionError("cut off"), 5),
        (ValueError("odd"), 5),
        (None, 5),
    ],
)
def test_failed_polls_have_the_code_of_their_cause(cause: BaseException | None, code: int) -> None:
    """Polls that failed because of the key are about the key; all others leave the job running."""
    error = octoremix.PollingFailedError("x", id="video_1")
    error.__cause__ = cause
    assert verdict_on(error).code == code


def test_a_job_that_was_accepted_and_not_recorded_goes_on() -> None:
    """A journal that fails is a setting to correct, unless a job was bought meanwhile."""
    assert verdict_on(octoremix.JournalError("x", id="video_1")).code == 5
    assert "{watch}" in verdict_on(octoremix.JournalError("x", id="video_1")).hint


def test_the_gravest_code_wins() -> None:
    """Of several outcomes the one that needs a person most decides."""
    order = [4, 130, 143, 141, 2, 3, 1, 5, 0]
    for place, code in enumerate(order):
        assert gravest([Code(other) for other in reversed(order[place:])]) == code
    assert gravest([]) == 0
