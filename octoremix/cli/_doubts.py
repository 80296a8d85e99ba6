"""``octoremix doubts``: jobs that may exist and may be billed, shown and settled."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from .. import Session, SQLiteJournal
from ..errors import printable
from ._command import connected
from ._doubt_words import described, tell_how_to_settle, write_object
from ._exit import Code
from ._run import Run, execute
from ._settle import POLLS, abandon, adopt, resubmit

__all__ = ["doubts"]

doubts = typer.Typer(invoke_without_command=True)


@doubts.callback()
@connected(journal=True)
def _list(
    run: Run,
    context: typer.Context,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence/--no-evidence",
            help="Look once at the key's own log for charges that belong to them.",
        ),
    ] = False,
) -> None:
    """List the jobs that may exist and may be billed, or settle one of them.

    Without a command: each of them, on stdout; exit code 4 if there are any.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return

    async def work(run: Run) -> None:
        kept = run.connection.records.existing()
        if kept is None:
            run.output.note("nothing is in doubt: there is no journal yet")
            return
        async with run.session(POLLS, kept) as session:
            await _show(run, session, evidence=evidence)
            await _tell_others(run, session, kept)

    raise typer.Exit(execute(run, work))


def _refuse_options(context: typer.Context) -> None:
    """Make sure that no option stands where it would be lost."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"options stand behind the command: octoremix doubts {context.invoked_subcommand} …"
            )


async def _show(run: Run, session: Session, *, evidence: bool) -> None:
    found = await session.in_doubt(evidence=evidence)
    if not found:
        run.output.note("nothing is in doubt")
        return
    run.code(Code.IN_DOUBT)
    for doubt in found:
        write_object(run.output, doubt)
        if not run.output.json:
            run.output.write("\n".join(described(doubt)))
    tell_how_to_settle(run.output, run.connection, *(doubt.key for doubt in found))


async def _tell_others(run: Run, session: Session, journal: SQLiteJournal) -> None:
    """Say what is in doubt at other gateways, which this session has no business with."""
    others = Counter(entry.base_url for entry in await journal.history(states=["in_doubt"]))
    del others[session.base_url]
    for name, count in others.items():
        run.output.note(f"{count} more at {printable(name)}: --base-url shows them", "dim")


for _command in (adopt, resubmit, abandon):
    doubts.command()(_command)
