"""``octoremix download``: fetch the video of a task that is done."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from .. import (
    JournalError,
    OctoremixError,
    PollPolicy,
    RemixError,
    Session,
    TaskStatus,
    Video,
    WaitError,
)
from ..errors import printable
from ._command import connected
from ._exit import Code
from ._options import Force
from ._run import Run, execute
from ._target import check_target, save, tell_saved
from ._text import file_name

__all__ = ["download"]

_LONGEST_LOOK = 30.0
"""Seconds to wait for what a task's own answer has told already."""


@connected(journal=True, no_journal=True)
def download(
    run: Run,
    id: Annotated[str, typer.Argument(metavar="ID", help="The task whose video is wanted.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The file. Default: ID.mp4, made safe."),
    ] = None,
    force: Force = False,
) -> None:
    """Fetch the video of a task that is done.

    The file is whole or not there. On stdout: its path.
    """
    target = Path(file_name(id)) if out is None else out

    async def work(run: Run) -> None:
        check_target(target, force=force)
        kept = run.connection.records.existing()
        policy = PollPolicy(first_delay=0.0)
        async with run.session(
            policy, kept, needed=run.connection.records.file is not None
        ) as session:
            await _download(run, session, id, target, force=force)

    raise typer.Exit(execute(run, work))


async def _download(run: Run, session: Session, id: str, target: Path, *, force: bool) -> None:
    try:
        video = await session.retrieve(id)
        if not video.status.terminal:
            _unfinished(run, video)
            return
        if run.journalled:
            await _keep_end(run, session, id)
        if video.status is not TaskStatus.COMPLETED:
            raise _no_video(video)
        await save(session, video, target, force=force)
    except (OctoremixError, OSError) as error:
        run.failed(error, id)
        return
    tell_saved(run.output, video, target)


async def _keep_end(run: Run, session: Session, id: str) -> None:
    """Record the end of a job that nobody followed so far, before its download is."""
    try:
        waiting = await session.history(states=["submitted"])
    except JournalError as error:
        run.output.warn(str(error))
        return
    if any(entry.id == id for entry in waiting):
        with contextlib.suppress(RemixError, WaitError):  # the caller has seen for itself
            await session.track(id).wait(_LONGEST_LOOK)


def _unfinished(run: Run, video: Video) -> None:
    run.code(Code.RUNNING)
    run.output.complain(
        f"task {printable(video.id)} is {video.status}: there is no video yet",
        f"to wait for it: {run.connection.command('watch', ids=[video.id])}",
    )
    run.output.event("detached", id=video.id, video=video)


def _no_video(video: Video) -> RemixError:
    why = f": {printable(video.error.message)}" if video.error and video.error.message else ""
    return RemixError(
        f"task {printable(video.id)} is {video.status}, there is no video{why}",
        id=video.id,
        video=video,
    )
