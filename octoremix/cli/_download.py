"""``octoremix download``: fetch the video of a task that is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import (
    OctoremixError,
    PollPolicy,
    RemixError,
    Session,
    TaskStatus,
    Video,
)
from ..errors import printable
from ._command import connected
from ._exit import Code
from ._options import Force
from ._run import Run, execute
from ._target import check_target, save, tell_saved
from ._text import file_name

__all__ = ["download"]


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
        records = run.connection.records
        needed = records.file is not None
        async with run.session(PollPolicy(), records.existing(), needed=needed) as session:
            await _download(run, session, id, target, force=force)

    raise typer.Exit(execute(run, work))


async def _download(run: Run, session: Session, id: str, target: Path, *, force: bool) -> None:
    try:
        video = await session.retrieve(id)
        if not video.status.terminal:
            _unfinished(run, video)
            return
        if video.status is not TaskStatus.COMPLETED:
            raise _no_video(video)
        await save(session, video, target, force=force)
    except (OctoremixError, OSError) as error:
        run.failed(error, id)
        return
    tell_saved(run.output, video, target)


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
