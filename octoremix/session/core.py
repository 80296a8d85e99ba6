"""What all of a session shares: its parts, its event loop, its beginning and its end."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Coroutine, KeysView, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self

import aiohttp

from .._buying import Buyer
from .._credentials import APIKey, APIKeySource
from .._download import Downloader
from .._evidence import Evidence
from .._journal import SQLiteJournal
from .._pace import Pace
from .._permits import query_permit
from .._poller import Poller
from .._protocol import API, DEFAULT_BASE_URL, parse_base_url
from .._queries import Queries
from .._recovery import Recovery
from .._submit import Keeper, Submitter
from .._transport import Transport
from ..errors import ConfigurationError, SessionClosedError
from ..models import Event, SessionStats
from ..policies import PollPolicy, RetryPolicy, check_count, check_rate, check_seconds, check_type

__all__ = ["SessionCore"]


class SessionCore:
    """The parts of a session, wired; see `Session`."""

    def __init__(
        self,
        api_key: APIKeySource | None = None,
        *,
        base_url: str | None = None,
        poll: PollPolicy = PollPolicy(),  # noqa: B008  # frozen, so one serves all
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen, so one serves all
        request_timeout: float = 30.0,
        submit_timeout: float = 120.0,
        submit_concurrency: int = 16,
        rate_limit: float | None = None,
        journal: str | os.PathLike[str] | SQLiteJournal | None = None,
        http: aiohttp.ClientSession | None = None,
        proxy: str | bool | None = None,
        ssl: ssl.SSLContext | bool | None = None,
        headers: Mapping[str, str] | None = None,
        max_tasks: int = 1_000_000,
        on_event: Callable[[Event], object] | None = None,
        allow_private_links: bool = False,
    ) -> None:
        try:
            check_seconds("request_timeout", request_timeout)
            check_rate("rate_limit", rate_limit)
            self._pace = Pace(rate_limit)
            query = partial(query_permit, self._pace)
            address = base_url or os.environ.get("OCTOPUSX_BASE_URL") or DEFAULT_BASE_URL
            self._api = API(parse_base_url(address))
            self._transport = Transport(
                self._api,
                APIKey(os.environ.get("OCTOPUSX_API_KEY") if api_key is None else api_key),
                http=http,
                proxy=proxy,
                ssl=ssl,
                headers=headers,
                timeout=request_timeout,
                permit=query,
                allow_private_links=allow_private_links,
            )
        except ConfigurationError as error:
            raise error.with_traceback(None)  # noqa: B904  # itself, without the checks' frames
        finally:
            # A traceback shows the locals of its frames, and the checks below may fail.
            del api_key, headers, proxy
        check_type("poll", poll, PollPolicy)
        check_type("retry", retry, RetryPolicy)
        if http is not None:
            check_type("http", http, aiohttp.ClientSession)
        if on_event is not None and not callable(on_event):
            raise ConfigurationError("on_event must be callable: it is handed every Event")
        if not isinstance(allow_private_links, bool):
            raise ConfigurationError("allow_private_links must be True or False")
        check_seconds("submit_timeout", submit_timeout)
        check_count("submit_concurrency", submit_concurrency)
        check_count("max_tasks", max_tasks)
        self._on_event = on_event
        if journal is not None and not isinstance(journal, SQLiteJournal):
            journal = SQLiteJournal(journal)
        self._journal = journal
        self._ledger = None if journal is None else journal.open(str(self._api.base_url))
        self._assemble(
            poll,
            retry,
            query,
            request_timeout=request_timeout,
            submit_timeout=submit_timeout,
            submit_concurrency=submit_concurrency,
            max_tasks=max_tasks,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        self._closed = False

    def _assemble(
        self,
        poll: PollPolicy,
        retry: RetryPolicy,
        permit: Callable[[], Coroutine[Any, Any, None]],
        *,
        request_timeout: float,
        submit_timeout: float,
        submit_concurrency: int,
        max_tasks: int,
    ) -> None:
        pace = self._pace
        notify = None if self._on_event is None else self._notify
        send = self._transport.send
        record = None if self._ledger is None else self._ledger.ended
        self._queries = Queries(
            self._api, send, permit, retry, timeout=request_timeout, record=record
        )
        self._poller = Poller(
            self._queries.poll,
            poll,
            pace,
            request_timeout=request_timeout,
            max_tasks=max_tasks,
            notify=notify,
            record=record,
        )
        self._submitter = Submitter(
            self._api,
            send,
            pace,
            retry,
            Keeper(self._ledger, timeout=submit_timeout),
            timeout=submit_timeout,
            concurrency=submit_concurrency,
            notify=notify,
            check=self._poller.check_running,
        )
        self._recovery = None
        if self._ledger is not None:
            evidence = Evidence(
                self._queries.key_log,
                self._ledger,
                submit_timeout=submit_timeout,
                now=time.time,
            )
            self._recovery = Recovery(self._ledger, self._poller, evidence, deadline=poll.deadline)
        self._buyer = Buyer(
            self._submitter,
            self._poller,
            self._recovery,
            deadline=poll.deadline,
            bind=self._bind,
        )
        self._downloader = Downloader(
            self._api, self._transport.stream, self._queries.retrieve, retry
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_closing"):  # a setting was refused, and a debugger shows the frame
            return "<octoremix.Session, not made>"
        state = "closed" if self._closed else f"follows {len(self.pending)} tasks"
        return f"<octoremix.Session at {self._api.base_url}: {state}>"

    def __reduce__(self) -> NoReturn:
        # What copy, deepcopy and pickle have in common. A copy would share the poller, the key and
        # the connections, but not know when they are closed.
        raise TypeError(
            "a session can't be copied or pickled: share the one that there is, or make another "
            "where it is needed"
        )

    async def __aenter__(self) -> Self:
        self._bind()
        if self._ledger is not None:
            try:
                await self._ledger.open()
            except BaseException:
                await self.aclose()
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def base_url(self) -> str:
        """The gateway's address, without ``/v1``."""
        return str(self._api.base_url)

    @property
    def stats(self) -> SessionStats:
        """What the session has done and is doing."""
        return SessionStats(
            polls_sent=self._poller.sent,
            tasks_followed=len(self._poller.ids),
            requests_in_flight=self._poller.in_flight + self._submitter.in_flight,
            cool_down=0.0 if self._loop is None else self._pace.cool_down(self._loop.time()),
        )

    @property
    def pending(self) -> KeysView[str]:
        """The ids that are followed, as a live view."""
        return self._poller.ids

    async def aclose(self, grace: float = 10.0) -> None:
        """End the session; tasks go on and are billed, and open futures tell their ids.

        They fail with `SessionClosedError`. Submits whose request is out have ``grace`` seconds to
        be answered. It may be called twice, also at the same time.

        Args:
            grace: Seconds.
        """
        check_seconds("grace", grace, zero=True)
        if self._loop is None:  # never used
            self._closed = True
            return
        if self._closing is not None and self._closing.done():
            return
        if self._loop is not asyncio.get_running_loop():
            raise SessionClosedError("the session belongs to another event loop: close it there")
        if self._closing is not None:
            await asyncio.wait([self._closing])
            return
        self._closed = True
        self._closing = closing = self._loop.create_future()
        try:
            await self._submitter.aclose(grace)
        finally:
            try:
                await self._poller.aclose()
            finally:
                await self._close_rest(closing)

    async def _close_rest(self, closing: asyncio.Future[None]) -> None:
        try:
            if self._ledger is not None:
                # A journal that stays open keeps its jobs from everybody else.
                await _to_its_end(self._ledger.aclose())
        finally:
            await self._transport.aclose()
            closing.set_result(None)

    def _notify(self, event: Event) -> None:
        assert self._on_event is not None
        try:
            self._on_event(event)
        # The user's code may raise anything; a cancelled future's result() is no Exception.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            asyncio.get_running_loop().call_exception_handler(
                {"message": "octoremix's on_event callback failed", "exception": error}
            )

    def _bind(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the session, which is that of its first use."""
        if self._closed:
            raise SessionClosedError("the session is closed: make a new one")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None:
            raise ConfigurationError("no event loop runs: use the session in a coroutine")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise SessionClosedError(
                "the session belongs to another event loop: make one session for each asyncio.run()"
            )
        return loop


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await some work, also when cancelled meanwhile, and only then be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
