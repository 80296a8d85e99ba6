"""The page's two charts, as SVG that needs no script and grows with the page, not with the jobs.

A chart is as wide as its place: what lies along it is told in per cent, or drawn in an inner
picture that is stretched. Colours and fonts are those of the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from .figures import Bins, Flow, nice_count, nice_step
from .words import plural, spoken

__all__ = ["draw_bins", "draw_flow"]

TOP, HEIGHT = 22, 160
"""Pixels above the plot, and of the plot."""

_UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))

_CHART = Markup(
    '<svg class="chart" width="100%" height="{height}" role="img" aria-label="{label}">'
    "{grid}{plot}{axis}</svg>"
)
_RULE = Markup(
    '<line class="rule" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
    '<text class="count" x="-8" y="{y}" dy=".35em">{count}</text>'
)
_TICK = Markup('<text class="tick {side}" x="{x}%" y="{y}">{text}</text>')
_BAR = Markup(
    '<rect class="bar" x="{x}%" width="{width}%" y="{y}" height="{height}" rx="2">'
    "<title>{title}</title></rect>"
)
_MEDIAN = Markup(
    '<line class="median" x1="{x}%" x2="{x}%" y1="4" y2="{bottom}"/>'
    '<text class="note {side}" x="{x}%" dx="{dx}" y="12">median {text}</text>'
)


def draw_flow(flow: Flow) -> Markup:
    """Draw how many jobs were accepted, running and ended, over time."""
    bands = [
        Markup('<path class="{}" d="{}"/>').format(name, _area(counts, flow.jobs))
        for name, counts in (
            ("waiting", flow.submitted),
            ("running", flow.started),
            ("ended", flow.ended),
        )
    ]
    box = f"0 0 {len(flow.submitted) - 1} {flow.jobs}"
    plot = Markup(
        '<svg y="{}" width="100%" height="{}" viewBox="{}" preserveAspectRatio="none">{}</svg>'
    ).format(TOP, HEIGHT, box, Markup("").join(bands))
    label = (
        f"Jobs over time: {plural(flow.jobs, 'job')} accepted within {spoken(flow.seconds)}, "
        f"{flow.ended[-1]:,} of them ended. Half had ended after {spoken(_half_time(flow))}."
    )
    return _chart(label, flow.jobs, plot, _ticks(0.0, flow.seconds))


def _area(counts: Sequence[int], most: int) -> str:
    """Return the path below a line that rises in steps; the origin is at the top left."""
    parts, height = [f"M0 {most}"], 0
    for place, count in enumerate(counts):
        if count != height:
            parts.append(f"H{place}V{most - count}")
            height = count
    return "".join([*parts, f"H{len(counts) - 1}V{most}Z"])


def _half_time(flow: Flow) -> float | None:
    for place, count in enumerate(flow.ended):
        if 2 * count >= flow.jobs:
            return flow.seconds * place / (len(flow.ended) - 1)
    return None


def draw_bins(bins: Bins) -> Markup:
    """Draw how many jobs took how long."""
    most, total = max(bins.counts), len(bins.counts)
    share = 100 / total
    bars = []
    for place, count in enumerate(bins.counts):
        if count:
            low = bins.first + place * bins.width
            height = max(2.0, HEIGHT * count / most)
            bars.append(
                _BAR.format(
                    x=_number(share * (place + 0.06)),
                    width=_number(share * 0.88),
                    y=_number(TOP + HEIGHT - height),
                    height=_number(height),
                    title=f"{spoken(low)} to {spoken(low + bins.width)}: {plural(count, 'job')}",
                )
            )
    length = bins.width * total
    middle = 100 * (bins.median - bins.first) / length
    bars.append(
        _MEDIAN.format(
            x=_number(middle),
            bottom=TOP + HEIGHT,
            side="end" if middle > 60 else "start",
            dx=-6 if middle > 60 else 6,
            text=spoken(bins.median),
        )
    )
    label = (
        f"How long {plural(sum(bins.counts), 'job')} took: {spoken(bins.first)} to "
        f"{spoken(bins.first + length)}, {spoken(bins.median)} in the middle."
    )
    return _chart(label, most, Markup("").join(bars), _ticks(bins.first, length))


def _chart(label: str, most: int, plot: Markup, axis: Markup) -> Markup:
    return _CHART.format(
        height=TOP + HEIGHT + 26, label=label, grid=_rules(most), plot=plot, axis=axis
    )


def _rules(most: int) -> Markup:
    step = nice_count(most, 4)
    rules = (
        _RULE.format(y=_number(TOP + HEIGHT * (1 - count / most)), count=f"{count:,}")
        for count in range(0, most + 1, step)
    )
    return Markup("").join(rules)


def _ticks(first: float, length: float) -> Markup:
    """Write times below the plot, in the unit that suits the last of them."""
    unit, word = next(
        (size, name) for size, name in reversed(_UNITS) if first + length >= 2 * size or size == 1
    )
    step = nice_step(length, 5)
    if length < 2:
        step = length / 2
    ticks = (
        _TICK.format(
            x=_number(place),
            y=TOP + HEIGHT + 20,
            side="start" if place < 3 else "end" if place > 96 else "middle",
            text=f"{time / unit:.4g} {word}" if time else "0",
        )
        for time, place in _places(first, length, step)
    )
    return Markup("").join(ticks)


def _places(first: float, length: float, step: float) -> Iterator[tuple[float, float]]:
    """Yield the multiples of a step, each with how far along it lies, in per cent."""
    for multiple in range(math.ceil(first / step), math.floor((first + length) / step) + 1):
        yield multiple * step, 100 * (multiple * step - first) / length


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
