"""What the pace means for those who send: how a pause is told."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .models import Event

__all__ = ["tell_pause"]

log = logging.getLogger("octoremix")


def tell_pause(whose: str, pause: float | None, notify: Callable[[Event], None] | None) -> None:
    """Log that a pause begins, and tell the observer.

    Args:
        whose: What pauses.
        pause: Its length in seconds, or ``None`` where it is one that was told already.
        notify: The observer, or ``None``.
    """
    if pause is None:
        return
    log.info("%s pause for %.1f s after a 429", whose, pause)
    if notify is not None:
        notify(Event(kind="cool_down", delay=pause))
