"""The settings: what they accept, what they say of the rest, and what the defaults do."""

from __future__ import annotations

import asyncio
import math
import statistics
from fractions import Fraction

import attrs
import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from octoremix import (
    APIConnectionError,
    BadRequestError,
    ConfigurationError,
    OctoremixError,
    PollPolicy,
    RateLimitError,
    RetryPolicy,
    ServerError,
)
from octoremix.policies import check_count, check_seconds, check_type, retrying, wait_spread

from .readings import refused


def state_of(attempt: int) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.AsyncRetrying(), None, (), {})
    state.attempt_number = attempt
    return state


def drawn(wait: object, attempt: int, times: int = 300) -> list[float]:
    return [wait(state_of(attempt)) for _ in range(times)]


# Defaults


def test_the_defaults_are_those_of_the_design() -> None:
    """First poll after 5 s, an hour's patience, ten failures in two minutes, 16 polls at once."""
    policy = PollPolicy()

    assert (policy.first_delay, policy.deadline) == (5.0, 3600.0)
    assert (policy.max_failures, policy.failure_window) == (10, 120.0)
    assert policy.concurrency == 16
    assert (RetryPolicy().attempts, RetryPolicy().submit) == (5, "unsent")


def test_default_pauses_grow_from_10_to_30_seconds() -> None:
    """Without its spread the default pause is 10 s growing by 1.3 to 30 s, for ever."""
    wait = PollPolicy().wait.wait

    pauses = [wait(state_of(attempt)) for attempt in range(1, 9)]

    assert pauses == pytest.approx([10, 13, 16.9, 21.97, 28.561, 30, 30, 30])
    assert wait(state_of(100_000)) == 30


@pytest.mark.parametrize(("attempt", "middle"), [(1, 10), (3, 16.9), (6, 30), (5000, 30)])
def test_default_pauses_are_spread_by_a_fifth(attempt: int, middle: float) -> None:
    """Each pause is drawn anew within 20 % either way, so that no two tasks stay in step."""
    pauses = drawn(PollPolicy().wait, attempt)

    assert all(0.8 * middle <= pause <= 1.2 * middle for pause in pauses)
    assert len(set(pauses)) > 290
    assert min(pauses) < 0.9 * middle
    assert max(pauses) > 1.1 * middle


def test_tasks_that_start_together_do_not_stay_together() -> None:
    """A thousand tasks of the same second are spread over more than ten after a few polls."""
    wait = PollPolicy().wait
    due = [sum(wait(state_of(attempt)) for attempt in range(1, 6)) for _ in range(1000)]

    assert max(due) - min(due) > 10
    assert statistics.stdev(due) > 2


def test_default_pauses_between_attempts_double_to_30_seconds() -> None:
    """A call is tried again after 1 s, 2 s, 4 s … up to 30 s, each with up to 1 s of jitter."""
    for attempt, least in ((1, 1), (2, 2), (3, 4), (5, 16)):
        pauses = drawn(RetryPolicy().wait, attempt)
        assert all(least <= pause <= least + 1 for pause in pauses)
        assert len(set(pauses)) > 290
    assert max(drawn(RetryPolicy().wait, 2000)) == 30


def test_each_policy_has_a_strategy_of_its_own() -> None:
    """Policies share no strategy object that one of them could change for the other."""
    assert PollPolicy().wait is not PollPolicy().wait
    assert RetryPolicy().wait is not RetryPolicy().wait


def test_a_strategy_is_kept_as_it_was_given() -> None:
    """The very object is used: nothing is wrapped around a user's strategy."""
    wait = tenacity.wait_fixed(3)

    assert PollPolicy(wait=wait).wait is wait
    assert RetryPolicy(wait=wait).wait is wait


@given(seconds=st.floats(0, 1e6), ratio=st.floats(0, 1))
def test_a_spread_stays_within_its_ratio(seconds: float, ratio: float) -> None:
    """Another strategy's pause is made longer or shorter by no more than the ratio of itself."""
    pause = wait_spread(tenacity.wait_fixed(seconds), ratio)(state_of(1))

    assert seconds * (1 - ratio) - 1e-6 <= pause <= seconds * (1 + ratio) + 1e-6


def test_a_spread_can_be_added_to_other_strategies() -> None:
    """The spread is a strategy of tenacity's kind, so that sums and chains take it."""
    spread = wait_spread(tenacity.wait_fixed(10), 0.0)

    assert (spread + tenacity.wait_fixed(1))(state_of(1)) == 11
    assert tenacity.wait_chain(spread, tenacity.wait_fixed(3))(state_of(1)) == 10


# What is accepted


@pytest.mark.parametrize(
    "settings",
    [
        {"first_delay": 0},
        {"first_delay": 0.001},
        {"deadline": None},
        {"deadline": 1},
        {"deadline": 1e300},
        {"failure_window": 0},
        {"max_failures": 1},
        {"concurrency": 10_000},
        {"wait": lambda state: 10},
        {"wait": tenacity.wait_none()},
    ],
)
def test_sound_settings_are_taken(settings: dict[str, object]) -> None:
    """Whole and broken numbers, zero where nothing is meant by it, None for no deadline."""
    policy = PollPolicy(**settings)

    for name, value in settings.items():
        assert getattr(policy, name) == value


def test_an_instance_of_the_class_is_taken() -> None:
    """Where a policy belongs a policy is taken, of a class derived from it too."""

    class Ours(PollPolicy):
        pass

    check_type("poll", PollPolicy(), PollPolicy)
    check_type("poll", Ours(), PollPolicy)


@pytest.mark.parametrize("submit", ["unsent", "never", "always"])
def test_the_modes_of_a_submit_are_taken(submit: str) -> None:
    """Each documented mode of sending a submit again can be chosen."""
    assert RetryPolicy(submit=submit).submit == submit


# What is refused

NO_SECONDS = [-1, -0.001, math.nan, math.inf, -math.inf, "10", True, [], Fraction(1, 2), 10**400]
NO_COUNT = [0, -1, 1.0, 2.5, math.nan, "10", True, None, []]

BAD = [
    *((PollPolicy, "first_delay", value) for value in [*NO_SECONDS, None]),
    *((PollPolicy, "failure_window", value) for value in [*NO_SECONDS, None]),
    *((PollPolicy, "deadline", value) for value in [*NO_SECONDS, 0, 0.0]),
    *((PollPolicy, "max_failures", value) for value in NO_COUNT),
    *((PollPolicy, "concurrency", value) for value in NO_COUNT),
    *((RetryPolicy, "attempts", value) for value in NO_COUNT),
    *((PollPolicy, "wait", value) for value in (10, None, "10", [tenacity.wait_fixed(1)])),
    *((RetryPolicy, "wait", value) for value in (10, None, "10")),
    *((RetryPolicy, "submit", value) for value in ("", "Always", None, True, 1, ["unsent"], {})),
]


@pytest.mark.parametrize(("policy", "name", "value"), BAD)
def test_a_bad_setting_is_named(policy: type, name: str, value: object) -> None:
    """What is out of range or of another kind is refused at once, by name and with what fits."""
    with pytest.raises(ConfigurationError, match=rf"^{name} must be ") as caught:
        policy(**{name: value})

    assert isinstance(caught.value, ValueError)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: check_seconds("x", 0), "x must be a number of seconds above 0, not 0"),
        (
            lambda: check_seconds("x", -1, zero=True),
            "x must be a number of seconds 0 or more, not -1",
        ),
        (
            lambda: check_seconds("x", "1", none=True),
            "x must be a number of seconds above 0, or None, not '1'",
        ),
        (lambda: check_count("x", 0), "x must be a whole number of at least 1, not 0"),
        (lambda: check_count("x", 1, 2), "x must be a whole number of at least 2, not 1"),
        (
            lambda: check_type("x", "steady", PollPolicy),
            "x must be an instance of octoremix.PollPolicy, not str",
        ),
        (
            lambda: PollPolicy(wait=10),
            "wait must be a tenacity wait strategy, for example tenacity.wait_fixed(10), not 10",
        ),
        (
            lambda: RetryPolicy(submit="yes"),
            "submit must be 'unsent', 'never' or 'always', not 'yes'",
        ),
    ],
)
def test_a_refusal_says_what_fits(call: object, told: str) -> None:
    """The message names the setting, the range, and what was given."""
    with pytest.raises(ConfigurationError) as caught:
        call()

    assert str(caught.value) == told


@pytest.mark.parametrize("policy", [PollPolicy, RetryPolicy])
def test_policies_are_frozen_and_take_names_only(policy: type) -> None:
    """A policy can be shared, as nobody can change it, and no argument depends on its place."""
    made = policy()

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.wait = tenacity.wait_fixed(1)
    with pytest.raises(TypeError):
        policy(tenacity.wait_fixed(1))


def test_a_changed_copy_is_checked_too() -> None:
    """A copy with another value is made by `attrs.evolve`, under the same checks."""
    assert attrs.evolve(PollPolicy(), concurrency=3).concurrency == 3
    with pytest.raises(ConfigurationError, match=r"^concurrency must be "):
        attrs.evolve(PollPolicy(), concurrency=0)


# One call that is tried again


async def repeated(
    policy: RetryPolicy, failures: list[OctoremixError], *, give_up_on: type = BadRequestError
) -> tuple[list[float], object]:
    """Make a call that fails so often and then succeeds; return when it was made, and its end."""
    loop = asyncio.get_running_loop()
    began, calls, left = loop.time(), [], list(failures)

    async def call() -> str:
        calls.append(loop.time() - began)
        if left:
            raise left.pop(0)
        return "done"

    try:
        end = await retrying(policy, lambda error: not isinstance(error, give_up_on))(call)
    except OctoremixError as error:
        end = error
    return calls, end


STEADY = RetryPolicy(wait=tenacity.wait_fixed(2), attempts=4)


@pytest.mark.parametrize(
    ("failures", "calls"),
    [
        ([], [0]),
        ([refused(ServerError)], [0, 2]),
        ([refused(ServerError), refused(APIConnectionError)], [0, 2, 4]),
        # An answer may ask for longer than the strategy, not for shorter, and not for ever.
        ([refused(RateLimitError, retry_after=30.0)], [0, 30]),
        ([refused(RateLimitError, retry_after=0.5)], [0, 2]),
        ([refused(RateLimitError, retry_after=9999.0)], [0, 300]),
        ([refused(RateLimitError, retry_after=30.0), refused(ServerError)], [0, 30, 32]),
    ],
)
async def test_a_call_is_repeated_until_it_succeeds(
    failures: list[OctoremixError], calls: list[float]
) -> None:
    """The pause is the policy's, or what the answer asks for where that is longer."""
    made, end = await repeated(STEADY, failures)

    assert made == pytest.approx(calls)
    assert end == "done"


async def test_the_last_failure_is_raised_as_it_is() -> None:
    """After all attempts the caller gets the last error itself, not one of tenacity's."""
    failures = [refused(ServerError) for _ in range(4)]

    made, end = await repeated(STEADY, failures)

    assert len(made) == 4
    assert end is failures[-1]


async def test_what_is_not_worth_it_is_not_repeated() -> None:
    """An error that the caller's rule excludes is raised at once."""
    failure = refused(BadRequestError)

    made, end = await repeated(STEADY, [failure])

    assert made == [0]
    assert end is failure


async def test_a_strategy_for_attempts_is_used_as_it_is() -> None:
    """Any strategy of tenacity's decides on the pauses between attempts."""
    policy = RetryPolicy(wait=tenacity.wait_incrementing(start=1, increment=2), attempts=9)

    made, _ = await repeated(policy, [refused(ServerError) for _ in range(3)])

    assert made == pytest.approx([0, 1, 4, 9])
