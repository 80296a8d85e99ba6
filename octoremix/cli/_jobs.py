"""``octoremix jobs``: what the journal holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from .. import ConfigurationError, JournalEntry, SQLiteJournal
from ..errors import printable
from ._display import STYLES
from ._journal import JournalFile, Records
from ._options import JSON, Connection, Verbose
from ._output import Output
from ._run import Run, execute
from ._text import seconds_in

__all__ = ["jobs"]

_MOST = 20

_HEAD = ("when", "status", "id", "key", "video", "prompt")
_LEAST = (11, 10, 12, 8, 8, 12)
"""Columns that each of them keeps where there is little room."""

_GIVING = (5, 3, 4, 2)
"""Which of them make room for the others, in this order."""

_GAP = 2


def jobs(
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            help="Only jobs that stand so; may be repeated; a wrong one lists them all.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help=f"The most jobs. Default: {_MOST}, with --json all."),
    ] = None,
    prune: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Erase the jobs that were settled so long ago, as in 30d, 12h or 90m.",
        ),
    ] = None,
    journal: JournalFile = None,
    json: JSON = False,
    verbose: Verbose = False,
) -> None:
    """List what was bought, the newest first; no key is needed.

    On a terminal a table; elsewhere a line for each job, uncut and separated by tabs.
    """
    connection = Connection(records=Records(journal))

    async def work(run: Run) -> None:
        age = None if prune is None else _age(prune, status, limit)
        kept = connection.records.existing()
        if kept is None:
            run.output.note("there is no journal yet: nothing was bought with one")
        elif age is not None:
            await _prune(run, kept, age)
        else:
            await _list(run, kept, status or None, limit)

    raise typer.Exit(execute(Run(Output(json=json, verbose=verbose), connection), work))


def _age(prune: str, status: list[str] | None, limit: int | None) -> float:
    if status or limit is not None:
        raise ConfigurationError(
            "--prune takes every settled job of that age: leave out --status and --limit"
        )
    age = seconds_in(prune)
    if age is None:
        raise ConfigurationError(
            f"--prune {printable(prune)!r} is no age: write it as in 30d, 12h or 90m"
        )
    return age


async def _prune(run: Run, journal: SQLiteJournal, age: float) -> None:
    erased = await journal.prune(older_than=age)
    run.output.note(f"{erased} settled {'job' if erased == 1 else 'jobs'} erased")
    run.output.event("pruned", erased=erased)


async def _list(
    run: Run, journal: SQLiteJournal, status: list[str] | None, limit: int | None
) -> None:
    output = run.output
    if limit is None and not output.json:
        limit = _MOST
    # One more than is shown tells whether there are more.
    asked = None if limit is None else limit + 1
    found = await journal.history(states=status, limit=asked)
    shown = found[:limit]
    if output.json:
        for entry in shown:
            _write_object(output, entry)
    elif shown and sys.stdout.isatty():
        _show_table(run, shown)
    else:
        for entry in shown:
            output.write("\t".join(_cells(entry, _moment(entry))))
    if not shown:
        output.note("there is no such job" if status else "the journal is empty")
    if len(found) > len(shown):
        output.note("there are more: --limit shows them", "dim")
    gateways = {entry.base_url for entry in shown}
    if len(gateways) > 1 and not output.json:
        names = ", ".join(printable(name) for name in sorted(gateways))
        output.note(f"these are jobs of {names}; --json tells which is whose", "dim")


def _show_table(run: Run, entries: Sequence[JournalEntry]) -> None:
    now = datetime.now().astimezone()
    cut = False

    def draw(width: int) -> Text:
        nonlocal cut
        drawn = table(entries, now, width)
        cut = "…" in drawn.plain
        return drawn

    run.output.show(draw)
    if cut:
        run.output.note(f"whole: {run.connection.command('jobs')} | cat", "dim")


def _moment(entry: JournalEntry) -> str:
    return entry.created_at.astimezone().isoformat(" ", "seconds")


def _cells(entry: JournalEntry, when: str) -> list[str]:
    prompt = None if entry.request is None else entry.request.prompt
    texts = (entry.id, entry.key, entry.video_id, prompt)
    return [when, entry.status, *("-" if text is None else printable(text, 4096) for text in texts)]


def table(entries: Sequence[JournalEntry], now: datetime, width: int) -> Text:
    """Return jobs as a table of so many columns.

    Args:
        entries: The jobs.
        now: The time, in the zone of whoever reads it.
        width: The columns.
    """
    rows = [_cells(entry, _short(entry, now)) for entry in entries]
    widths = _widths([list(_HEAD), *rows], width)
    drawn = Text(no_wrap=True, overflow="ellipsis")
    drawn.append(_line(_HEAD, widths), style="bold")
    for entry, row in zip(entries, rows, strict=True):
        drawn.append("\n")
        drawn.append(_line(row, widths), style=STYLES.get(entry.status, ""))
    return drawn


def _short(entry: JournalEntry, now: datetime) -> str:
    when = entry.created_at.astimezone(now.tzinfo)
    return f"{when:%m-%d %H:%M}" if when.year == now.year else f"{when:%Y-%m-%d}"


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    wanted = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    over = sum(wanted) + _GAP * (len(wanted) - 1) - width
    for place in _GIVING:
        given = max(0, min(over, wanted[place] - _LEAST[place]))
        wanted[place] -= given
        over -= given
    return wanted


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [
        set_cell_size(cell, width)
        if cell_len(cell) <= width
        else f"{set_cell_size(cell, width - 1)}…"
        for cell, width in zip(cells, widths, strict=True)
    ]
    return (" " * _GAP).join(fitted).rstrip()


def _write_object(output: Output, entry: JournalEntry) -> None:
    output.event(
        "job",
        id=entry.id,
        video=entry.video,
        file=entry.path,
        status=entry.status,
        key=entry.key,
        video_id=entry.video_id,
        model=entry.model,
        prompt=None if entry.request is None else entry.request.prompt,
        base_url=entry.base_url,
        attempt=entry.attempt,
        purchases=entry.purchases,
        request_id=entry.request_id,
        reason=entry.reason,
        created_at=_iso(entry.created_at),
        submitted_at=_iso(entry.submitted_at),
        settled_at=_iso(entry.settled_at),
        downloaded_at=_iso(entry.downloaded_at),
    )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
