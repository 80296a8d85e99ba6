"""The cool-down after a 429: how long, for whom, and how the polls begin again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoremix._pace import Pace


def test_without_a_429_nothing_is_held_back() -> None:
    """A new session sends at once, and has no cool-down."""
    pace = Pace()

    assert pace.poll_at(7.0) == pace.submit_at(7.0) == 7.0
    assert pace.cool_down(7.0) == 0.0
    pace.poll_started(7.0, followed=1000)
    assert pace.poll_at(7.0) == 7.0


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        (None, 1.0),
        (0.0, 1.0),
        (0.5, 0.5),
        (7.0, 7.0),
        (120.0, 120.0),
        (300.0, 300.0),
        (300.5, 300.0),
        (86_400.0, 300.0),
    ],
)
def test_the_first_pause_is_what_the_answer_asks_for(
    retry_after: float | None, pause: float
) -> None:
    """A 429 pauses for its Retry-After, at most 5 minutes, or for 1 s."""
    pace = Pace()

    assert pace.poll_refused(90.0, 100.0, retry_after) == pause
    assert pace.poll_at(100.0) == 100.0 + pause
    assert pace.cool_down(100.0) == pause

    pace = Pace()
    assert pace.submit_refused(90.0, 100.0, retry_after) == pause
    assert pace.submit_at(100.0) == 100.0 + pause


def test_a_pause_ends_at_its_time() -> None:
    """Until the pause is over nothing starts; at its end the first poll and the submits do."""
    pace = Pace()
    pace.poll_refused(0.0, 10.0, 4.0)
    before = math.nextafter(14.0, 0.0)

    assert pace.poll_at(before) == pace.submit_at(before) == 14.0
    assert pace.cool_down(13.0) == 1.0
    assert pace.poll_at(14.0) == pace.submit_at(14.0) == 14.0
    assert pace.cool_down(14.0) == pace.cool_down(99.0) == 0.0


def test_a_polls_429_pauses_polls_and_submits() -> None:
    """What a poll is told holds for the whole session, and for as long."""
    pace = Pace()
    pace.poll_refused(0.0, 0.0, 20.0)

    assert pace.poll_at(5.0) == pace.submit_at(5.0) == 20.0


def test_a_submits_429_pauses_submits_only() -> None:
    """A full channel for new jobs is no reason not to ask for those that run."""
    pace = Pace()
    pace.submit_refused(0.0, 0.0, 20.0)

    assert pace.submit_at(5.0) == 20.0
    assert pace.poll_at(5.0) == 5.0
    assert pace.cool_down(5.0) == 0.0


@pytest.mark.parametrize("sent_at", [-50.0, 0.0, math.nextafter(5.0, 0.0)])
def test_an_answer_to_an_earlier_request_prolongs_nothing(sent_at: float) -> None:
    """429s of polls that were out when the pause began change nothing, also when they come late."""
    for now in (1.0, 4.0, 5.0, 30.0):
        pace = Pace()
        pace.poll_refused(0.0, 0.0, 5.0)

        assert pace.poll_refused(sent_at, now, 100.0) is None
        assert pace.poll_at(now) == max(5.0, now)
        assert pace.submit_at(now) == max(5.0, now)


@pytest.mark.parametrize("now", [1.0, 4.0, 5.0, 30.0])
def test_a_submit_from_before_a_polls_pause_prolongs_nothing(now: float) -> None:
    """A submit that was out when a poll's 429 paused all tells nothing new by its own."""
    pace = Pace()
    pace.poll_refused(0.0, 0.0, 5.0)

    assert pace.submit_refused(-3.0, now, 100.0) is None
    assert pace.submit_at(now) == max(5.0, now)


def test_a_poll_from_before_a_submits_pause_is_news() -> None:
    """The pause of the submits says nothing about polls: their first 429 pauses them too."""
    pace = Pace()
    pace.submit_refused(0.0, 0.0, 5.0)

    assert pace.poll_refused(-3.0, 1.0, 10.0) == 10.0
    assert pace.poll_at(1.0) == pace.submit_at(1.0) == 11.0


def test_a_shorter_pause_does_not_cut_a_longer_one() -> None:
    """Submits that have to wait for 60 s wait for 60 s, though a poll's 429 asks for 1 s."""
    pace = Pace()
    pace.submit_refused(0.0, 0.0, 60.0)
    pace.poll_refused(0.0, 10.0, 1.0)

    assert pace.submit_at(10.0) == 60.0
    assert pace.poll_at(10.0) == 11.0


# Doubling


def refused_again(pace: Pace, times: int, retry_after: float | None = None) -> list[float | None]:
    """Refuse the first poll after each pause; return the pauses."""
    now, pauses = 0.0, []
    for _ in range(times):
        pauses.append(pace.poll_refused(now, now + 0.1, retry_after))
        now = pace.poll_at(now + 0.1)
    return pauses


def test_the_pause_doubles_while_the_first_answer_after_it_is_429() -> None:
    """From 1 s to 60 s and no longer."""
    assert refused_again(Pace(), 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(
    ("retry_after", "pauses"),
    [
        (0.0, [1, 2, 4, 8]),
        (3.0, [3, 6, 12, 24]),
        (50.0, [50, 60, 60]),
        (100.0, [100, 100, 100]),
        (1000.0, [300, 300, 300]),
    ],
)
def test_a_doubled_pause_is_never_shorter_than_asked(
    retry_after: float, pauses: list[float]
) -> None:
    """Doubling goes to 60 s; a Retry-After that is longer is kept, at most 5 minutes."""
    assert refused_again(Pace(), len(pauses), retry_after) == pauses


def test_submits_double_on_their_own() -> None:
    """Submits that are refused again and again wait longer and longer, polls do not."""
    pace, now, pauses = Pace(), 0.0, []
    for _ in range(8):
        pauses.append(pace.submit_refused(now, now + 0.1, None))
        now = pace.submit_at(now + 0.1)

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pace.poll_at(now) == now


def test_a_burst_of_429_is_one_pause() -> None:
    """The 429s of the polls that were out together double nothing."""
    pace = Pace()

    told = [pace.poll_refused(0.0, 0.1 * count, None) for count in range(16)]

    assert told == [1.0] + [None] * 15
    assert pace.poll_at(0.9) == 1.0


def test_a_good_answer_resets_the_pause() -> None:
    """After a good answer to a request from after the pause, the next pause is a first one."""
    pace = Pace()
    assert refused_again(pace, 4)[-1] == 8
    now = pace.poll_at(0.0)
    assert pace.poll_at(now) == now

    pace.poll_answered(now)

    assert pace.poll_refused(now + 1, now + 1, None) == 1
    pace.poll_answered(now + 2)
    assert pace.poll_refused(now + 3, now + 3, 5.0) == 5


def test_a_good_answer_to_an_earlier_request_resets_nothing() -> None:
    """A good answer to what was sent before the pause tells nothing about the time after it."""
    pace = Pace()
    pace.poll_refused(0.0, 0.1, None)
    pace.submit_refused(0.0, 0.1, None)

    pace.poll_answered(0.0)
    pace.submit_answered(0.0)

    assert pace.poll_refused(2.0, 2.0, None) == 2
    assert pace.submit_refused(4.5, 4.5, None) == 1  # its own first, as the poll's came before


def test_a_good_submit_resets_the_submits_pause() -> None:
    """A job that was accepted after the pause ends the doubling of the submits."""
    pace = Pace()
    assert [pace.submit_refused(now, now, None) for now in (0.0, 1.0, 3.0)] == [1, 2, 4]

    pace.submit_answered(7.0)

    assert pace.submit_refused(8.0, 8.0, None) == 1


def test_polls_that_are_refused_now_and_then_do_not_add_up_for_submits() -> None:
    """While polls recover each time, a submit after hours of it waits as long as polls, no longer."""
    pace = Pace()
    for hour in range(10):
        now = hour * 3600.0
        assert pace.poll_refused(now, now, None) == 1.0
        assert pace.submit_at(now) == now + 1.0
        pace.poll_answered(now + 2)


def test_good_submits_do_not_shorten_a_polls_pause() -> None:
    """A poll's doubled pause holds the submits back as long, though they were accepted between."""
    pace, now = Pace(), 0.0
    for pause in (1.0, 2.0, 4.0, 8.0):
        assert pace.poll_refused(now, now, None) == pause
        assert pace.submit_at(now) == now + pause
        now += pause
        pace.submit_answered(now)


# The start after a pause


def starts_after(pace: Pace, pause: float, overdue: int) -> list[float]:
    """Return when overdue polls start that are sent as soon as the pace allows it."""
    now, starts = pause, []
    for _ in range(overdue):
        now = max(now, pace.poll_at(now))
        starts.append(now)
        pace.poll_started(now, overdue)
    return starts


@pytest.mark.parametrize(
    ("pause", "spread"), [(1.0, 1.0), (4.0, 4.0), (10.0, 10.0), (60.0, 10.0), (300.0, 10.0)]
)
def test_overdue_polls_start_spread(pause: float, spread: float) -> None:
    """They start one by one over as long as the pause was, at most 10 s, evenly."""
    pace = Pace()
    pace.poll_refused(0.0, 0.0, pause)

    starts = starts_after(pace, pause, 8)

    assert starts == pytest.approx([pause + spread / 8 * count for count in range(8)])


def test_after_the_spread_polls_start_as_they_are_due() -> None:
    """Once the spread is over no poll waits for another."""
    pace = Pace()
    pace.poll_refused(0.0, 0.0, 4.0)
    starts_after(pace, 4.0, 3)

    for _ in range(5):
        assert pace.poll_at(8.0) == 8.0
        pace.poll_started(8.0, 3)


def test_a_single_task_is_not_held_back_beyond_the_spread() -> None:
    """However late the first poll after a pause starts, the next waits for no more than the rest."""
    pace = Pace()
    pace.poll_refused(0.0, 0.0, 300.0)
    assert pace.poll_at(305.0) <= 305.0
    pace.poll_started(305.0, followed=1)

    assert pace.poll_at(306.0) == 310.0


def test_submits_are_not_spread() -> None:
    """Submits have their own slots: after the pause they may start at once."""
    pace = Pace()
    pace.poll_refused(0.0, 0.0, 4.0)
    pace.poll_started(4.0, 100)

    assert pace.submit_at(4.0) == 4.0


def test_a_pause_during_the_spread_begins_it_anew() -> None:
    """If the first polls after a pause are refused again, the rest waits and is spread anew."""
    pace = Pace()
    pace.poll_refused(0.0, 0.0, 4.0)
    pace.poll_started(4.0, 2)

    assert pace.poll_refused(4.0, 5.0, None) == 8.0

    assert pace.poll_at(6.0) == 13.0
    starts = starts_after(pace, 13.0, 16)
    assert starts == pytest.approx([13.0 + count / 2 for count in range(16)])


SECONDS = st.floats(0, 400, allow_nan=False)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["poll 429", "poll good", "submit 429", "submit good", "start"]),
            SECONDS,  # since the step before
            SECONDS,  # how long the request was out
            st.one_of(st.none(), SECONDS),
        ),
        max_size=40,
    )
)
def test_any_sequence_of_answers(
    steps: list[tuple[str, float, float, float | None]],
) -> None:
    """Whatever comes, each pause is as long as the rules say, and none is cut short or prolonged."""
    pace, now = Pace(), 0.0
    opens_at, last = -math.inf, 0.0
    for what, seconds, out, retry_after in steps:
        now += seconds
        sent_at = now - out
        polls_open, submits_open = pace.poll_at(now), pace.submit_at(now)
        told = None
        if what == "start":
            if polls_open <= now:
                pace.poll_started(now, 10)
        elif what == "poll good":
            pace.poll_answered(sent_at)
            last = last if sent_at < opens_at else 0.0
        elif what == "submit good":
            pace.submit_answered(sent_at)
        elif what == "submit 429":
            told = pace.submit_refused(sent_at, now, retry_after)
            assert told is None or sent_at >= opens_at
            assert told is None or pace.submit_at(now) == now + told
        else:
            told = pace.poll_refused(sent_at, now, retry_after)
            if sent_at < opens_at:
                assert told is None
            else:
                asked = min(retry_after or 0.0, 300.0)
                doubled = min(2 * last, 60.0)
                last = max(asked, doubled) if last else asked or 1.0
                opens_at = now + last
                assert told == last
                assert pace.poll_at(now) == opens_at <= pace.submit_at(now)
        if told is None and what != "start":
            assert (pace.poll_at(now), pace.submit_at(now)) == (polls_open, submits_open)
        assert polls_open <= pace.poll_at(now) <= now + 300
        assert submits_open <= pace.submit_at(now) <= now + 300
        assert pace.cool_down(now) == max(0.0, opens_at - now)
