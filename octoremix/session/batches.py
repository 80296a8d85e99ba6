"""Many jobs: one after the other, or side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import EllipsisType
from typing import Any

from .._batch import (
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
from ..errors import ConfigurationError, OctoremixError
from ..futures import RemixFuture
from ..models import DEFAULT_MODEL, Video
from ..policies import check_count
from .jobs import future_of, waited
from .results import Results

__all__ = ["Batches"]


class Batches(Results):
    """What a session does with many jobs."""

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
        source = future_of(video)
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
                last, source = await waited(bought.future), None
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
                journal have bought, each as often as it was bought: those of a list or another
                collection before anything is bought, those of an iterator as they come. What is
                there is given back all the same.
            retry_failed: See `submit`.
            deadline: See `submit`; of each job.
            download_to: A folder, made if it is missing, that each video is downloaded to as soon
                as it is there. A failed download buys nothing anew.
            name: What the files are called: ``{key}``, ``{id}``, ``{index}``, ``{video}``,
                ``{model}`` and ``{prompt}`` stand for what belongs to the job.
            overwrite: Replace files of these names that the batch has not saved itself.
            download_concurrency: The most downloads at once. One that waits for its server, since
                the result lags behind its task, is not counted.
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
                partial(self._saved, replace=overwrite),
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
