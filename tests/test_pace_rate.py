"""A limited rate: how many may start, who comes first, and that nobody waits for ever."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from octoremix._pace import IN_A_ROW, Line, Pace

SUBMIT, QUERY, POLL = "submit", "query", "poll"
RATES = st.one_of(st.integers(1, 50), st.floats(0.05, 50, allow_nan=False))


def assert_within(rate: float, starts: list[float]) -> None:
    """Hold the starts against the limit: at most so many, and one, in any window of a second."""
    for index, first in enumerate(starts):
        within = [start for start in starts[index:] if start <= first + 1 - 1e-9]
        assert len(within) <= math.floor(rate) + 1


def polls_at_once(pace: Pace, now: float) -> int:
    """Start polls until none may start now; return how many."""
    count = 0
    while pace.poll_at(now) <= now:
        pace.poll_started(now, followed=1)
        count += 1
    return count


# The rate


@pytest.mark.parametrize("rate", [0.1, 0.5, 1, 1.5, 2, 7.25, 10, 1000])
def test_polls_start_evenly(rate: float) -> None:
    """Polls that are all due start one by one, as far apart as the rate says."""
    pace, now, starts = Pace(rate), 100.0, []
    for _ in range(2 + int(3 * rate)):
        now = pace.poll_at(now)
        starts.append(now)
        pace.poll_started(now, followed=50)

    gaps = [later - sooner for sooner, later in itertools.pairwise(starts)]
    assert gaps[1:] == pytest.approx([1 / rate] * (len(gaps) - 1))
    assert_within(rate, starts)


@pytest.mark.parametrize("rate", [0.1, 1, 10])
def test_permits_do_not_pile_up(rate: float) -> None:
    """After an hour without a request one may start at once, and no burst."""
    pace = Pace(rate)
    pace.poll_started(0.0, followed=1)

    assert polls_at_once(pace, 3600.0) == 1
    assert pace.poll_at(3600.0) >= 3600.0 + 1 / rate - 0.05


def test_a_timer_that_rings_late_costs_nothing_of_the_rate() -> None:
    """Starts that are each 2 ms late are still ten in a second: the next is not late for it."""
    pace, now, count = Pace(10), 0.0, 0
    while now < 60:
        count += 1
        pace.poll_started(now, followed=1)
        now = pace.poll_at(now) + 0.002
    assert count >= 600


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-9, 1e308])
def test_absurd_rates_are_kept_too(rate: float) -> None:
    """A rate that is hardly one, or hardly a limit, breaks nothing."""
    pace = Pace(rate)
    for kind in (pace.poll_at, pace.submit_at, pace.query_at):
        assert kind(5.0) == 5.0
    pace.submit_started(5.0)
    pace.query_started(6.0)
    pace.poll_started(7.0, followed=1)
    for kind in (pace.poll_at, pace.submit_at, pace.query_at):
        assert kind(8.0) >= 8.0


def test_all_kinds_share_one_rate() -> None:
    """A submit, a query and a poll each take a permit of the same ten."""
    for started in ("submit_started", "query_started", "poll_started"):
        pace = Pace(10)
        getattr(pace, started)(5.0, *([1] if started == "poll_started" else []))
        for kind in (pace.poll_at, pace.submit_at, pace.query_at):
            assert kind(5.0) == pytest.approx(5.05)  # the slack's half, then every tenth


def test_without_a_limit_nobody_yields() -> None:
    """A session without a limit holds nothing back, whoever waits."""
    pace = Pace()
    pace.submits.join("first")
    pace.queries.join("second")
    pace.polls_wait = True
    for _ in range(10):
        pace.submit_started(7.0)
        pace.query_started(7.0)
        pace.poll_started(7.0, followed=1)

    assert pace.poll_at(7.0) == pace.query_at(7.0) == pace.submit_at(7.0) == 7.0


def test_a_pause_and_a_limit_hold_together() -> None:
    """After a 429 nothing starts in the pause, and after it no more than the rate and the spread."""
    pace = Pace(1)
    pace.poll_refused(0.0, 0.0, 10.0)

    assert pace.poll_at(3.0) == pace.submit_at(3.0) == 10.0
    pace.submit_started(10.0)
    assert pace.submit_at(10.0) == pytest.approx(10.95)
    assert pace.poll_at(10.0) == pytest.approx(10.95)
    pace.poll_started(11.0, followed=2)
    assert pace.poll_at(11.0) == 16.0  # the spread: 10 s for two
    assert pace.submit_at(11.0) == pytest.approx(11.95)


# Who comes first


def test_no_poll_takes_a_submits_permit() -> None:
    """While a submit waits, polls and queries are told to ask again an interval later."""
    pace = Pace(10)
    pace.submits.join("a submit")

    assert pace.poll_at(5.0) == pace.query_at(5.0) == 5.1
    assert pace.submit_at(5.0) == 5.0

    pace.submits.leave("a submit")
    assert pace.poll_at(5.0) == pace.query_at(5.0) == 5.0


def test_submits_that_pause_hold_nobody_back() -> None:
    """While a submit's 429 pauses the submits, polls and queries have the permits."""
    pace = Pace(10)
    pace.submits.join("a submit")
    pace.submit_refused(0.0, 0.0, 60.0)

    assert pace.poll_at(5.0) == pace.query_at(5.0) == 5.0
    assert pace.poll_at(60.0) == pace.query_at(60.0) == 60.1


def test_polls_that_pause_hold_nobody_back() -> None:
    """Polls that are spread after a pause leave the permits to those who can use them."""
    pace = Pace(10)
    pace.poll_refused(0.0, 0.0, 10.0)
    pace.polls_wait = True
    pace.submits.join("a submit")
    now = 10.0
    pace.poll_started(now, followed=2)  # the next at 15
    for _ in range(2 * IN_A_ROW):
        now = pace.submit_at(now)
        pace.submit_started(now)
    assert now == pytest.approx(10.55)


def test_every_fourth_permit_is_for_others() -> None:
    """While submits go on and on, a poll that waits gets every fourth permit."""
    pace = Pace(1)
    pace.submits.join("endless")
    pace.polls_wait = True
    kinds = ""
    for now in range(12):
        if pace.poll_at(now) <= now:
            pace.poll_started(now, followed=1)
            kinds += "P"
        else:
            assert pace.submit_at(now) == now
            pace.submit_started(now)
            kinds += "S"
    assert kinds == "SSSPSSSPSSSP"


def test_a_querys_turn_is_no_submits() -> None:
    """After three submits in a row the next permit is the query's, whoever asks first."""
    pace = Pace(1)
    pace.submits.join("endless")
    pace.queries.join("a query")
    for now in range(IN_A_ROW):
        assert pace.query_at(now) > now
        pace.submit_started(now)

    assert pace.submit_at(3) > 3
    assert pace.query_at(3) == 3


def test_a_turn_that_no_poll_takes_is_lost_alone() -> None:
    """If the polls that waited are gone, submits wait for one more permit and not for ever."""
    pace = Pace(10)
    pace.submits.join("endless")
    pace.polls_wait = True
    for count in range(IN_A_ROW):
        pace.submit_started(count / 10)
    assert pace.submit_at(0.3) == pytest.approx(0.35)
    pace.polls_wait = False
    assert pace.submit_at(0.3) == 0.3


def test_queries_and_polls_take_turns() -> None:
    """Neither an endless row of queries nor one of polls starves the other."""
    pace = Pace(10)
    pace.queries.join("endless")
    pace.polls_wait = True

    pace.query_started(0.0)
    assert pace.poll_at(0.1) == 0.1
    assert pace.query_at(0.1) == pytest.approx(0.15)  # an interval after its permit was there
    pace.poll_started(0.1, followed=1)
    assert pace.query_at(0.2) == 0.2
    assert pace.poll_at(0.2) == pytest.approx(0.3)


def test_a_line_is_first_come_first_served() -> None:
    """Places are left at the front, or anywhere by those who give up."""
    line = Line()
    assert not line
    assert line.first is None
    for place in "abc":
        line.join(place)
    assert line.first == "a"
    assert repr(line) == "<Line of 3>"
    line.leave("b")
    line.leave("a")
    assert line.first == "c"


# Any sequence of requests


@define(eq=False)
class World:
    """Requests of all kinds that ask the pace as the session's coroutines do, in a random order.

    Attributes:
        pace: What is tested.
        chance: Decides who of those that are due asks first, and how late.
        late: The most seconds that a timer rings late.
        starts: What started, and when.
    """

    pace: Pace
    chance: random.Random
    late: float
    starts: list[tuple[float, str]] = field(factory=list)
    _due: int = 0
    _passed: int = 0
    _told: list[tuple[float, float, str, Any]] = field(factory=list)

    def run(self, arrivals: list[tuple[float, str, float]]) -> None:
        for number, (now, kind, patience) in enumerate(arrivals):
            self._later(now, f"new {kind}", (number, patience))
        while self._told:
            now, _, what, about = heapq.heappop(self._told)
            if what == "new poll":
                self._due += 1
                self._poller(now)
            elif what == POLL:
                self._poller(now)
            elif what.startswith("new"):
                self._line(what[4:]).join(about)
                self._later(now + about[1], f"end {what[4:]}", about)
                self._asks(what[4:], now)
            elif what.startswith("end"):
                if about in self._line(what[4:])._places:
                    self._line(what[4:]).leave(about)
                    self._asks(what[4:], now)
            elif self._line(what).first is about:
                self._asks(what, now)

    def _line(self, kind: str) -> Line:
        return self.pace.submits if kind == SUBMIT else self.pace.queries

    def _later(self, when: float, what: str, about: Any = None) -> None:
        heapq.heappush(self._told, (when, self.chance.random(), what, about))

    def _asks(self, kind: str, now: float) -> None:
        line = self._line(kind)
        if not line:
            return
        when = self.pace.submit_at(now) if kind == SUBMIT else self.pace.query_at(now)
        if when > now:
            self._later(when + self.chance.random() * self.late, kind, line.first)
            return
        if kind == SUBMIT:
            self.pace.submit_started(now)
        else:
            self._check_submits_first()
            self.pace.query_started(now)
        self._started(now, kind)
        line.leave(line.first)
        self._asks(kind, now)

    def _poller(self, now: float) -> None:
        while self._due and self.pace.poll_at(now) <= now:
            self._check_submits_first()
            self.pace.poll_started(now, followed=1)
            self._due -= 1
            self._started(now, POLL)
        self.pace.polls_wait = self._due > 0
        if self._due:
            self._later(self.pace.poll_at(now) + self.chance.random() * self.late, POLL)

    def _check_submits_first(self) -> None:
        if self.pace.submits:
            assert [kind for _, kind in self.starts[-IN_A_ROW:]] == [SUBMIT] * IN_A_ROW

    def _started(self, now: float, kind: str) -> None:
        self.starts.append((now, kind))
        self._passed = 0 if kind == POLL or not self.pace.polls_wait else self._passed + 1
        # Three submits, a query, and three submits more.
        assert self._passed <= 2 * IN_A_ROW + 1


@given(
    rate=RATES,
    arrivals=st.lists(
        st.tuples(
            st.floats(0, 0.5),  # intervals since the one before
            st.sampled_from([SUBMIT, SUBMIT, QUERY, POLL, POLL]),
            st.one_of(st.just(math.inf), st.floats(0, 20)),  # intervals until it gives up
        ),
        max_size=80,
    ),
    late=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 1000),
)
def test_any_sequence_of_requests(
    rate: float, arrivals: list[tuple[float, str, float]], late: float, seed: int
) -> None:
    """Whoever comes when, and gives up: never more than the limit, submits first, none starved."""
    now, placed = 0.0, []
    for gap, kind, patience in arrivals:
        now += gap / rate
        placed.append((now, kind, patience / rate))
    world = World(Pace(rate), random.Random(seed), late / rate)
    world.run(placed)

    assert_within(rate, [start for start, _ in world.starts])
    started = [kind for _, kind in world.starts]
    assert started.count(POLL) == sum(kind == POLL for _, kind, _ in arrivals)
    for kind in (SUBMIT, QUERY):
        patient = sum(each == kind and patience == math.inf for _, each, patience in arrivals)
        assert started.count(kind) >= patient


@given(rate=RATES, kinds=st.lists(st.sampled_from([SUBMIT, QUERY, POLL]), min_size=2, max_size=60))
def test_no_permit_is_lost(rate: float, kinds: list[str]) -> None:
    """Requests that all wait from the beginning start as fast as the rate allows."""
    world = World(Pace(rate), random.Random(7), 0.0)
    world.run([(0.0, kind, math.inf) for kind in sorted(kinds, reverse=True)])

    assert len(world.starts) == len(kinds)
    end = world.starts[-1][0]
    # A change from one kind to another may cost a permit where the last of a kind has gone.
    assert end <= (len(kinds) - 1 + 3) / rate * (1 + 1e-9)
