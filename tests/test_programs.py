"""A test that needs a program: run, skipped with the reason, or failed where all must run."""

from __future__ import annotations

import pathlib

import pytest

from . import conftest
from .programs import REQUIRE_ALL, find_program, need_program

MISSING = "octoremix-no-such-program"


@pytest.mark.needs(MISSING)
def marked() -> None:
    """Stand in for a test that can't run."""


@pytest.fixture
def marked_item(request: pytest.FixtureRequest) -> pytest.Item:
    return pytest.Function.from_parent(request.node.parent, name="marked", callobj=marked)


@pytest.mark.parametrize("setting", [None, "", "0"])
def test_a_test_without_its_program_is_skipped(
    setting: str | None, marked_item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a program is missing, a test that is marked to need it is skipped and says why."""
    monkeypatch.delenv(REQUIRE_ALL, raising=False)
    if setting is not None:
        monkeypatch.setenv(REQUIRE_ALL, setting)
    with pytest.raises(pytest.skip.Exception, match=f"{MISSING} is not installed"):
        conftest.pytest_runtest_setup(marked_item)


def test_a_test_without_its_program_fails_where_all_must_run(
    marked_item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the environment's word that all must run, the same test fails instead."""
    monkeypatch.setenv(REQUIRE_ALL, "1")
    with pytest.raises(pytest.fail.Exception, match=f"{MISSING} is not installed"):
        conftest.pytest_runtest_setup(marked_item)


def test_a_test_that_needs_nothing_runs(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test without the mark is let through, whatever is installed."""
    monkeypatch.setenv(REQUIRE_ALL, "1")
    conftest.pytest_runtest_setup(request.node)


def test_a_program_is_found_on_the_path(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PATH leads to is found, and nobody is stopped who needs it."""
    program = tmp_path / MISSING
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PATHEXT", ".exe;.")
    assert find_program(MISSING) is not None
    need_program(MISSING)
