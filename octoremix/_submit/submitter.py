"""One job bought: a slot, a permit, one POST, an id.

A POST that went out is never sent again, whatever becomes of its answer or of its caller: from the
moment at which its body leaves, the purchase runs to its end on its own, and the id that comes
back is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .._journal import Job
from .._pace import Pace
from .._protocol import (
    API,
    doubts_about,
)
from .._wire import Reading
from ..errors import (
    APIConnectionError,
    APITimeoutError,
    KeyReusedError,
    NotSubmittedError,
    OctoremixError,
    RateLimitError,
    SessionClosedError,
    SubmitOutcomeUnknownError,
    printable,
    quoted,
)
from ..futures import RemixFuture
from ..models import Event, RemixRequest
from ..policies import RetryPolicy, retrying
from .keeping import Keeper, KnownJobError
from .purchase import Order, Purchase, current_purchase, outcome_unknown
from .sending import Send, Sender, as_doubt

__all__ = ["Submitter"]

log = logging.getLogger("octoremix")

_GOES_ON = "was out already and goes on: its id will be logged, and its task followed"
_OTHERS_WAIT = "goes on, for others wait for the same key"
_HALTED = "it was halted before it was sent, and nothing was bought"


_MOST_WARNINGS = 100
"""What a channel may not like is told of so many different values at most."""


class Submitter:
    """Buys jobs, at most one POST for each that may have been charged.

    Args:
        api: Builds the requests.
        send: Sends them.
        pace: Permits for the session's requests.
        retry: When one submit is sent again.
        keeper: Writes down what is bought.
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
        keeper: Keeper,
        *,
        timeout: float,
        concurrency: int,
        notify: Callable[[Event], None] | None,
        check: Callable[[], None],
    ) -> None:
        self._check = check
        self._sender = Sender(api, send, pace, timeout=timeout, notify=notify)
        self._retry = retry
        self._keeper = keeper
        self._notify = notify
        self._slots = asyncio.Semaphore(concurrency)
        self._purchases: set[Purchase] = set()
        self._named: dict[str, Purchase] = {}
        self._warned: set[str] = set()
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

    async def submit(self, order: Order, *, timeout: float | None = None) -> RemixFuture:
        """Buy one job and return its future.

        A caller who leaves before the request does takes the purchase with it, unless others wait
        for it too; afterwards it goes on without its caller.

        Args:
            order: The job. While one of its key is being bought, that is waited for.
            timeout: Seconds that the caller is ready to wait, or ``None``.

        Raises:
            SubmitOutcomeUnknownError: The job may exist and may be billed.
            APIConnectionError: Nothing was sent.
            APIError: The gateway refused.
            JournalError: The journal can't be written, or forbids it.
            RemixError: The key stands for a job that ended without a video.
            NotSubmittedError: It was known to nobody, or halted before anything was sent.
            SessionClosedError: The session was closed before anything was sent.
        """
        purchase = self._joined(order) or self._begun(order)
        purchase.orders.append(order)
        purchase.abandoned = False
        request = order.request
        try:
            await self._halting(purchase, order.halted)
            await asyncio.wait([purchase], timeout=timeout)
        except asyncio.CancelledError as error:
            purchase.orders.remove(order)
            if purchase not in self._purchases:  # done in this very turn, too late for its caller
                self._tell(purchase)
            elif (why := self._goes_on(purchase)) is not None:
                error.add_note(f"the remix of video {quoted(request.video_id)} {why}")
            raise
        purchase.orders.remove(order)
        if not purchase.done():
            if (why := self._goes_on(purchase)) is not None:
                raise outcome_unknown(
                    request, purchase.sent_at, f"its caller left after {timeout:g} s; it {why}"
                )
            raise (
                purchase.doubt
                or purchase.elsewhere
                or APITimeoutError(f"nothing was sent within {timeout:g} s, and nothing was bought")
            )
        if purchase.cancelled():
            if purchase.elsewhere is not None:
                raise purchase.elsewhere
            if not order.wants:
                raise NotSubmittedError(_HALTED)
            raise SessionClosedError("the session was closed before this job was sent; it is free")
        return purchase.result()

    async def _halting(self, purchase: Purchase, halted: asyncio.Future[None] | None) -> None:
        """Wait for a purchase until it is halted, and cancel it then, unless others want it."""
        if halted is None:
            return
        either: list[asyncio.Future[Any]] = [purchase, halted]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not purchase.done() and not purchase.is_wanted and purchase.cancel():
            self._forget(purchase)  # nobody shall join what is about to end

    def _joined(self, order: Order) -> Purchase | None:
        """Return the purchase that is under way for the same key."""
        purchase = self._named.get(order.key) if order.named else None
        if purchase is not None and purchase.order.request != order.request:
            raise KeyReusedError(
                f"the key {quoted(order.key, 80)} stands for another remix, which is just being "
                "submitted: choose another key"
            )
        return purchase

    def _begun(self, order: Order) -> Purchase:
        loop = asyncio.get_running_loop()
        purchase = Purchase(self._buy(order), loop=loop, name="octoremix submit")
        purchase.order, purchase.orders = order, []
        self._purchases.add(purchase)
        if order.named and not order.known_only:
            self._named[order.key] = purchase
        purchase.add_done_callback(self._done)
        return purchase

    def _goes_on(self, purchase: Purchase) -> str | None:
        """Give a purchase up for its caller; say why it goes on all the same, if it does."""
        if purchase.is_wanted:
            return _OTHERS_WAIT
        purchase.abandoned = not purchase.orders
        if purchase.cancel():
            self._forget(purchase)  # nobody shall join what is about to end
            return None
        return None if purchase.done() else _GOES_ON

    def _forget(self, purchase: Purchase) -> None:
        order = purchase.order
        if order.named and self._named.get(order.key) is purchase:
            del self._named[order.key]

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
            if self._purchases:  # also where this is cancelled: they still write what they know
                await asyncio.wait(set(self._purchases))

    def _done(self, purchase: Purchase) -> None:
        self._purchases.discard(purchase)
        self._forget(purchase)
        if purchase.abandoned:
            self._tell(purchase)
        elif not purchase.cancelled():
            purchase.exception()  # its caller takes it

    def _tell(self, purchase: Purchase) -> None:
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

    async def _buy(self, order: Order) -> RemixFuture:
        purchase = current_purchase()
        while True:
            known = await self._keeper.known(order, purchase)
            if known is not None:
                return known
            if order.known_only:
                raise NotSubmittedError("it was not bought before, and nothing is bought now")
            self._warn(order.request)
            attempts = retrying(self._retry, self._may_be_repeated)
            try:
                return await attempts(self._attempt, order)
            except KnownJobError:
                continue  # another process has the key now
            except (Exception, asyncio.CancelledError) as error:
                if purchase.doubt is None or purchase.doubt is error:
                    raise
                # Whatever ended it after an attempt in doubt: nobody may take it for free.
                raise purchase.doubt from error

    def _warn(self, request: RemixRequest) -> None:
        """Tell what a channel may not like, once: a batch has thousands of jobs of one kind."""
        for doubt in doubts_about(request):
            if doubt not in self._warned and len(self._warned) < _MOST_WARNINGS:
                self._warned.add(doubt)
                log.warning("%s; the gateway decides", doubt)

    def _may_be_repeated(self, error: BaseException) -> bool:
        purchase = current_purchase()
        if self._retry.submit == "never" or self._closed or purchase.abandoned:
            return False
        if isinstance(error, SubmitOutcomeUnknownError):
            return self._retry.submit == "always"
        return isinstance(error, (APIConnectionError, RateLimitError))

    async def _attempt(self, order: Order) -> RemixFuture:
        """Send the POST once, in its slot and with its permit, and keep what comes of it."""
        purchase = current_purchase()
        async with self._slots:
            await self._sender.permit()
            if not purchase.is_wanted:
                self._forget(purchase)  # nobody shall join what is about to end
                raise NotSubmittedError(_HALTED)
            job = await self._keeper.announce(order, purchase)
            try:
                accepted = await self._bought(order.request, purchase, job)
                future = order.accept(accepted)
                await self._keeper.accepted(job, accepted, future)
                if self._notify is not None:  # whose code may cancel whatever it finds
                    self._notify(Event(kind="accepted", id=accepted.task_id, video=accepted.video))
            except OctoremixError as error:
                if order.failed is not None:
                    order.failed(error)
                raise
            finally:
                purchase.out = False
        return future

    async def _bought(self, request: RemixRequest, purchase: Purchase, job: Job | None) -> Reading:
        purchase.sent_at = None
        try:
            self._check()  # what nobody could follow must not be bought
            return await self._sender.buy(request, purchase)
        except BaseException as error:
            told = as_doubt(error, request, purchase.sent_at)
            if isinstance(told, SubmitOutcomeUnknownError):
                purchase.doubt = told
            await self._keeper.failed(job, told, purchase)
            if told is error:
                raise
        raise told
