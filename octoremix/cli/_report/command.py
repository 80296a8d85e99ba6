"""The command ``octoremix report``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ... import ConfigurationError, OctoremixError
from ...errors import printable
from .._command import connected
from .._output import Output
from .._run import Run, execute
from .figures import GROUPS, summary_of
from .files import check_page
from .jobs import ReportBatch, read_jobs
from .sources import fetch_sources, missing_sources
from .words import plural
from .writing import write_report

__all__ = ["report"]


@connected()
def report(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a batch.")],
    sources: Annotated[
        bool,
        typer.Option(
            "--sources", help="Fetch the source videos that are not there yet; needs a key."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The page, in that folder. Default: report.html."
        ),
    ] = None,
) -> None:
    """Make a page that shows a batch: each source beside its remix.

    The page lies beside the videos and needs nothing else: no network, no key.
    An earlier one is replaced. On stdout: its path.
    """

    async def work(run: Run) -> None:
        batch = await asyncio.to_thread(read_jobs, folder)
        check_page(folder, out)
        if sources:
            await _fetch(run, folder, batch)
        page, batch = await asyncio.to_thread(write_report, folder, out)
        _tell(run.output, page, batch)

    raise typer.Exit(execute(run, work))


async def _fetch(run: Run, folder: Path, batch: ReportBatch) -> None:
    missing = missing_sources(batch.jobs)
    if not missing:
        return
    try:
        await fetch_sources(run, folder, missing)
    except ConfigurationError:
        raise
    except OctoremixError as error:
        run.failed(error)  # there is a page nevertheless


def _tell(output: Output, page: Path, batch: ReportBatch) -> None:
    counts = summary_of(batch.jobs).counts
    parts = [f"{count:,} {GROUPS[group].lower()}" for group, count in counts.items() if count]
    output.note(": ".join([plural(len(batch.jobs), "job"), *([", ".join(parts)] * bool(parts))]))
    if batch.unreadable:
        output.warn(f"{plural(batch.unreadable, 'line')} of results.jsonl could not be understood")
    output.event("done", file=str(page), jobs=len(batch.jobs), counts=counts)
    if not output.json:
        output.write(printable(page, 4096))
