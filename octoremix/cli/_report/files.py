"""Files of a batch's folder: the page, and what it may link to."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import quote

from ... import ConfigurationError
from ...errors import printable
from .._text import file_name

__all__ = ["SOURCES", "check_page", "file_inside", "href", "source_name"]

NAME = "report.html"
"""What the page is called unless told otherwise."""

SOURCES = "sources"
"""The folder, in that of the batch, where the source videos are kept."""


def file_inside(folder: Path, name: object) -> str | None:
    """Return the name of a file for a link, or ``None`` where it must not be linked.

    Args:
        folder: The batch's folder, resolved.
        name: What a record says, which may be anything.

    Returns:
        The name relative to the folder, with ``/`` between its parts; ``None`` if no such regular
        file exists or if it lies elsewhere: by an absolute name, by ``..`` or by a symlink.
    """
    if not isinstance(name, str) or not name:
        return None
    # A folder may have been filled on another system than the one on which the page is made.
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.anchor or ".." in path.parts:
            return None
    try:
        found = (folder / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # none there; no name at all; links in a ring
        return None
    if not found.is_relative_to(folder) or not found.is_file():
        return None
    return Path(name).as_posix()


def source_name(video: str) -> str:
    """Return where the source video of this id is kept, relative to the batch's folder."""
    return f"{SOURCES}/{file_name(video)}"


def href(name: str) -> str:
    """Return a file's relative name as an address."""
    return quote(os.fsencode(name), safe="/")


def check_page(folder: Path, target: Path | None) -> Path:
    """Return where the page of a folder goes.

    Args:
        folder: The batch's folder.
        target: What the user wants, or ``None`` for `NAME` in the folder.

    Raises:
        ConfigurationError: It is in another folder, or no name for a page.
    """
    if target is None:
        target = folder / NAME
    where = printable(target)
    if target.suffix.lower() not in {".html", ".htm"}:
        raise ConfigurationError(f"{where} is no name for a page: let it end in .html")
    if target.parent.resolve() != folder.resolve():
        raise ConfigurationError(
            f"{where} is not in {printable(folder)}: the page plays the videos that lie beside it"
        )
    if target.is_dir():
        raise ConfigurationError(f"{where} is a folder: name a file")
    return target
