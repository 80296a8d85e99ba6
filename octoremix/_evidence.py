"""What the key's own log tells of jobs in doubt.

New-api keeps a record of each charge, which a key may read. It names the path that was called and
not the task that came of it, so it can show that a remix was charged, and nothing more. It may lag
or be switched off, so it never shows that one was not.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from urllib.parse import quote

from attrs import define, frozen

from ._journal import Ledger
from ._protocol import Response
from ._wire import load_json
from .errors import OctoremixError
from .records import InDoubt

__all__ = ["Evidence"]

log = logging.getLogger("octoremix")

CHARGED, NOT_SEEN, UNAVAILABLE = "charged", "not seen", "unavailable"

LEAST_PAUSE = 60.0
"""Seconds between two looks: the gateway's limiter allows 20 in 20 minutes from one address."""

_CONSUMED = 2
"""New-api's type of a record of a charge."""

_EARLIER, _LATER = 5.0, 60.0
"""Seconds by which the gateway's clock may be behind ours, and a record later than its request."""

_ASTRAY = 900.0
"""Seconds by which a clock that is wrong, or was set since, may be off: what is so near shows
nothing, but it leaves no room for a «not seen» either."""


@frozen
class _Charge:
    """One record of a charge: when, and of which path if it tells."""

    at: float
    path: str | None


@define(eq=False)
class _Log:
    """What was seen: when, by the loop's clock and by that of the wall."""

    charges: list[_Charge] | None
    seen_at: float
    as_of: float


class Evidence:
    """Looks for jobs in doubt in the gateway's log.

    Args:
        ask: Asks the gateway for the log.
        ledger: Tells which charges are accounted for.
        submit_timeout: Seconds that the answer to a submit may take: so long after it was sent, a
            job may still be charged.
        now: The time of the wall clock, in seconds since 1970.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Response]],
        ledger: Ledger,
        *,
        submit_timeout: float,
        now: Callable[[], float],
    ) -> None:
        self._ask_gateway = ask
        self._ledger = ledger
        self._submit_timeout = submit_timeout
        self._now = now
        self._log: _Log | None = None
        self._looking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Evidence for {self._ledger}>"

    async def look(self, doubts: Iterable[InDoubt]) -> dict[str, str]:
        """Return what the log tells of each doubt, by its key; one request at most is sent.

        A charge that no job of the journal accounts for is the evidence of the oldest doubt about
        the same video that it can belong to.
        """
        async with self._looking:
            seen = await self._see()
        charges = seen.charges
        if charges is None:
            return {doubt.key: UNAVAILABLE for doubt in doubts}
        by_video: dict[str, list[InDoubt]] = {}
        for doubt in sorted(doubts, key=lambda doubt: doubt.sent_at):
            by_video.setdefault(doubt.video_id, []).append(doubt)
        told: dict[str, str] = {}
        for video_id, concerned in by_video.items():
            left = await self._unaccounted(video_id, charges)
            for doubt in concerned:
                told[doubt.key] = self._judge(doubt, left, charges, seen.as_of)
        return told

    async def _see(self) -> _Log:
        loop = asyncio.get_running_loop()
        if self._log is None or loop.time() - self._log.seen_at >= LEAST_PAUSE:
            as_of = self._now()
            charges = await self._ask()
            self._log = _Log(charges, loop.time(), as_of)
        return self._log

    async def _ask(self) -> list[_Charge] | None:
        try:
            response = await self._ask_gateway()
        except OctoremixError as error:
            log.info("the key's log can't be read: %s", error)
            return None
        charges = _charges_in(response)
        if charges is None:
            log.info("the key's log can't be read: status %d", response.status)
        return charges

    async def _unaccounted(self, video_id: str, charges: list[_Charge]) -> list[_Charge]:
        """Return the charges for a video but for those of the jobs whose ids we know."""
        paths = {f"/v1/videos/{name}/remix" for name in (video_id, quote(video_id, safe=""))}
        left = [charge for charge in charges if charge.path in paths]
        for submitted_at in await self._ledger.submits_of(video_id):
            near = min(left, key=lambda charge: abs(charge.at - submitted_at), default=None)
            if near is not None and abs(near.at - submitted_at) <= self._submit_timeout + _LATER:
                left.remove(near)
        return sorted(left, key=lambda charge: charge.at)

    def _judge(
        self, doubt: InDoubt, left: list[_Charge], charges: list[_Charge], as_of: float
    ) -> str:
        sent_at = doubt.sent_at.timestamp()
        since, until = sent_at - _EARLIER, sent_at + self._submit_timeout + _LATER
        for charge in left:
            if since <= charge.at <= until:
                left.remove(charge)
                return CHARGED
        still_open = as_of < sent_at + self._submit_timeout
        nameless = any(charge.path is None and since <= charge.at <= until for charge in charges)
        near = any(since - _ASTRAY <= charge.at <= until + _ASTRAY for charge in left)
        return UNAVAILABLE if still_open or nameless or near else NOT_SEEN


def _charges_in(response: Response) -> list[_Charge] | None:
    """Read the log, or return ``None`` where that is no log."""
    try:
        document = load_json(response.body) if response.complete else None
    except (ValueError, RecursionError):
        return None
    if response.status != HTTPStatus.OK or not isinstance(document, dict):
        return None
    records = document.get("data")
    if document.get("success") is not True or not isinstance(records, list):
        return None
    return [
        _Charge(float(record["created_at"]), _path_in(record.get("other")))
        for record in records
        if isinstance(record, dict)
        and record.get("type") == _CONSUMED
        and type(record.get("created_at")) in {int, float}
    ]


def _path_in(other: object) -> str | None:
    """Return the path that a record tells; builds of the gateway differ in whether they do."""
    if isinstance(other, str):
        try:
            other = json.loads(other)
        except (ValueError, RecursionError):
            return None
    path = other.get("request_path") if isinstance(other, dict) else None
    return path if isinstance(path, str) else None
