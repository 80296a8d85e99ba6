"""One job at a time: bought, followed, asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from .._buying import seconds_left
from ..errors import printable
from ..futures import RemixFuture
from ..models import DEFAULT_MODEL, KeyUsage, RemixRequest, Video, check_task_id
from ..policies import check_seconds
from .core import SessionCore

__all__ = ["Jobs", "future_of", "waited"]

log = logging.getLogger("octoremix")


class Jobs(SessionCore):
    """What a session does with one job."""

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
            request, deadline=deadline, source=future_of(video), retry_failed=retry_failed
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
            request, deadline=deadline, source=future_of(video), end=end, retry_failed=retry_failed
        )
        return await waited(bought.future, seconds_left(loop, end))

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

    async def usage(self) -> KeyUsage:
        """Ask what the key was given and has used; sent once, since the gateway allows few.

        Raises:
            APIConnectionError: No answer.
            APIError: The gateway refused, or has no such answer.
        """
        self._bind()
        return await self._queries.usage()


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


async def waited(future: RemixFuture, timeout: float | None = None) -> Video:
    """Return the video, or tell the id of a task whose caller leaves before its end."""
    try:
        return await future.wait(timeout)
    except (asyncio.CancelledError, TimeoutError) as error:
        if not future.done():
            note = f"task {printable(future.id)} goes on and stays followed by its session"
            error.add_note(note)
            log.warning("a wait ended early: %s", note)
        raise


def future_of(video: str | Video | RemixFuture) -> RemixFuture | None:
    """Return the source that is still in work, if it is one."""
    return video if isinstance(video, RemixFuture) else None
