"""Foreign text made fit for a line, a file name, a shell."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable

from ..errors import printable

__all__ = [
    "cut",
    "file_name",
    "human_duration",
    "human_size",
    "jobs_of",
    "seconds_in",
    "shell_command",
    "slug",
]

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
# What Windows keeps for itself, with any suffix.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LONGEST_NAME = 100
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SMALL_WORDS = frozenset({"a", "all", "an", "and", "in", "of", "the", "to", "up"})


def cut(text: object, width: int) -> str:
    """Return foreign text on one line, free of controls and at most ``width`` characters long."""
    shown = printable(str(text)[: width + 1], width + 1)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def file_name(id: str, suffix: str = ".mp4") -> str:
    """Return a safe file name for an id.

    An id of letters, digits, ``_``, ``-`` and ``.`` is kept as it is; any other is written with
    ``_`` in place of the rest, and with a digest of the id, so that two ids never share a name.
    """
    safe = _UNSAFE.sub("_", id).lstrip(".-")[:_LONGEST_NAME]
    if safe != id or _RESERVED.match(safe):
        digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        safe = f"{safe}-{digest}" if safe and not _RESERVED.match(safe) else f"video-{digest}"
    return safe + suffix


def slug(text: str, width: int) -> str:
    """Return the first words of a text as part of a file name, at most ``width`` characters."""
    words = [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _SMALL_WORDS]
    while words and len("-".join(words)) > width:
        words.pop()
    return "-".join(words) or "remix"


def human_size(size: int) -> str:
    """Return a number of bytes as people read it."""
    if size < 1000:
        return f"{size} B"
    amount = size / 1000
    for unit in ("kB", "MB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def seconds_in(text: str) -> float | None:
    """Return a duration such as ``30d``, ``12h`` or ``90m`` in seconds; ``None`` if it is none."""
    match = _DURATION.fullmatch(text.strip().lower())
    return None if match is None else float(match[1]) * _UNITS[match[2]]


def human_duration(seconds: float) -> str:
    """Return a length of time as people read it: ``"42 s"``, ``"3 min 20 s"``, ``"1 h 5 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def jobs_of(count: int) -> str:
    """Return a number of jobs in words: ``"1 job"``, ``"2,000 jobs"``."""
    return "1 job" if count == 1 else f"{count:,} jobs"


def shell_command(words: Iterable[str], ids: Iterable[str] = ()) -> str:
    """Return a command that can be pasted into a shell.

    Args:
        words: The command and its options.
        ids: Foreign words at its end, set apart by ``--`` where one could be taken for an option.
    """
    listed = list(ids)
    apart = ["--"] if any(word.startswith("-") for word in listed) else []
    return " ".join(_quoted(word) for word in [*words, *apart, *listed])


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # Never a raw control character on the terminal: bash, zsh and ksh read this form.
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\x{byte:02x}"
        for byte in word.encode("utf-8", "surrogateescape")
    )
    return f"$'{escaped}'"
