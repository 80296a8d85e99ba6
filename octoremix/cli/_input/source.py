"""Opens an input, finds out its format, and reads it whole."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from attrs import fields

from ... import RemixRequest
from ...errors import printable
from .jsonl import read_objects
from .lines import PhysicalLine, physical_lines
from .records import Line, Records
from .table import read_rows
from .trouble import InputError, Troubles

__all__ = ["Format", "read_input", "read_stream"]

Format = Literal["csv", "jsonl"]

_DEFAULT_MODEL = str(fields(RemixRequest).model.default)
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}


def read_input(
    source: str | os.PathLike[str], *, format: Format | None = None, model: str = _DEFAULT_MODEL
) -> list[Line]:
    """Read all jobs of a batch from a file, or from stdin for ``-``.

    Args:
        source: The file.
        format: ``"csv"`` or ``"jsonl"``; ``None``: as the file is called, else as it begins.
        model: The model of the lines that name none; it is part of what their keys derive from.

    Raises:
        InputError: The input can't be read, or some of its lines can't be used: all are told.
    """
    if source == "-":
        if sys.stdin is None:
            raise InputError("stdin is closed: name a file")
        return _read("stdin", sys.stdin.buffer, format, model)
    path = Path(source)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{printable(path)}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{printable(path)} can't be the name of a file") from None
    with stream:
        return _read(str(path), stream, format or _FORMATS.get(path.suffix.lower()), model)


def _read(name: str, stream: BinaryIO, format: Format | None, model: str) -> list[Line]:
    try:
        return read_stream(stream, name=name, format=format, model=model)
    except OSError as error:
        raise InputError(f"{printable(name)}: {error.strerror}") from None


def read_stream(
    stream: BinaryIO, *, name: str, format: Format | None = None, model: str = _DEFAULT_MODEL
) -> list[Line]:
    """Read all jobs of a batch; see `read_input`.

    Args:
        stream: The bytes, read once.
        name: How the input is called in errors.
        format: As in `read_input`; ``None``: as it begins.
        model: As in `read_input`.

    Raises:
        InputError: Some lines can't be used: all are told. Or there is none.
        OSError: It can't be read.
    """
    troubles = Troubles(name)
    records = Records(troubles, model)
    lines = physical_lines(stream, troubles)
    found = format
    if found is None:
        found, lines = _found_out(lines)
    read = read_objects if found == "jsonl" else read_rows
    read(lines, records, troubles)
    troubles.check()
    if not records.lines:
        raise troubles.whole("names no job: it is empty, or holds nothing but a header")
    return records.lines


def _found_out(lines: Iterable[PhysicalLine]) -> tuple[Format, Iterator[PhysicalLine]]:
    feed = iter(lines)
    passed = []
    for line in feed:
        passed.append(line)
        begin = line.text.lstrip()
        if begin:
            found: Format = "jsonl" if begin.startswith(("{", "[")) else "csv"
            return found, itertools.chain(passed, feed)
    return "csv", iter(passed)
