"""`octoremix batch` on a terminal: the question and the display."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from .batches import BATCH
from .conftest import ENVIRONMENT, KEY
from .systems import needs_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from octoremix.testing import Emulator

pytestmark = needs_terminal

# A terminal's Ctrl-C reaches the processes whose terminal it is.
ON_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
import octoremix.cli
octoremix.cli.main()
"""


class Terminal:
    """A command on a terminal of 80 columns and 24 rows."""

    def __init__(self, cwd: Path, gateway: Emulator, *words: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**ENVIRONMENT, "OCTOPUSX_BASE_URL": gateway.url, "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *words],
            cwd=cwd,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def see(self, text: str = "") -> None:
        """Read until a text is there, or to the end."""
        seen = len(self.text)
        until = time.monotonic() + 60
        while not text or text not in self.text[seen:]:
            ready, _, _ = select.select([self._master], [], [], until - time.monotonic())
            assert ready, self.text
            try:
                read = os.read(self._master, 65536)
            except OSError:  # the end, as Linux tells it
                read = b""
            if not read:
                assert not text, self.text
                return
            self.text += read.decode()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        self.see()
        code = self.process.wait(20)
        assert KEY not in self.text
        assert "Traceback" not in self.text
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(gateway: Emulator, *words: str) -> Terminal:
        opened.append(Terminal(tmp_path, gateway, *words))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("typed", "code"), [("n\n", 2), ("\n", 2), ("\x04", 2), ("\x03", 130), ("what?\n", 2)]
)
def test_all_but_yes_buys_nothing(
    terminal: Any, gateway: Emulator, jobs: Any, tmp_path: Path, typed: str, code: int
) -> None:
    """At the question no, nothing, the end, Ctrl-C and any other word leave all as it was."""
    jobs(3)
    shown = terminal(gateway, *BATCH)
    shown.see("Buy 3 jobs? [y/N] ")
    shown.type(typed)
    assert shown.end() == code
    assert shown.text.splitlines()[-1] == "nothing was bought"
    assert gateway.books.accepted == 0
    assert [file.name for file in tmp_path.iterdir()] == ["list.jsonl"]


def test_sigterm_leaves_the_question(terminal: Any, gateway: Emulator, jobs: Any) -> None:
    """SIGTERM ends a command that waits for its answer."""
    jobs(3)
    shown = terminal(gateway, *BATCH)
    shown.see("[y/N] ")
    shown.process.terminate()
    assert shown.end() == 143
    assert gateway.books.accepted == 0


def test_yes_buys_and_shows(
    terminal: Any, start_gateway: Callable[..., Emulator], jobs: Any
) -> None:
    """On a terminal the price is asked with what the key has left; then three lines live."""
    gateway = start_gateway(quota=20_000_000)
    jobs(12)
    shown = terminal(gateway, *BATCH, "--report")
    shown.see("Buy 12 jobs? [y/N] ")
    assert "the key has 20,000,000 units of quota left" in shown.text
    shown.type("Yes\n")
    shown.see(" running")
    assert shown.end() == 0
    assert "12 of 12" in shown.text
    assert shown.text.replace("\r", "").endswith(
        "results.jsonl\nthe page of it: list/report.html\nlist\n"
    )
    assert max(map(len, shown.text.rpartition("12 of 12")[2].splitlines())) < 120


def test_a_long_message_is_broken_between_words(
    terminal: Any, gateway: Emulator, tmp_path: Path
) -> None:
    """On a terminal no word of an error is torn apart at the right edge."""
    (tmp_path / "list.jsonl").write_text('{"video": "video_1", "prompt": "snow"}\n')
    name = "a format of quite a long name " * 5
    shown = terminal(gateway, "batch", "list.jsonl", "--format", name)
    assert shown.end() == 2
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.text.replace("\r", "")).splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    message = f"error: --format must be csv or jsonl, not {name}"
    assert " ".join(lines).split() == message.split()
