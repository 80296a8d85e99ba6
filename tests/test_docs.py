"""The examples of the README and of the documentation run, each page from top to bottom."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from octoremix.testing import Emulator

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of a page runs against the emulator, after the blocks before it."""
    monkeypatch.chdir(tmp_path)
    async with Emulator(duration=20) as gateway:
        monkeypatch.setenv("OCTOPUSX_API_KEY", gateway.api_key)
        monkeypatch.setenv("OCTOPUSX_BASE_URL", gateway.url)
        names: dict[str, Any] = {"__name__": "example", "octoremix": __import__("octoremix")}
        text = page.read_text("utf-8")
        for example in EXAMPLE.finditer(text):
            # Blank lines in front, so that a traceback tells the page's own line.
            source = "\n" * text[: example.start(1)].count("\n") + example[1]
            code = compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result


def test_the_test_command_of_the_readme_is_what_ci_calls() -> None:
    """The README's second command stands in `.ci/run` to the letter, so that it stays true."""
    commands = re.findall(r"^```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert "nox -s demo" in commands[0]
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()
