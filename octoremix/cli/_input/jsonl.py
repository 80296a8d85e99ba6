"""Records that are JSON objects, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

from ...errors import printable, quoted
from .lines import PhysicalLine
from .records import Records, canonical, fault_of
from .trouble import MARK_INSIDE, Troubles

__all__ = ["read_objects"]

_EXAMPLE = '{"video": "video_123", "prompt": "make it snow"}'
_ONE_A_LINE = "write each object on one line of its own, without commas or brackets between them"


class _RefusedError(ValueError):
    """JSON that the standard library takes, but we don't."""


def read_objects(lines: Iterable[PhysicalLine], records: Records, troubles: Troubles) -> None:
    """Read the lines of a JSONL input; empty ones are passed over."""
    for line in lines:
        if line.problem is not None:
            troubles.add(line.number, line.problem)
        elif line.text.strip():
            try:
                values = _fields(line.text)
            except _RefusedError as error:
                troubles.add(line.number, str(error))
            else:
                records.add(line.number, values)


def _fields(text: str) -> dict[str, Any]:
    document = _document(text)
    if isinstance(document, list):
        raise _RefusedError(f"is a JSON array: {_ONE_A_LINE}")
    if not isinstance(document, dict):
        raise _RefusedError(f"is no JSON object such as {_EXAMPLE}")
    names = tuple(canonical(name) for name in document)
    fault = fault_of(names, "field")
    if fault is None and not all(name.strip() for name in names):
        fault = "there is a field without a name"
    if fault is not None:
        raise _RefusedError(fault)
    return dict(zip(names, document.values(), strict=True))


def _document(text: str) -> Any:
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise _RefusedError(_reason(text, error)) from None
    except _RefusedError:
        raise
    except ValueError:  # Python's own limit, against numbers that take minutes to read
        raise _RefusedError("holds a number of too many digits") from None
    except RecursionError:
        raise _RefusedError("is nested too deeply") from None


def _reason(text: str, error: json.JSONDecodeError) -> str:
    reason = f"is no JSON: {printable(error.msg)} at character {error.colno}"
    if text.startswith("\ufeff"):
        return MARK_INSIDE
    if text.lstrip().startswith("["):
        return f"is part of a JSON array: {_ONE_A_LINE}"
    if error.pos >= len(text.rstrip()):
        return f"{reason}, where the line ends: {_ONE_A_LINE}"
    if error.msg == "Extra data":
        return f"holds more than one object: {_ONE_A_LINE}"
    return reason


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(f"names {quoted(twice, 60)} twice")
    return fields


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"holds {name}, which is no JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
