"""Cases that name the section of `docs/wire.md` that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


def named(table: Mapping[str, tuple[Any, ...]]) -> list[Any]:
    """The names of a table's cases; a case begins with its section, and so does its test's id."""
    return [
        pytest.param(name, id=f"{section.removeprefix('§')} {name}")
        for name, (section, *_) in table.items()
    ]
