"""The pytest plugin of octoremix: a gateway and a session for your own tests.

It stands outside of the package, because pytest imports every installed plugin at its start: what
it needs it imports in its fixtures, so that a suite without them pays nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from octoremix import Session
    from octoremix.testing.threaded import ThreadedEmulator

__all__ = ["octoremix_gateway", "octoremix_session"]

_MARKER = "octoremix_gateway"
_DURATION = 0.2
_PAUSE = 0.05
_TIMEOUT = 5.0


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(profile=..., duration=..., faults=[...], ...): "
        "settings of the octoremix_gateway fixture, those of octoremix.testing.Emulator",
    )


@pytest.fixture
def octoremix_gateway(request: pytest.FixtureRequest) -> Iterator[ThreadedEmulator]:
    """A gateway of this test's own, served by a thread; each of its jobs takes 0.2 s.

    ``@pytest.mark.octoremix_gateway(profile="grok", faults=["html_502:first=2"])`` gives it
    settings, those of `octoremix.testing.Emulator`. A class's marker and a test's add up.
    """
    from octoremix.testing.threaded import ThreadedEmulator  # noqa: PLC0415 - see above

    settings = {"duration": _DURATION, **_settings(request.node)}
    try:
        gateway = ThreadedEmulator(**settings)
    except (TypeError, ValueError, ImportError) as error:
        pytest.fail(f"@pytest.mark.{_MARKER}: {error}", pytrace=False)
    with gateway:
        yield gateway


@pytest.fixture
def octoremix_session(octoremix_gateway: ThreadedEmulator) -> Iterator[Session]:
    """An `octoremix.Session` for the gateway of this test, which polls every 0.05 s.

    Its calls have 5 s to be answered. It belongs to the event loop in which the test first uses it, and is closed after the test.
    """
    from tenacity import wait_fixed  # noqa: PLC0415 - see above

    from octoremix import PollPolicy, RetryPolicy  # noqa: PLC0415 - see above
    from octoremix.testing._loop_session import LoopSession  # noqa: PLC0415 - see above

    session = LoopSession(
        octoremix_gateway.api_key,
        base_url=octoremix_gateway.url,
        poll=PollPolicy(wait=wait_fixed(_PAUSE), first_delay=_PAUSE),
        retry=RetryPolicy(wait=wait_fixed(_PAUSE)),
        request_timeout=_TIMEOUT,
        submit_timeout=_TIMEOUT,
        proxy=False,
    )
    yield session
    session.finish()


def _settings(item: pytest.Item) -> dict[str, Any]:
    """What the markers say, the closest last."""
    from octoremix.testing import Emulator  # noqa: PLC0415 - see above

    known = [*inspect.signature(Emulator).parameters]
    settings: dict[str, Any] = {}
    for marker in reversed([*item.iter_markers(_MARKER)]):
        strangers = [
            *map(repr, marker.args),
            *(name for name in marker.kwargs if name not in known),
        ]
        if strangers:
            pytest.fail(
                f"@pytest.mark.{_MARKER} has no setting {', '.join(strangers)}: "
                f"it takes the keywords {', '.join(known)}",
                pytrace=False,
            )
        settings.update(marker.kwargs)
    return settings
