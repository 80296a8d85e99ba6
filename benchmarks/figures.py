"""What was measured, what it may be at most, and the table of it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

WIDTH = 80

_COLUMNS = (31, 10, 17, 6, 7, 4)
_TITLES = ("figure", "measured", "compared with", "ratio", "limit", "")


@frozen(kw_only=True)
class Figure:
    """One figure.

    Attributes:
        name: What it is, in a few words; the README says it in full.
        value: What was measured, in ``unit``.
        unit: Of ``value``, of ``limit`` unless that is a ratio, and of ``beside``.
        base: What the same costs without the library, in ``unit``; then ``limit`` is a ratio.
        beside: What else to show beside it, and what it is; it is not judged.
        limit: The most that it may be, or ``None`` if it is only shown.
    """

    name: str
    value: float
    unit: str
    base: float | None = None
    beside: tuple[str, float] | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the base it is."""
        return None if self.base is None else self.value / self.base

    @property
    def over(self) -> bool:
        """Whether it is above its limit."""
        judged = self.value if self.ratio is None else self.ratio
        return self.limit is not None and judged > self.limit

    def cells(self) -> tuple[str, ...]:
        compared = ""
        if self.base is not None:
            compared = self._quantity(self.base)
        elif self.beside is not None:
            compared = f"{self.beside[0]} {self._quantity(self.beside[1])}"
        limit = verdict = ""
        if self.limit is not None:
            limit = self._quantity(self.limit) if self.ratio is None else f"{self.limit:.2f}"
            verdict = "over" if self.over else "ok"
        ratio = "" if self.ratio is None else f"{self.ratio:.3f}"
        return (self.name, self._quantity(self.value), compared, ratio, limit, verdict)

    def _quantity(self, value: float) -> str:
        shown = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
        return f"{shown} {self.unit}"


def heading() -> str:
    """Return the first two lines of the table."""
    return "\n".join((_line(_TITLES), _line("-" * width for width in _COLUMNS)))


def row(figure: Figure) -> str:
    """Return a figure's line of the table, at most `WIDTH` columns wide."""
    return _line(figure.cells())


def _line(cells: Iterable[str]) -> str:
    first, *rest = cells
    shown = [first.ljust(_COLUMNS[0])]
    shown += [cell.rjust(width) for cell, width in zip(rest, _COLUMNS[1:], strict=True)]
    return " ".join(shown).rstrip()
