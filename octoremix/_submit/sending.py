"""One POST, and what its answer means for the job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

from .._pace import Pace
from .._permits import submit_permit, tell_pause
from .._protocol import API, Refused, Request, Response, Unclear, read_accepted
from .._wire import Reading
from ..errors import (
    APIConnectionError,
    APITimeoutError,
    OctoremixError,
    RateLimitError,
    SessionClosedError,
    printable,
)
from ..models import Event, RemixRequest
from .purchase import Purchase, outcome_unknown

__all__ = ["Send", "Sender", "as_doubt"]

log = logging.getLogger("octoremix")


class Send(Protocol):
    """Sends one request and returns its answer."""

    def __call__(
        self, request: Request, *, timeout: float | None, on_sent: Callable[[], None]
    ) -> Coroutine[Any, Any, Response]: ...


class Sender:
    """Sends POSTs, each once.

    Args:
        api: Builds the requests.
        send: Sends them.
        pace: Permits for the session's requests.
        timeout: Seconds for the answer to one POST.
        notify: Told of every `Event`, or ``None``.
    """

    def __init__(
        self,
        api: API,
        send: Send,
        pace: Pace,
        *,
        timeout: float,
        notify: Callable[[Event], None] | None,
    ) -> None:
        self._api = api
        self._send = send
        self._pace = pace
        self._timeout = timeout
        self._notify = notify

    def __repr__(self) -> str:
        return f"<Sender to {self._api.origin}>"

    async def permit(self) -> None:
        """Wait until a POST may be sent."""
        await submit_permit(self._pace)

    async def buy(self, request: RemixRequest, purchase: Purchase) -> Reading:
        """Send the POST and return the accepted task.

        Raises:
            SubmitOutcomeUnknownError: The job may exist and may be billed.
            APIConnectionError: Nothing was sent.
            APIError: The gateway refused.
        """
        started = asyncio.get_running_loop().time()
        response = await self._post(request, purchase)
        return self._answered(request, response, purchase.sent_at, started)

    async def _post(self, request: RemixRequest, purchase: Purchase) -> Response:
        def on_sent() -> None:
            # Before 3.12 aiohttp writes in a task of its own, a turn of the loop later: a purchase
            # that was cancelled meanwhile must not leave any more.
            if purchase.cancelling():
                raise RuntimeError("cancelled before it was sent")
            purchase.sent_at = datetime.now(UTC)
            purchase.out = purchase.posting = True

        # The time-out is a call, for asyncio.timeout() would use the cancel() that is barred.
        late = f"no answer within {self._timeout:g} s"
        alarm = asyncio.get_running_loop().call_later(self._timeout, purchase.abort, late)
        failure: APIConnectionError | SessionClosedError
        try:
            return await self._send(self._api.remix(request), timeout=None, on_sent=on_sent)
        except asyncio.CancelledError:
            if purchase.aborted is not None:
                failure = self._aborted(purchase, late)
            else:  # of no cancel() of this task, unless it is cancelling
                failure = APIConnectionError("a CancelledError from inside broke the call off")
            if purchase.cancelling():
                raise  # its caller, who perhaps left in the same turn, was told that it is free
        except APIConnectionError as error:
            failure = error.with_traceback(None)
        finally:
            alarm.cancel()
            purchase.posting = False
        if purchase.sent_at is not None:
            raise outcome_unknown(request, purchase.sent_at, str(failure))
        raise failure

    def _aborted(self, purchase: Purchase, late: str) -> APIConnectionError | SessionClosedError:
        why, purchase.aborted = purchase.aborted, None
        purchase.uncancel()
        return APITimeoutError(late) if why == late else SessionClosedError(why or "")

    def _answered(
        self,
        request: RemixRequest,
        response: Response,
        sent_at: datetime | None,
        started: float,
    ) -> Reading:
        answer = read_accepted(response)
        if isinstance(answer, Unclear):
            raise outcome_unknown(request, sent_at, str(answer.error), answer.error.request_id)
        if isinstance(answer, Refused):
            if isinstance(answer.error, RateLimitError):
                self._cool_down(answer.error, started)
            raise answer.error
        # Before anything else can fail: this line may be the only record of what was paid for.
        source = printable(request.video_id)
        log.info("accepted: task %s remixes video %s", printable(answer.task_id), source)
        if answer.task_id == request.video_id:
            log.warning(
                "the gateway gave the source's own id %s to its remix: what is followed may be the "
                "old video",
                source,
            )
        self._pace.submit_answered(started)
        return answer

    def _cool_down(self, error: RateLimitError, started: float) -> None:
        now = asyncio.get_running_loop().time()
        pause = self._pace.submit_refused(started, now, error.retry_after)
        tell_pause("submits", pause, self._notify)


def as_doubt(
    error: BaseException, request: RemixRequest, sent_at: datetime | None
) -> BaseException:
    """Return what to tell of an error: of one that nobody foresaw, that the job may be bought."""
    if isinstance(error, OctoremixError) or not isinstance(error, Exception) or sent_at is None:
        return error
    log.error("a submit failed unexpectedly after it was sent", exc_info=error)
    why = f"it failed unexpectedly: {printable(repr(error))}"
    return outcome_unknown(request, sent_at, why)
