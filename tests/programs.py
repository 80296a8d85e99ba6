"""Programs of the system's that some tests need, and what becomes of a test without its own."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRE_ALL = "OCTOREMIX_REQUIRE_ALL"
"""The environment variable that makes a missing program a failure: set to 1 by `.ci/run`."""

# Where Debian puts servers, and where only root's PATH leads.
_FURTHER = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find_program(name: str) -> str | None:
    """The path of a program, or None where it is not installed."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *_FURTHER])
    return shutil.which(name, path=folders)


def need_program(name: str) -> None:
    """End the test that runs, unless a program is installed: it is skipped, or failed."""
    if find_program(name) is not None:
        return
    missing = f"{name} is not installed"
    if os.environ.get(REQUIRE_ALL, "") not in {"", "0"}:
        pytest.fail(f"{missing}, and {REQUIRE_ALL} is set", pytrace=False)
    pytest.skip(missing)
