"""``octoremix resume``: follow what earlier commands left unfinished."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._command import connected
from ._doubt_words import tell_doubts
from ._exit import Code
from ._options import PollEvery, Timeout, poll_policy
from ._run import Run, execute
from ._target import make_folder
from ._watch import Watch

__all__ = ["resume"]


@connected(journal=True)
def resume(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Save the videos in this folder, as ID.mp4."
        ),
    ] = None,
    timeout: Timeout = 3600.0,
    poll_every: PollEvery = None,
) -> None:
    """Follow the jobs of the journal that nobody follows any more.

    On stdout, as each one ends: its id, status and link, or file with --out, separated by tabs.
    What is in doubt is told, and makes the exit code 4.
    """

    async def work(run: Run) -> None:
        policy = poll_policy(timeout, poll_every, first_delay=0.0)
        kept = run.connection.records.existing()
        if kept is None:
            run.output.note("nothing is unfinished: there is no journal yet")
            return
        if out is not None:
            make_folder(out)
        async with run.session(policy, kept) as session:
            futures = await session.resume()
            doubts = await session.in_doubt()
            if doubts:
                run.code(Code.IN_DOUBT)
                tell_doubts(run.output, run.connection, doubts)
            others = len(await session.history(states=["intent", "submitted"])) - len(futures)
            if others:
                jobs = "1 job is" if others == 1 else f"{others} jobs are"
                run.output.note(f"{jobs} in the hands of a command that still runs", "dim")
            elif not futures:
                run.output.note("nothing is unfinished" if not doubts else "nothing else is open")
            await Watch(run, session, out).follow(futures)

    raise typer.Exit(execute(run, work))
