"""``octoremix watch``: follow tasks that exist already."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from attrs import frozen

from .. import OctoremixError, RemixFuture, Session, Video
from ..errors import printable
from ._command import connected
from ._display import Display, displayed
from ._options import PollEvery, Timeout, poll_policy
from ._run import Run, all_of, execute
from ._target import save
from ._text import file_name

__all__ = ["Watch", "watch"]

FOOTER = "Ctrl-C ends the watch, not the jobs"


@connected(journal=True, no_journal=True)
def watch(
    run: Run,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="The tasks to follow.")],
    timeout: Timeout = 3600.0,
    poll_every: PollEvery = None,
) -> None:
    """Follow tasks until all of them are done.

    On stdout, as each one ends: its id, status and link, separated by tabs.
    """

    async def work(run: Run) -> None:
        policy = poll_policy(timeout, poll_every, first_delay=0.0)
        records = run.connection.records
        needed = records.file is not None
        async with run.session(policy, records.existing(), needed=needed) as session:
            # A malformed id is found before any is asked for.
            futures = [session.track(task_id) for task_id in dict.fromkeys(ids)]
            await Watch(run, session).follow(futures)

    raise typer.Exit(execute(run, work))


@frozen
class Watch:
    """Follows tasks and tells how each of them ends.

    Attributes:
        run: The command's.
        session: The one that follows them.
        folder: Where their videos are saved, or ``None``.
    """

    run: Run
    session: Session
    folder: Path | None = None

    async def follow(self, futures: Iterable[RemixFuture]) -> None:
        """Follow tasks until all of them are done."""
        followed = list(futures)
        if not followed:
            return
        with displayed(self.run.output, FOOTER) as display:
            for future in followed:
                self.run.goes_on(future.id)
                prompt = "" if future.request is None else future.request.prompt
                display.add(future.id, prompt, id=future.id)
            await all_of(self._follow(display, future) for future in followed)

    async def _follow(self, display: Display, future: RemixFuture) -> None:
        run = self.run
        file: Path | None = None
        try:
            video = await run.follow(future, lambda video: display.change(future.id, video))
            if self.folder is not None:
                file = self.folder / file_name(video.id)
                await save(self.session, video, file, force=False)
        except (OctoremixError, OSError) as error:
            file = None
            display.end(future.id, None if future.status.terminal else "error")
            run.failed(error, future.id)
        else:
            display.end(future.id)
            run.output.event("done", id=future.id, video=video, file=_text(file))
        self._show(future.id, future.video, file)

    def _show(self, id: str, video: Video | None, file: Path | None) -> None:
        if self.run.output.json:
            return
        link = (video.url if video is not None else None) or "-"
        if link.startswith("data:"):
            link = "data:…"
        if file is not None:
            link = str(file)
        status = "unknown" if video is None else str(video.status)
        self.run.output.write("\t".join([printable(id), status, printable(link, len(link) + 1)]))


def _text(file: Path | None) -> str | None:
    return None if file is None else str(file)
