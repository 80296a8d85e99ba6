"""Foreign text, durations and times as the page shows them."""

from __future__ import annotations

import re
from datetime import datetime

from ...errors import printable

__all__ = ["day_and_time", "plural", "shown", "span", "spoken"]

# Persian, Indic scripts and emoji can't do without these two, which hide and reorder nothing.
_JOINERS = re.compile("([\u200c\u200d])")
# As in English, whatever the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_DASH = "\N{EN DASH}"


def shown(text: str, limit: int) -> str:
    """Return foreign text, its lines kept apart, free of controls, cut to ``limit`` characters."""
    cut = text.strip()
    cut = cut if len(cut) <= limit else cut[: limit - 1] + "…"
    return "\n".join(_line(line) for line in cut.splitlines())


def _line(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(
        part if _JOINERS.fullmatch(part) else printable(part, len(part) + 1)
        for part in _JOINERS.split(line)
    )


def spoken(seconds: float | None) -> str:
    """Return a duration as people read it, a dash for none."""
    if seconds is None:
        return _DASH
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min" if minutes else f"{hours} h"
    days, hours = divmod(round(whole / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def day_and_time(time: datetime) -> str:
    """Return an aware UTC time to the minute, without the zone."""
    return f"{time.day} {_MONTHS[time.month - 1]} {time.year}, {time:%H:%M}"


def span(begin: datetime, end: datetime) -> str:
    """Return two UTC times as a range, the day once where it is the same."""
    if begin.date() == end.date():
        if (begin.hour, begin.minute) == (end.hour, end.minute):
            return f"{day_and_time(begin)} UTC"
        return f"{day_and_time(begin)} {_DASH} {end:%H:%M} UTC"
    return f"{day_and_time(begin)} {_DASH} {day_and_time(end)} UTC"


def plural(count: int, word: str) -> str:
    """Return a count with its word: ``"1 job"``, ``"2,000 jobs"``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
