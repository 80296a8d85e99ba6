"""One job bought: a slot, a permit, one POST, an id.

A POST that went out is never sent again, whatever becomes of its answer or of its caller: from the
moment at which its body leaves, the purchase runs to its end on its own, and the id that comes
back is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

from ._pace import Pace
from ._permits import submit_permit, tell_pause
from ._protocol import (
    API,
    Refused,
    Request,
    Response,
    Unclear,
    doubts_about,
    read_accepted,
)
from ._wire import Reading
from .errors import (
    APIConnectionError,
    APITimeoutError,
    RateLimitError,
    SessionClosedError,
    SubmitOutcomeUnknownError,
    printable,
    quoted,
)
from .futures import RemixFuture
from .models import Event, RemixRequest
from .policies import RetryPolicy, retrying

__all__ = ["Submitter"]

log = logging.getLogger("octoremix")

_GOES_ON = "was out already and goes on: its id will be logged, and its task followed"

Accept = Callable[[Reading], RemixFuture]
"""Follows a task that was just bought."""


class Send(Protocol):
    """Sends one request and returns its answer."""

    def __call__(
        self, request: Request, *, timeout: float | None, on_sent: Callable[[], None]
    ) -> Coroutine[Any, Any, Response]: ...


class _Purchase(asyncio.Task[RemixFuture]):
    """The task that buys one job.

    While its request is out nobody's `cancel` reaches it, not even that of `asyncio.run`, which
    cancels every task at its end and then waits for them: what was paid for is worth the wait.
    `abort` does, for whoever's patience has an end.

    Attributes:
        out: Whether the request has begun to leave and its outcome is not yet kept.
        sent_at: When the last request began to leave, or ``None``.
        aborted: Why it was aborted, or ``None``.
        abandoned: Whether its caller has gone.
        doubt: What became of an attempt that may have bought the job, or ``None``.
    """

    out = False
    sent_at: datetime | None = None
    aborted: str | None = None
    abandoned = False
    doubt: SubmitOutcomeUnknownError | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        return False if self.out else super().cancel(msg)

    def abort(self, why: str) -> None:
        if self.aborted is None:
            self.aborted = why
            super().cancel()


class Submitter:
    """Buys jobs, at most one POST for each that may have been charged.

    Args:
        api: Builds the requests.
        send: Sends them.
        pace: Permits for the session's requests.
        retry: When one submit is sent again.
        timeout: Seconds for the answer to one POST.
        concurrency: The most POSTs in flight.
        notify: Told of every `Event`, or ``None``.
        check: Raises unless what is bought could still be followed.
    """

    def __init__(
        self,
        api: API,
        send: Send,
        pace: Pace,
        retry: RetryPolicy,
        *,
        timeout: float,
        concurrency: int,
        notify: Callable[[Event], None] | None,
        check: Callable[[], None],
    ) -> None:
        self._check = check
        self._api = api
        self._send = send
        self._pace = pace
        self._retry = retry
        self._timeout = timeout
        self._notify = notify
        self._slots = asyncio.Semaphore(concurrency)
        self._purchases: set[_Purchase] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Submitter of {len(self._purchases)} jobs>"

    @property
    def pending(self) -> int:
        """How many jobs are being bought."""
        return len(self._purchases)

    @property
    def in_flight(self) -> int:
        """How many POSTs wait for their answer."""
        return sum(purchase.out for purchase in self._purchases)

    async def submit(
        self, request: RemixRequest, accept: Accept, *, timeout: float | None = None
    ) -> RemixFuture:
        """Buy one job and return its future.

        A caller who leaves before the request does takes the purchase with it; afterwards it goes
        on without its caller.

        Args:
            request: The job.
            accept: Called with what the gateway accepted, also when the caller has gone.
            timeout: Seconds that the caller is ready to wait, or ``None``.

        Raises:
            SubmitOutcomeUnknownError: The job may exist and may be billed.
            APIConnectionError: Nothing was sent.
            APIError: The gateway refused.
            SessionClosedError: The session was closed before anything was sent.
        """
        loop = asyncio.get_running_loop()
        purchase = _Purchase(self._buy(request, accept), loop=loop, name="octoremix submit")
        self._purchases.add(purchase)
        purchase.add_done_callback(self._done)
        try:
            await asyncio.wait([purchase], timeout=timeout)
        except asyncio.CancelledError as error:
            if purchase not in self._purchases:  # done in this very turn, too late for its caller
                self._tell(purchase)
            elif self._abandon(purchase):
                error.add_note(f"the remix of video {quoted(request.video_id)} {_GOES_ON}")
            raise
        if not purchase.done():
            if self._abandon(purchase):
                raise _outcome_unknown(
                    request, purchase.sent_at, f"its caller left after {timeout:g} s; it {_GOES_ON}"
                )
            raise purchase.doubt or APITimeoutError(
                f"nothing was sent within {timeout:g} s, and nothing was bought"
            )
        if purchase.cancelled():
            raise SessionClosedError("the session was closed before this job was sent; it is free")
        return purchase.result()

    def _abandon(self, purchase: _Purchase) -> bool:
        """Give a purchase up for its caller; return whether it goes on because it is out."""
        purchase.abandoned = True
        return not purchase.cancel() and not purchase.done()

    async def aclose(self, grace: float) -> None:
        """Stop buying; requests that are out have so many seconds to be answered."""
        self._closed = True
        for purchase in self._purchases:
            purchase.cancel()  # reaches those alone whose request is not out
        try:
            if self._purchases:
                await asyncio.wait(set(self._purchases), timeout=grace)
        finally:
            for purchase in self._purchases:
                purchase.abort("the session was closed before the answer came")
        if self._purchases:
            await asyncio.wait(set(self._purchases))

    def _done(self, purchase: _Purchase) -> None:
        self._purchases.discard(purchase)
        if purchase.abandoned:
            self._tell(purchase)
        elif not purchase.cancelled():
            purchase.exception()  # its caller takes it

    def _tell(self, purchase: _Purchase) -> None:
        """Log how a purchase ended whose caller is no longer there."""
        if purchase.cancelled():
            return
        error = purchase.exception()
        if error is not None:
            log.error("a submit whose caller had left failed: %s", error)
        else:
            future = purchase.result()
            log.warning(
                "a submit whose caller had left was accepted: task %s %s",
                printable(future.id),
                "is no longer followed" if future.done() else "is followed",
            )

    async def _buy(self, request: RemixRequest, accept: Accept) -> RemixFuture:
        for doubt in doubts_about(request):
            log.warning("%s; the gateway decides", doubt)
        purchase = _current()
        attempts = retrying(self._retry, self._may_be_repeated)
        try:
            return await attempts(self._attempt, request, accept)
        except (Exception, asyncio.CancelledError) as error:
            if purchase.doubt is None or purchase.doubt is error:
                raise
            # Whatever ended it after an attempt in doubt: nobody may take it for free.
            raise purchase.doubt from error

    def _may_be_repeated(self, error: BaseException) -> bool:
        purchase = _current()
        if self._retry.submit == "never" or self._closed or purchase.abandoned:
            return False
        if isinstance(error, SubmitOutcomeUnknownError):
            return self._retry.submit == "always"
        return isinstance(error, (APIConnectionError, RateLimitError))

    async def _attempt(self, request: RemixRequest, accept: Accept) -> RemixFuture:
        """Send the POST once, in its slot and with its permit, and keep what comes of it."""
        purchase = _current()
        async with self._slots:
            await self._permit()
            self._check()  # what nobody could follow must not be bought
            started = asyncio.get_running_loop().time()
            purchase.sent_at = None
            try:
                response = await self._post(request, purchase)
                return accept(self._answered(request, response, purchase.sent_at, started))
            except SubmitOutcomeUnknownError as error:
                purchase.doubt = error
                raise
            finally:
                purchase.out = False

    async def _permit(self) -> None:
        await submit_permit(self._pace)

    async def _post(self, request: RemixRequest, purchase: _Purchase) -> Response:
        def on_sent() -> None:
            # Before 3.12 aiohttp writes in a task of its own, a turn of the loop later: a purchase
            # that was cancelled meanwhile must not leave any more.
            if purchase.cancelling():
                raise RuntimeError("cancelled before it was sent")
            purchase.sent_at = datetime.now(UTC)
            purchase.out = True

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
        if purchase.sent_at is not None:
            raise _outcome_unknown(request, purchase.sent_at, str(failure))
        raise failure

    def _aborted(self, purchase: _Purchase, late: str) -> APIConnectionError | SessionClosedError:
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
            raise _outcome_unknown(request, sent_at, str(answer.error), answer.error.request_id)
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


def _current() -> _Purchase:
    purchase = asyncio.current_task()
    assert isinstance(purchase, _Purchase)
    return purchase


def _outcome_unknown(
    request: RemixRequest, sent_at: datetime | None, why: str, request_id: str | None = None
) -> SubmitOutcomeUnknownError:
    when = f"{sent_at:%Y-%m-%d %H:%M:%S} UTC" if sent_at else "now"
    named = f" (request id {request_id})" if request_id else ""
    return SubmitOutcomeUnknownError(
        f"the remix of video {quoted(request.video_id)} was sent at {when}{named} and its "
        f"outcome is unknown: {why}. The job may exist and may be billed, so it is not sent again; "
        "look for it in the OctopusX console before you submit it once more",
        request=request,
        sent_at=sent_at,
        request_id=request_id,
    )
