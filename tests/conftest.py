"""What every test runs under: virtual time, and nothing that fails unnoticed."""

from __future__ import annotations

import asyncio
import gc
import os
import traceback
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from .programs import need_program
from .virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Virtual time makes the loop's clock jump, which a deadline on real time can't judge fairly.
hypothesis.settings.register_profile("local", deadline=None, max_examples=100)
# The same examples in every run: what a run of CI finds, its next run finds again.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

_LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "virtual": VirtualTimeLoop,
    "real": asyncio.new_event_loop,
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Virtual time for all, but for `@pytest.mark.asyncio(loop_factories=["real"])`."""
    # A test that chooses nothing would run once on each loop that is offered.
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return _LOOPS
    return {"virtual": _LOOPS["virtual"]}


def pytest_configure(config: pytest.Config) -> None:
    """Announce the project's own marks."""
    config.addinivalue_line(
        "markers", "needs(*programs): skip the test, or fail it, where one is not installed"
    )


_LONGEST = ("test_chaos.py", "test_kill.py", "test_batch_proof.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, so that no one is left to them at the end."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the programs of `@pytest.mark.needs(…)` before any fixture starts one."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            need_program(program)


def pytest_collection_finish() -> None:
    """Keep all that was imported out of the collections after each test: they take much less."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def loop_errors() -> Iterator[list[dict[str, Any]]]:
    """What any event loop reported as an error; what is still listed at the end fails the test.

    Holds the contexts given to `loop.call_exception_handler`: exceptions in callbacks, tasks and
    futures whose exception nobody took, pending tasks that were destroyed. A test that expects
    some inspects and then clears the list. Those that only the garbage collector finds come up
    after a `gc.collect()`.
    """
    reported: list[dict[str, Any]] = []
    default = asyncio.BaseEventLoop.default_exception_handler

    def record(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
        reported.append(context)
        default(loop, context)

    # The class's, so that loops that a test makes itself, as by `asyncio.run`, are covered too.
    # Fixtures are torn down in reverse, and this one is set up before the test's own loop: by
    # the end the loop is closed and has reported all that it will.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "default_exception_handler", record)
        yield reported
        gc.collect()
        # What outlives its test is looked at no more: else each collection goes through all that
        # the tests before have left, and takes longer than most tests.
        gc.freeze()
    if reported:
        report = "\n".join(_describe(context) for context in reported)
        reported.clear()
        pytest.fail(f"reported to the event loop's exception handler:\n{report}", pytrace=False)


def _describe(context: dict[str, Any]) -> str:
    lines = [str(context.get("message", "no message"))]
    lines += [
        f"  {key}: {value!r}"
        for key, value in context.items()
        if key not in {"message", "exception", "source_traceback"}
    ]
    if (exception := context.get("exception")) is not None:
        lines += "".join(traceback.format_exception(exception)).splitlines()
    return "\n".join(lines)
