"""``octoremix doubts adopt``, ``resubmit`` and ``abandon``: one doubt settled."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from .. import (
    ConfigurationError,
    InDoubt,
    JournalError,
    PollPolicy,
    RemixError,
    Session,
    SQLiteJournal,
    Video,
    WaitError,
)
from ..errors import printable, quoted
from ._command import connected
from ._doubt_words import described
from ._exit import Code
from ._run import Run, execute

__all__ = ["POLLS", "abandon", "adopt", "resubmit"]

POLLS = PollPolicy(first_delay=0.0)

_LONGEST_LOOK = 30.0
"""Seconds to wait for the end of a task that is over, so that it is recorded."""

Key = Annotated[str, typer.Argument(metavar="KEY", help="The job, as `octoremix doubts` names it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]


@connected(journal=True)
def adopt(
    run: Run,
    key: Key,
    task_id: Annotated[
        str, typer.Argument(metavar="TASK_ID", help="Its task, as the OctopusX console shows it.")
    ],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Also if it is said to remix another video.")
    ] = False,
) -> None:
    """Settle a doubt: the job was bought, and this is its task.

    On stdout: its id. The task is asked for first: one that does not exist changes nothing.
    """

    async def work(run: Run) -> None:
        async with _doubt(run, key) as (session, doubt):
            video = await session.retrieve(task_id)
            if not yes:
                _check_source(video, doubt)
            try:
                future = await session.adopt(doubt, task_id)
            except JournalError as error:
                raise ConfigurationError(str(error)) from None
            if video.status.terminal:
                with contextlib.suppress(RemixError, WaitError):
                    await future.wait(_LONGEST_LOOK)
            run.output.event("adopted", id=task_id, video=video, key=doubt.key)
            run.let_go(future)

    raise typer.Exit(execute(run, work))


@connected(journal=True)
def resubmit(run: Run, key: Key, yes: Yes = False) -> None:
    """Settle a doubt: buy the job once more, which pays twice if it was bought.

    It asks before it buys. On stdout: the id.
    """
    found: list[InDoubt] = []

    async def look(run: Run) -> None:
        if not (yes or sys.stdin.isatty()):
            raise ConfigurationError(
                "this buys the job once more, and pays twice if it was bought: without a terminal "
                "to ask at, say --yes"
            )
        async with _doubt(run, key) as (_, doubt):
            found.append(doubt)

    async def buy(run: Run) -> None:
        async with run.session(POLLS, run.connection.records.existing()) as session:
            run.let_go(await run.buy(session, session.resubmit(found[0])))

    # Asked between two event loops: a signal could not end a question within one.
    if execute(run, look) == Code.DONE and (yes or _agreed(run, found[0])):
        execute(run, buy)
    raise typer.Exit(int(run.exit_code))


@connected(journal=True)
def abandon(run: Run, key: Key) -> None:
    """Settle a doubt: give the job up, whatever became of it.

    Its key buys nothing any more, but with `octoremix remix --key KEY --retry-failed`.
    """

    async def work(run: Run) -> None:
        async with _doubt(run, key) as (session, doubt):
            await session.abandon(doubt)
            run.output.note(f"given up: {printable(doubt.key, 600)}")
            run.output.event("abandoned", key=doubt.key)

    raise typer.Exit(execute(run, work))


@contextlib.asynccontextmanager
async def _doubt(run: Run, key: str) -> AsyncIterator[tuple[Session, InDoubt]]:
    """Open a session, and find the doubt about a job.

    Raises:
        ConfigurationError: The job is not in doubt.
    """
    journal: SQLiteJournal | None = run.connection.records.existing()
    advice = f"{run.connection.command('doubts')} lists what is"
    missing = ConfigurationError(f"the job {quoted(key)} is not in doubt: {advice}")
    if journal is None:
        raise missing
    async with run.session(POLLS, journal) as session:
        for doubt in await session.in_doubt():
            if doubt.key == key:
                break
        else:
            raise missing
        yield session, doubt


def _check_source(video: Video, doubt: InDoubt) -> None:
    source = video.remixed_from_video_id
    if source not in {None, "", doubt.video_id}:
        raise ConfigurationError(
            f"task {quoted(video.id)} is said to remix video {quoted(source)}, not "
            f"{quoted(doubt.video_id)}: nothing was changed; --yes takes it all the same"
        )


def _agreed(run: Run, doubt: InDoubt) -> bool:
    """Ask whether a job is to be bought once more; take a no into account."""
    for line in described(doubt):
        run.output.note(line)
    sys.stderr.write("Buy it once more, and pay twice if it was bought? [y/N] ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        run.stopped(Code.INTERRUPTED, "interrupted")
        return False
    if answer.strip().lower() in {"y", "yes"}:
        return True
    run.output.note("nothing was bought: it is in doubt as before")
    run.code(Code.IN_DOUBT)
    return False
