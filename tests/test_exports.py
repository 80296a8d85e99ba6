"""The public face: exactly these names, cheap to import, documented and typed."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest

import octoremix

PUBLIC = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchEvent",
    "ConfigurationError",
    "DetachedError",
    "DownloadError",
    "DownloadStream",
    "Event",
    "InDoubt",
    "IncompleteDownloadError",
    "InvalidResponseError",
    "JournalBusyError",
    "JournalEntry",
    "JournalError",
    "KeyReusedError",
    "KeyUsage",
    "NotAVideoError",
    "NotSubmittedError",
    "OctoremixError",
    "Outcome",
    "PermissionDeniedError",
    "PollPolicy",
    "PollingFailedError",
    "QuotaExceededError",
    "RateLimitError",
    "RemixCancelledError",
    "RemixChain",
    "RemixError",
    "RemixExpiredError",
    "RemixFailedError",
    "RemixFuture",
    "RemixRequest",
    "ResultExpiredError",
    "RetryPolicy",
    "SQLiteJournal",
    "ServerError",
    "Session",
    "SessionClosedError",
    "SessionStats",
    "SubmitOutcomeUnknownError",
    "TaskLostError",
    "TaskNotFoundError",
    "TaskStatus",
    "TooLargeError",
    "UnexpectedRedirectError",
    "Video",
    "VideoError",
    "WaitError",
    "WaitTimeoutError",
    "__version__",
]


def test_the_public_face_is_exactly_this() -> None:
    """A name comes to the package or leaves it only on purpose, and the list is in order."""
    assert octoremix.__all__ == PUBLIC
    assert octoremix.__all__ == sorted(octoremix.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_imported(name: str) -> None:
    """What is listed is there."""
    namespace: dict[str, Any] = {}
    exec(f"from octoremix import {name}", namespace)
    assert namespace[name] is getattr(octoremix, name)


def test_nothing_else_looks_public() -> None:
    """Besides the names that are listed the package shows only its own modules."""
    shown = {name for name in vars(octoremix) if not name.startswith("_")}
    others = shown - set(octoremix.__all__)
    assert {name for name in others if not inspect.ismodule(getattr(octoremix, name))} == set()


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has after running the code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert not done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_no_extra() -> None:
    """The library alone needs neither the command line nor the emulator nor what they need."""
    modules = loaded("import octoremix")
    assert "octoremix.session" in modules
    unwanted = {
        name
        for name in modules
        if name.partition(".")[0] in {"av", "typer", "rich", "click", "pytest", "numpy", "sqlite3"}
        or name.startswith(("octoremix.cli", "octoremix.testing"))
    }
    assert unwanted == set()


def test_the_emulator_loads_no_command_line() -> None:
    """A test of a user's own needs no extra for the emulator."""
    modules = loaded("import octoremix.testing")
    assert not modules & {"av", "typer", "rich", "octoremix.cli"}


def members() -> dict[str, Any]:
    """Every public class, function, method and property of the package."""
    found = {}
    for name in octoremix.__all__:
        value = getattr(octoremix, name)
        if inspect.isclass(value):
            found[name] = value
            for member, attribute in vars(value).items():
                if member.startswith("_"):
                    continue
                if inspect.isroutine(attribute) or isinstance(attribute, property):
                    found[f"{name}.{member}"] = attribute
    return found


MEMBERS = members()


@pytest.mark.parametrize("name", MEMBERS)
def test_everything_public_is_documented(name: str) -> None:
    """Each public class, method and property says in its own words what it does."""
    assert (MEMBERS[name].__doc__ or "").strip()


def test_modules_list_what_they_have() -> None:
    """Every public module has a docstring, and every name of its list is there."""
    for name in ("errors", "futures", "models", "policies", "session"):
        module = getattr(octoremix, name)
        assert module.__doc__
        for listed in module.__all__:
            assert hasattr(module, listed)


def test_the_package_is_typed() -> None:
    """Type checkers are told to read the annotations."""
    assert (files("octoremix") / "py.typed").is_file()


def test_the_version_is_that_of_the_distribution() -> None:
    """What the package calls itself is what was installed."""
    assert octoremix.__version__ == importlib.metadata.version("octoremix")
