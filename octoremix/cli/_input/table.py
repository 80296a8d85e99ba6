"""Records that are rows of a table: CSV as the many programs write it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from attrs import frozen

from ...errors import quoted
from .lines import PhysicalLine
from .records import KNOWN, Records, canonical, fault_of
from .trouble import MARK_INSIDE, Troubles

__all__ = ["read_rows"]

_DELIMITERS = (",", ";", "\t")
_NAMES = {",": "','", ";": "';'", "\t": "a tab"}
# How Excel is told the delimiter, and tells it.
_SEPARATOR = re.compile(r"sep=([,;\t])\s*", re.IGNORECASE)


@frozen
class _Row:
    number: int
    cells: list[str]


def read_rows(lines: Iterable[PhysicalLine], records: Records, troubles: Troubles) -> None:
    """Read the rows of a CSV input, of which the first names the columns; empty ones don't count.

    Raises:
        InputError: The first row names no columns.
    """
    feed = iter(lines)
    first, delimiter = _opening(feed, troubles)
    if first is None:
        return
    rows = _rows(first, feed, delimiter, troubles)
    header = next(rows, None)
    if header is None:
        return
    columns = [canonical(cell.strip()) for cell in header.cells]
    fault = _fault(columns)
    if fault is not None:
        troubles.add(header.number, fault)
        troubles.check()
    for row in rows:
        fault = _misfit(row, columns, delimiter)
        if fault is not None:
            troubles.add(row.number, fault)
            continue
        # A cell that is empty or absent says nothing, but that the text needed is missing.
        cells = zip(columns, row.cells, strict=False)
        given = {name: cell for name, cell in cells if cell.strip()}
        records.add(row.number, {"video": "", "prompt": ""} | given)


def _opening(feed: Iterator[PhysicalLine], troubles: Troubles) -> tuple[PhysicalLine | None, str]:
    """Return the line on which the header begins, and what parts its cells."""
    told = None
    for line in feed:
        separator = _SEPARATOR.fullmatch(line.text)
        if line.problem is not None:
            troubles.add(line.number, line.problem)
            troubles.check()
        elif separator and told is None:
            told = separator[1]
        elif line.text.strip():
            return line, told or max(_DELIMITERS, key=lambda each: _known(line.text, each))
    return None, ","


def _known(text: str, delimiter: str) -> tuple[int, int]:
    try:
        cells = next(csv.reader([text], delimiter=delimiter))
    except csv.Error:
        return 0, 0
    return sum(canonical(cell.strip()) in KNOWN for cell in cells), len(cells)


def _rows(
    first: PhysicalLine, feed: Iterator[PhysicalLine], delimiter: str, troubles: Troubles
) -> Iterator[_Row]:
    def texts() -> Iterator[str]:
        yield first.text
        for line in feed:
            if line.problem is not None:
                troubles.add(line.number, line.problem)
            yield line.text  # also of a bad one, so that the reader's count is ours

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        number = first.number + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = _reason(str(error))
            if first.number + reader.line_num > number + 1:
                # Where the next row begins can't be known.
                troubles.add(number, f"{reason}; what follows was not read")
                return
            troubles.add(number, reason)
            continue
        if any(cell.strip() for cell in cells):
            yield _Row(number, cells)


def _reason(error: str) -> str:
    if error.startswith("unexpected end"):
        return "a quotation mark is opened and never closed"
    if "field limit" in error:
        return f"a cell is longer than {csv.field_size_limit():,} characters"
    return 'a quotation mark in a quoted cell is not doubled: write "" for "'


def _fault(columns: list[str]) -> str | None:
    if not KNOWN.intersection(columns):
        if columns[0].startswith(("{", "[")):
            return "looks like JSON: choose the format 'jsonl'"
        listed = ", ".join(quoted(name, 40) for name in columns[:4])
        fault = fault_of(tuple(columns), "column") or ""
        hint = fault.partition(": ")[2]
        return (
            "names no columns: begin with a row that does, such as video,prompt "
            f"({hint or 'found ' + listed})"
        )
    return fault_of(tuple(columns), "column")


def _misfit(row: _Row, columns: list[str], delimiter: str) -> str | None:
    if row.cells[0].startswith("\ufeff"):
        return MARK_INSIDE
    if len(row.cells) > len(columns):
        return (
            f"has {len(row.cells)} cells for {len(columns)} columns: "
            f"put a text that holds {_NAMES[delimiter]} into quotation marks"
        )
    for name, cell in zip(columns, row.cells, strict=False):
        if not name and cell.strip():
            return f"the cell {quoted(cell, 40)} stands in a column without a name"
    if [canonical(cell.strip()) for cell in row.cells] == columns:
        return "names the columns again: leave that row out"
    return None
