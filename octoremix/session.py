"""The session: what users hold. It wires the rest together and holds no logic of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable, Collection, Iterable, KeysView, Mapping
from functools import partial
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, NoReturn, Self

import aiohttp

from ._batch import (
    Batch,
    BatchEvent,
    Engine,
    Limits,
    RemixChain,
    Requests,
    Saver,
    check_source,
    note_step,
    with_source,
)
from ._buying import Buyer, seconds_left
from ._credentials import APIKey, APIKeySource
from ._download import Downloader, check_target
from ._evidence import Evidence
from ._journal import SQLiteJournal, State
from ._pace import Pace
from ._permits import query_permit
from ._poller import Poller
from ._protocol import API, DEFAULT_BASE_URL, parse_base_url
from ._queries import Queries, may_be_repeated
from ._recovery import Recovery
from ._submit import Keeper, Submitter
from ._transport import Transport
from .errors import (
    ConfigurationError,
    OctoremixError,
    SessionClosedError,
    printable,
)
from .futures import RemixFuture
from .models import (
    DEFAULT_MODEL,
    Event,
    KeyUsage,
    RemixRequest,
    SessionStats,
    TaskStatus,
    Video,
    check_task_id,
)
from .policies import (
    PollPolicy,
    RetryPolicy,
    check_count,
    check_rate,
    check_seconds,
    check_type,
    retrying,
)
from .records import InDoubt, JournalEntry

__all__ = ["Session"]

log = logging.getLogger("octoremix")


class Session:
    """Submits remixes and follows them, all with one poller.

    It is made without an event loop and without I/O, and belongs to the loop of its first use.
    Leave it by ``async with`` or `aclose`. It can't be copied or pickled.

    Args:
        api_key: The key, or a callable that returns it (plain or awaitable), asked before each
            call. Default: ``OCTOPUSX_API_KEY``.
        base_url: The gateway, with or without ``/v1``. Default: ``OCTOPUSX_BASE_URL``, else
            ``https://octopusx.ai``.
        poll: How tasks are followed.
        retry: When a submit, `retrieve` or `download` is tried again.
        request_timeout: Seconds that a query may take, and each silence in a download.
        submit_timeout: Seconds that the answer to a submit may take. It is longer than the 100 s
            after which an edge in front of the gateway gives up, to get an answer where there
            is one.
        submit_concurrency: The most submits in flight.
        journal: A file, or a `SQLiteJournal`, that keeps what is paid for over the end of this
            process. It is opened by ``async with`` or the first submit.
        rate_limit: The most requests to the gateway that start in a second, submits before polls;
            ``None`` for no limit. Downloads from elsewhere don't count.
        http: Your own `aiohttp.ClientSession`, used and never closed. Its default headers, cookies,
            time-outs and ``raise_for_status`` change nothing here, and its middlewares are not
            run: one that repeats a request could pay twice.
        proxy: The address of an HTTP proxy; ``None`` for that of ``HTTP_PROXY``, ``HTTPS_PROXY``
            and ``NO_PROXY``; ``False`` for none.
        ssl: An `ssl.SSLContext`, or ``False`` to verify nothing. Default: the system's
            certificates, or those of ``SSL_CERT_FILE``.
        headers: Further headers for the calls to the gateway.
        max_tasks: The most tasks that are followed at once.
        on_event: Called with every `Event`, in the event loop; it must not block.

    Raises:
        ConfigurationError: A setting is missing or malformed; the message names the fix.
    """

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
    ) -> None:
        try:
            check_seconds("request_timeout", request_timeout)
            check_rate("rate_limit", rate_limit)
            self._pace = pace = Pace(rate_limit)
            query = partial(query_permit, pace)
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
        check_seconds("submit_timeout", submit_timeout)
        check_count("submit_concurrency", submit_concurrency)
        check_count("max_tasks", max_tasks)
        self._retry = retry
        self._on_event = on_event
        notify = None if on_event is None else self._notify
        if journal is not None and not isinstance(journal, SQLiteJournal):
            journal = SQLiteJournal(journal)
        self._journal = journal
        self._ledger = None if journal is None else journal.open(str(self._api.base_url))
        send = self._transport.send
        self._queries = Queries(self._api, send, query, retry, timeout=request_timeout)
        self._poller = Poller(
            self._queries.poll,
            poll,
            pace,
            request_timeout=request_timeout,
            max_tasks=max_tasks,
            notify=notify,
            record=None if self._ledger is None else self._ledger.ended,
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
        self._downloader = Downloader(self._api, self._transport.stream)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        self._closed = False

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
            await self._ledger.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def submit(
        self,
        video: str | Video | RemixFuture,
        *,
        prompt: str,
        model: str = DEFAULT_MODEL,
        extra: Mapping[str, Any] | None = None,
        key: str | None = None,
        deadline: float | EllipsisType | None = ...,
        retry_failed: bool = False,
    ) -> RemixFuture:
        """Buy one remix and return its future as soon as the gateway accepted the job.

        At most one POST is sent for a job that may have been charged. A caller who is cancelled
        after the request went out does not stop it: the id that comes back is logged, and the task
        followed.

        Args:
            video: The source: the id of a finished video, a `Video`, or the `RemixFuture` of one
                that is still in work, which is awaited first.
            prompt: What the remix should change.
            model: The remix model.
            extra: Further fields of the body, for example ``{"size": "720P"}``.
            key: Your own name for the job, at most 500 characters; it needs a journal. The same
                key never buys twice: it gives the same future, or the stored result, in whatever
                task or process and after a restart. Only where nothing was bought is it sent again.
            deadline: Seconds from the acceptance after which the task is given up, ``None`` for
                never. Default: that of the `PollPolicy`.
            retry_failed: Buy again what ended without a video, or was given up in doubt.

        Raises:
            ConfigurationError: An argument is malformed; nothing was sent.
            SubmitOutcomeUnknownError: No clear answer came: the job may exist and may be billed.
            KeyReusedError: The key stands for another request.
            RemixError: The job of this key ended without a video.
            JournalError: The journal can't be written; with an ``id`` if the job was accepted.
            APIConnectionError: Nothing was sent, in none of the attempts.
            APIError: The gateway refused; see ``safe_to_resubmit``.
            SessionClosedError: The session is closed.
        """
        request = _request(video, prompt=prompt, model=model, extra=extra, key=key)
        bought = await self._buyer.buy(
            request, deadline=deadline, source=_future(video), retry_failed=retry_failed
        )
        return bought.future

    async def remix(
        self,
        video: str | Video | RemixFuture,
        *,
        prompt: str,
        model: str = DEFAULT_MODEL,
        extra: Mapping[str, Any] | None = None,
        key: str | None = None,
        deadline: float | EllipsisType | None = ...,
        retry_failed: bool = False,
        timeout: float | None = None,
    ) -> Video:
        """Buy one remix and wait for its video.

        If it is cancelled or times out while it waits, the task stays followed, and its id is
        logged and added to the exception's notes.

        Args:
            video: See `submit`.
            prompt: See `submit`.
            model: See `submit`.
            extra: See `submit`.
            key: See `submit`.
            deadline: See `submit`.
            retry_failed: See `submit`.
            timeout: Seconds for all of it, or ``None``.

        Raises:
            RemixError: The task ended without a video.
            WaitError: We stopped waiting; the task may go on.
            OctoremixError: As `submit` raises.
        """
        check_seconds("timeout", timeout, none=True)
        request = _request(video, prompt=prompt, model=model, extra=extra, key=key)
        loop = self._bind()
        end = None if timeout is None else loop.time() + timeout
        bought = await self._buyer.buy(
            request, deadline=deadline, source=_future(video), end=end, retry_failed=retry_failed
        )
        return await _waited(bought.future, seconds_left(loop, end))

    async def chain(
        self,
        video: str | Video | RemixFuture,
        prompts: Iterable[str],
        *,
        model: str = DEFAULT_MODEL,
        extra: Mapping[str, Any] | None = None,
        key: str | None = None,
        deadline: float | EllipsisType | None = ...,
        retry_failed: bool = False,
    ) -> Video:
        """Buy remixes of which each has the one before as its source, and return the last video.

        With an extend model that is how a clip of eight seconds becomes a long one.

        Args:
            video: The source of the first; see `submit`.
            prompts: What each remix should change, in their order.
            model: The remix model of all.
            extra: Further fields of the bodies.
            key: Your own name for the chain; its jobs have the keys ``"KEY/1"``, ``"KEY/2"``… A
                chain that is run again goes on where it stopped. It needs a journal.
            deadline: See `submit`; of each remix.
            retry_failed: See `submit`.

        Raises:
            OctoremixError: As `remix` raises; a note on it tells which remix of the chain failed.
                Those before it were made and paid for.
        """
        source = _future(video)
        video_id = video.id if isinstance(video, (Video, RemixFuture)) else video
        chain = RemixChain(
            video_id=video_id, prompts=prompts, model=model, extra=extra or {}, key=key
        )
        last: Video | None = None
        for number, step in enumerate(chain.steps(), 1):
            request = with_source(step, last)
            try:
                bought = await self._buyer.buy(
                    request, deadline=deadline, source=source, retry_failed=retry_failed
                )
                last, source = await _waited(bought.future), None
            except OctoremixError as error:
                note_step(error, chain, number)
                raise
        assert last is not None
        return last

    def map(
        self,
        requests: Requests,
        *,
        concurrency: int = 100,
        ordered: bool = False,
        max_in_doubt: int = 5,
        max_jobs: int | None = None,
        retry_failed: bool = False,
        deadline: float | EllipsisType | None = ...,
        download_to: str | os.PathLike[str] | None = None,
        name: str = "{key}-{id}.mp4",
        overwrite: bool = False,
        download_concurrency: int = 4,
        on_progress: Callable[[BatchEvent], object] | None = None,
    ) -> Batch:
        """Buy many remixes and return an async iterator of their outcomes, as they finish.

        It submits only as it is consumed, so that an input of any length needs little memory, and
        gives back one `Outcome` for each item: a video or an error. No error of one item stops the
        others, but what concerns them all does: an answer about the account, the route or the
        configuration, or too many jobs in doubt. Then nothing more is bought, and the rest ends as
        `NotSubmittedError`. Until the first job is accepted, no second one is sent.

        With a journal and keys the same input may be run again: what was bought is not bought
        twice, and what is there is given back.

        Args:
            requests: `RemixRequest`, `RemixChain` or dicts of their fields, from any iterable or
                async iterable; it may be endless.
            concurrency: The most items that are submitted and not yet given back.
            ordered: Give the outcomes back in the order of the input.
            max_in_doubt: The most jobs in doubt before nothing more is bought.
            max_jobs: The most jobs that are paid for, or ``None``. Each remix of a chain counts,
                jobs in doubt count, and so do those of these keys that earlier runs with the same
                journal have bought: those of a list or another collection before anything is
                bought, those of an iterator as they come. What is there is given back all the same.
            retry_failed: See `submit`.
            deadline: See `submit`; of each job.
            download_to: A folder, made if it is missing, that each video is downloaded to as soon
                as it is there. A failed download buys nothing anew.
            name: What the files are called: ``{key}``, ``{id}``, ``{index}``, ``{video}``,
                ``{model}`` and ``{prompt}`` stand for what belongs to the job.
            overwrite: Replace files of these names that the batch has not saved itself.
            download_concurrency: The most downloads at once.
            on_progress: Called with every `BatchEvent`, in the event loop; it must not block.

        Raises:
            ConfigurationError: A setting is malformed.
        """
        check_source(requests)
        check_count("concurrency", concurrency)
        check_count("max_in_doubt", max_in_doubt, least=0)
        check_count("download_concurrency", download_concurrency)
        if max_jobs is not None:
            check_count("max_jobs", max_jobs, least=0)
        if on_progress is not None and not callable(on_progress):
            raise ConfigurationError("on_progress must be callable: it is handed every BatchEvent")
        self._buyer.deadline(deadline)
        buy = partial(
            self._buyer.buy, deadline=deadline, retry_failed=retry_failed, needs_journal=False
        )
        saver = None
        if download_to is not None:
            saver = Saver(
                download_to,
                name,
                self.download,
                self._ledger,
                concurrency=download_concurrency,
                overwrite=overwrite,
            )
        return Batch(
            partial(
                Engine,
                requests,
                buy,
                Limits(concurrency=concurrency, max_in_doubt=max_in_doubt, max_jobs=max_jobs),
                ordered=ordered,
                saver=saver,
                paid=None if self._ledger is None else self._ledger.paid,
                notify=on_progress,
            )
        )

    def track(self, task_id: str, *, deadline: float | EllipsisType | None = ...) -> RemixFuture:
        """Follow a task that already exists, without I/O of its own.

        The same id gives the same future while it is followed.

        Args:
            task_id: The task, of any process or key of the same account.
            deadline: See `submit`; counted from now.

        Raises:
            ConfigurationError: The id is malformed, or ``max_tasks`` are followed already.
            SessionClosedError: The session is closed, or its poller has stopped.
        """
        check_task_id(task_id)
        self._bind()
        if task_id not in self.pending:
            self._poller.check()
        return self._poller.follow(task_id, deadline=self._buyer.deadline(deadline))

    async def retrieve(self, task_id: str) -> Video:
        """Ask for a task once and return the snapshot, whatever its status.

        Raises:
            ConfigurationError: The id is malformed.
            TaskNotFoundError: The gateway does not know it.
            APIConnectionError: No answer, in none of the attempts.
            APIError: The gateway refused.
        """
        check_task_id(task_id)
        self._bind()
        return await self._queries.retrieve(task_id)

    async def download(
        self, video: str | Video | RemixFuture, path: str | os.PathLike[str]
    ) -> Path:
        """Fetch a finished video to a file, which is whole or not there.

        It is written to a ``.part`` file beside the target, verified, and renamed; a file of that
        name is replaced.

        Args:
            video: The id of a task, a `Video`, or a `RemixFuture`, which is awaited first.
            path: The file to write, in a folder that exists.

        Returns:
            The path.

        Raises:
            ConfigurationError: The path can't be written to.
            DownloadError: There is no video, or it could not be fetched whole.
            OctoremixError: As awaiting the future or `retrieve` raises.
        """
        target = check_target(path)
        self._bind()
        if isinstance(video, RemixFuture):
            video = await video
        elif not isinstance(video, Video):
            video = await self.retrieve(video)
        elif video.status is not TaskStatus.COMPLETED:
            video = await self.retrieve(video.id)
        attempts = retrying(self._retry, may_be_repeated)
        saved: Path = await attempts(self._downloader.download, video, target)
        if self._ledger is not None:
            self._ledger.downloaded(video.id, saved)
        return saved

    async def resume(self) -> list[RemixFuture]:
        """Follow every unfinished task of the journal whose process is gone.

        What such a process had sent without hearing an answer is in doubt from then on; see
        `in_doubt`. Jobs of another base URL are left alone and named in a warning: a key is never
        sent to an address that was read from a file. Jobs of a process that lives are its own.

        Returns:
            The futures of the tasks that this session follows for the journal.

        Raises:
            ConfigurationError: The session has no journal.
            JournalError: The journal can't be used.
        """
        return await self._buyer.recovery().resume()

    async def in_doubt(self, *, evidence: bool = False) -> list[InDoubt]:
        """Return the jobs of the journal that may exist and may have been charged.

        Args:
            evidence: Look once at the key's own log (at most once a minute, since the gateway
                allows few looks), and mark each job as ``"charged"``, ``"not seen"`` or
                ``"unavailable"``. It changes nothing: a log may lag.

        Raises:
            ConfigurationError: The session has no journal.
            JournalError: The journal can't be used.
        """
        return await self._buyer.recovery().in_doubt(evidence=evidence)

    async def adopt(self, doubt: InDoubt, task_id: str) -> RemixFuture:
        """Settle a doubt: this is its task, as the console of the gateway shows it.

        Raises:
            ConfigurationError: The id is malformed, or the session has no journal.
            JournalError: The doubt is settled already, or the task is that of another job.
        """
        return await self._buyer.recovery().adopt(doubt, task_id)

    async def resubmit(self, doubt: InDoubt) -> RemixFuture:
        """Settle a doubt: buy the job once more, **which pays twice if it was bought**.

        Raises:
            JournalError: The doubt is settled already, or the journal stores no prompts.
            OctoremixError: As `submit` raises.
        """
        request = await self._buyer.recovery().request_of(doubt)
        bought = await self._buyer.buy(
            request, again=frozenset({State.IN_DOUBT}), attempt=doubt.attempt
        )
        return bought.future

    async def abandon(self, doubt: InDoubt) -> None:
        """Settle a doubt: the job is given up, whatever became of it.

        Its key buys nothing any more, unless it is submitted with ``retry_failed=True``.

        Raises:
            JournalError: The doubt is settled already.
        """
        await self._buyer.recovery().abandon(doubt)

    async def history(
        self, *, states: Collection[str] | None = None, limit: int | None = None
    ) -> list[JournalEntry]:
        """Return the jobs of this session's base URL in the journal, the newest first.

        Args:
            states: Only jobs that stand so, for example ``["failed", "expired"]``.
            limit: The most jobs, or ``None`` for all.

        Raises:
            ConfigurationError: The session has no journal, or there is no such state.
            JournalError: The journal can't be read.
        """
        self._buyer.recovery()
        assert self._ledger is not None
        assert self._journal is not None
        await self._ledger.open()
        await self._ledger.flush()
        return await self._journal.history(states=states, base_url=self.base_url, limit=limit)

    async def usage(self) -> KeyUsage:
        """Ask what the key was given and has used; sent once, since the gateway allows few.

        Raises:
            APIConnectionError: No answer.
            APIError: The gateway refused, or has no such answer.
        """
        self._bind()
        return await self._queries.usage()

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
                await self._ledger.aclose()
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


def _request(
    video: str | Video | RemixFuture,
    *,
    prompt: str,
    model: str,
    extra: Mapping[str, Any] | None,
    key: str | None,
) -> RemixRequest:
    video_id = video.id if isinstance(video, (Video, RemixFuture)) else video
    return RemixRequest(video_id=video_id, prompt=prompt, model=model, extra=extra or {}, key=key)


async def _waited(future: RemixFuture, timeout: float | None = None) -> Video:
    """Return the video, or tell the id of a task whose caller leaves before its end."""
    try:
        return await future.wait(timeout)
    except (asyncio.CancelledError, TimeoutError) as error:
        if not future.done():
            note = f"task {printable(future.id)} goes on and stays followed by its session"
            error.add_note(note)
            log.warning("a wait ended early: %s", note)
        raise


def _future(video: str | Video | RemixFuture) -> RemixFuture | None:
    return video if isinstance(video, RemixFuture) else None
