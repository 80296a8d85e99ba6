"""A body that goes on where it was cut: what to ask for, and whether the answer fits."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

__all__ = ["Validator", "announced_length", "continued_total", "validator_of"]

_CONTENT_RANGE = re.compile(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)


@frozen
class Validator:
    """What tells one state of a result from another.

    Attributes:
        value: A strong ``ETag``, or a date of last change.
        header: The header that it came in.
    """

    value: str
    header: str

    def from_byte(self, offset: int) -> dict[str, str]:
        """Return the headers that ask for the rest, or for all of it if it has changed."""
        return {"Range": f"bytes={offset}-", "If-Range": self.value}


def validator_of(headers: Mapping[str, str]) -> Validator | None:
    """Return what a result can be recognised by, or ``None``.

    A weak ``ETag`` stands for the meaning, not for the bytes. A result that was changed in the very
    second of its answer may change once more under the same date.
    """
    etag = headers.get("ETag", "").strip()
    if len(etag) > 1 and etag.startswith('"') and etag.endswith('"'):
        return Validator(etag, "ETag")
    changed = headers.get("Last-Modified", "").strip()
    if not etag and changed and changed != headers.get("Date", "").strip():
        return Validator(changed, "Last-Modified")
    return None


def announced_length(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes an answer announces, or ``None``."""
    text = headers.get("Content-Length", "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def continued_total(
    headers: Mapping[str, str], *, offset: int, total: int | None, validator: Validator
) -> int | None:
    """Return the length of the whole result, if an answer of 206 is the rest of the same.

    Args:
        headers: The answer's.
        offset: How many bytes there are already.
        total: How long the whole was announced to be, or ``None``.
        validator: Of the first answer.

    Returns:
        The length, or ``None`` if the answer does not fit.
    """
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None
    start, end, whole = map(int, found.groups())
    if start != offset or not start <= end < whole or total not in {None, whole}:
        return None
    if headers.get(validator.header, validator.value).strip() != validator.value:
        return None
    return whole if announced_length(headers) in {None, end - start + 1} else None
