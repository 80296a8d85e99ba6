"""Tests that a system without POSIX's signals or terminals can't run."""

from __future__ import annotations

import os

import pytest

# Windows ends a process at once for whatever signal it is sent, so nothing is left to be seen of
# how a command takes one, and SIGKILL has no name there.
needs_signals = pytest.mark.skipif(
    os.name != "posix", reason="signals are sent as POSIX systems send them"
)

# The modules pty, fcntl and termios, by which a test makes a terminal, are POSIX's alone.
needs_terminal = pytest.mark.skipif(
    os.name != "posix", reason="a pseudo-terminal is made as POSIX systems make one"
)
