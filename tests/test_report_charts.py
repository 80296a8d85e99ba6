"""The numbers and the drawings on the page, from nothing at all to thousands of jobs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoremix.cli._report.charts import draw_bins, draw_flow
from octoremix.cli._report.figures import (
    MOST_BINS,
    MOST_POINTS,
    Bins,
    bins_of,
    flow_of,
    nice_count,
    nice_step,
    summary_of,
)
from octoremix.cli._report.jobs import ReportJob

from .report_folders import START

SECONDS = st.floats(0, 1e6, allow_nan=False)


def job(accepted: float | None, started: float | None, done: float | None) -> ReportJob:
    """A job with these times, done if it has an end."""

    def time(seconds: float | None) -> datetime | None:
        return None if seconds is None else START + timedelta(seconds=seconds)

    return ReportJob(
        key="a",
        status="submitted" if done is None else "completed",
        submitted_at=time(accepted),
        started_at=time(started),
        done_at=time(done),
    )


def test_nothing_has_no_figures() -> None:
    """Without jobs, or without times, there is nothing to draw, and no figure but zero."""
    empty = summary_of([])

    assert (empty.total, empty.seconds, empty.median, empty.longest) == (0, None, None, None)
    assert set(empty.counts.values()) == {0}
    for jobs in ([], [job(None, None, None)]):
        assert flow_of(jobs) is bins_of(jobs) is None
    assert flow_of([job(5, None, None), job(5, None, None)]) is None


def test_the_middle_is_that_of_jobs_that_are_done() -> None:
    """What failed or runs says nothing of how long a job takes."""
    jobs = [job(0, 1, 10), job(0, 1, 20), job(0, 1, 90), job(0, 1, None)]
    jobs.append(ReportJob(key="f", status="failed", submitted_at=START, done_at=START))

    summary = summary_of(jobs)

    assert (summary.median, summary.longest, summary.seconds) == (20, 90, 90)
    assert summary.counts == {"done": 3, "failed": 1, "doubt": 0, "running": 1, "unsent": 0}


def test_the_flow_counts_up_to_all() -> None:
    """At each time it is known how many were accepted, started and ended until then."""
    flow = flow_of([job(0, 40, 160), job(80, 120, None), job(0, None, 80)])

    assert flow is not None
    assert (flow.seconds, flow.jobs) == (160, 3)
    assert MOST_POINTS == 160
    assert [flow.submitted[at] for at in (0, 79, 80, 160)] == [2, 2, 3, 3]
    assert [flow.started[at] for at in (0, 39, 40, 80, 119, 120)] == [0, 0, 1, 2, 2, 3]
    assert [flow.ended[at] for at in (0, 79, 80, 159, 160)] == [0, 0, 1, 1, 2]


@given(st.lists(st.tuples(SECONDS, SECONDS | st.none(), SECONDS | st.none()), max_size=20))
def test_a_flow_never_runs_backwards(times: list[tuple[float, float | None, float | None]]) -> None:
    """Its counts never fall, and it ends with every job in it, whatever the clocks said."""
    flow = flow_of([job(*each) for each in times])

    if flow is not None:
        for counts in (flow.submitted, flow.started, flow.ended):
            assert list(counts) == sorted(counts)
            assert len(counts) == MOST_POINTS + 1
        assert flow.submitted[-1] == flow.jobs == len(times)
        assert flow.started[-1] >= flow.ended[-1]
        assert drawn(str(draw_flow(flow))).tag


@given(st.lists(SECONDS, min_size=1, max_size=200))
def test_every_job_is_in_one_bin(times: list[float]) -> None:
    """There are few bins of a round width, and together they hold all jobs."""
    bins = bins_of([job(0, None, seconds) for seconds in times])

    assert bins is not None
    assert sum(bins.counts) == len(times)
    assert 1 <= len(bins.counts) <= MOST_BINS + 1
    assert bins.counts[0] > 0 < bins.counts[-1]
    assert bins.first <= bins.median <= bins.first + bins.width * len(bins.counts)
    assert drawn(str(draw_bins(bins))).tag


@given(st.floats(0, 1e12), st.integers(1, 30))
def test_steps_are_round_and_few(length: float, most: int) -> None:
    """A step fits at most so often, and is one that people count in."""
    step = nice_step(length, most)

    assert length <= step * most
    assert re.fullmatch("[1-9]0*", str(int(step))) or step % 30 == 0 or step == 15


@pytest.mark.parametrize(
    ("length", "step"), [(0, 1), (4, 1), (5, 2), (11, 5), (300, 100), (5000, 2000)]
)
def test_counts_are_ruled_at_round_numbers(length: int, step: int) -> None:
    """Four lines or fewer, at multiples of 1, 2 or 5 with noughts."""
    assert nice_count(length, 4) == step


def drawn(svg: str) -> ET.Element:
    """A drawing as it is read, which shows that it is well-formed and within its bounds."""
    root = ET.fromstring(svg)
    for element in root.iter():
        for name in ("x", "x1", "x2"):
            value = element.get(name, "")
            assert not value.endswith("%") or 0 <= float(value[:-1]) <= 100, svg
        assert float(element.get("height", "1").removesuffix("%")) > 0
    return root


def test_thousands_of_jobs_make_a_small_drawing() -> None:
    """A drawing takes some kilobytes however many jobs are in it."""
    jobs = [job(at, at + 20, at + 60 + at % 97) for at in range(5_000)]
    flow, bins = flow_of(jobs), bins_of(jobs)

    assert flow is not None
    assert bins is not None
    assert len(draw_flow(flow)) < 8_000
    assert len(draw_bins(bins)) < 8_000


def test_a_line_that_stays_takes_no_room() -> None:
    """Only the steps of a line are drawn, not the time between them."""
    flow = flow_of([job(0, 10, 60), job(30, 40, 120)])

    assert flow is not None
    assert len(draw_flow(flow)) < 2_000


def test_one_among_thousands_can_be_seen() -> None:
    """A bin of one job has a bar beside one of ten thousand."""
    bins = Bins(first=0, width=10, counts=(10_000, 0, 1), median=5)

    heights = [float(bar.get("height", "")) for bar in drawn(str(draw_bins(bins))).iter("rect")]
    assert heights == [160, 2]


def test_a_drawing_says_in_words_what_it_shows() -> None:
    """Who can't see a chart is told the same."""
    jobs = [job(0, 10, 60), job(30, 40, 120)]
    flow, bins = flow_of(jobs), bins_of(jobs)

    assert flow is not None
    assert bins is not None
    root = drawn(str(draw_flow(flow)))
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        "Jobs over time: 2 jobs accepted within 2 min, 2 of them ended. Half had ended after 1 min."
    )
    assert drawn(str(draw_bins(bins))).get("aria-label") == (
        "How long 2 jobs took: 1 min to 1 min 40 s, 1 min 15 s in the middle."
    )


def test_a_flow_without_an_end_is_drawn() -> None:
    """While nothing has ended, the drawing says so."""
    flow = flow_of([job(0, None, None), job(30, None, None)])

    assert flow is not None
    assert "0 of them ended. Half had ended after \N{EN DASH}." in draw_flow(flow)


@pytest.mark.parametrize(
    ("first", "width", "bins", "ticks"),
    [
        (0, 1, 1, ["0", "0.5 s", "1 s"]),
        (30, 10, 4, ["30 s", "40 s", "50 s", "60 s", "70 s"]),
        (0, 60, 8, ["0", "2 min", "4 min", "6 min", "8 min"]),
        (3600, 1800, 4, ["1 h", "1.5 h", "2 h", "2.5 h", "3 h"]),
        (0, 86400, 4, ["0", "1 d", "2 d", "3 d", "4 d"]),
    ],
)
def test_times_are_told_in_the_unit_that_suits(
    first: float, width: float, bins: int, ticks: list[str]
) -> None:
    """A handful of round times stand below a chart, all in one unit."""
    counts = (1,) * bins
    root = drawn(str(draw_bins(Bins(first=first, width=width, counts=counts, median=first))))

    texts = [each.text for each in root.iter("text") if "tick" in each.get("class", "")]
    assert texts == ticks


def test_a_time_zone_changes_nothing() -> None:
    """Only the distance between times counts."""
    moved = START.astimezone(UTC) + timedelta(days=4000)
    early, late = (
        [
            ReportJob(
                key="a",
                status="completed",
                submitted_at=begin,
                done_at=begin + timedelta(seconds=30),
            )
        ]
        for begin in (START, moved)
    )

    assert flow_of(early) == flow_of(late)
