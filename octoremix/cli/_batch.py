"""``octoremix batch``: thousands of remixes from a file, into a folder."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer
from attrs import fields

from .. import (
    ConfigurationError,
    KeyUsage,
    OctoremixError,
    RemixRequest,
    Session,
)
from ..errors import printable
from ._batch_order import Order, folder_of
from ._batch_plan import Plan, described
from ._batch_run import BatchRun
from ._command import connected
from ._exit import Code
from ._input import InputError, Line, read_input
from ._options import PollEvery, Timeout, poll_policy
from ._output import OutputClosedError
from ._question import can_ask, confirmed
from ._report import page_writer
from ._results import check_unused
from ._run import Run, execute
from ._text import jobs_of

__all__ = ["batch"]

_DEFAULT_MODEL = str(fields(RemixRequest).model.default)
_PATIENCE = 10.0
"""Seconds that the answer about the key's quota may take."""


@connected()
def batch(
    run: Run,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="JSONL or CSV with the columns video and prompt, perhaps model and key; any other "
            "goes into the request. - for stdin.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="The folder of the batch. Default: one named after INPUT.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="csv|jsonl", help="What INPUT is. Default: as it looks.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="The remix model of the lines that name none.")
    ] = _DEFAULT_MODEL,
    name: Annotated[
        str,
        typer.Option(
            metavar="TEMPLATE",
            help="What the videos are called, of {key}, {id}, {index}, {video}, {model}, {prompt}.",
        ),
    ] = "{key}-{id}.mp4",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done. It needs no key.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Buy without asking.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Buy again what ended badly.")
    ] = False,
    max_jobs: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Pay for at most so many, earlier runs and doubts included."
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, metavar="N", help="The most jobs at once.")
    ] = 100,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="N", help="The most requests a second to the gateway."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Make a page of the folder at the end.")
    ] = False,
    timeout: Timeout = 3600.0,
    poll_every: PollEvery = None,
) -> None:
    """Buy all remixes of a list, and save their videos in a folder.

    The same command again goes on where it stopped: nothing is bought twice.
    Ctrl-C once finishes what runs and buys nothing more; twice detaches, and the jobs go on.
    """
    read = _read(run, source, out, format, model)
    if read is None:
        raise typer.Exit(run.exit_code)
    folder, lines = read
    order = Order(
        lines=lines,
        folder=folder,
        name=name,
        retry_failed=retry_failed,
        max_jobs=max_jobs,
        concurrency=concurrency,
        rate=rate,
    )

    async def work(run: Run) -> None:
        if dry_run:
            await _dry_run(run, order)
            return
        write_page = page_writer() if report else None  # what is missing is told before it is paid
        session = run.connection.session(
            run.output,
            poll_policy(timeout, poll_every),
            run.notice,
            journal=order.journal,
            rate_limit=rate,
        )
        try:
            done = await _batch(run, session, order, yes=yes)
            if done and write_page is not None:
                page, _ = await asyncio.to_thread(write_page, order.folder, None)
                run.output.note(f"the page of it: {printable(page)}")
            if done and not run.output.json:
                run.output.write(printable(order.folder, 4096))
        finally:
            await session.aclose()

    raise typer.Exit(execute(run, work))


def _read(
    run: Run, source: str, out: Path | None, format: str | None, model: str
) -> tuple[Path, list[Line]] | None:
    """Return the folder and read the input, or tell what is wrong with it.

    It is done before anything else, so that Ctrl-C ends it also while it waits for stdin.
    """
    try:
        folder = folder_of(source, out)
        return folder, read_input(source, format=_format(format), model=model)
    except ConfigurationError as error:
        with contextlib.suppress(OutputClosedError):
            _complain(run, error)
    except KeyboardInterrupt:
        run.stopped(Code.INTERRUPTED, "interrupted")
    return None


def _format(given: str | None) -> Literal["csv", "jsonl"] | None:
    if given == "csv":
        return "csv"
    if given == "jsonl":
        return "jsonl"
    if given is not None:
        raise ConfigurationError(f"--format must be csv or jsonl, not {printable(given)}")
    return None


def _complain(run: Run, error: ConfigurationError) -> None:
    """Tell what is wrong with an input, a line for each of its lines."""
    if not isinstance(error, InputError) or not error.problems:
        run.failed(error)
        return
    headline = str(error).partition(": line ")[0]
    run.output.complain(headline)
    for problem in error.problems:
        run.output.note(f"  {printable(problem, 2000)}")
    if error.more:
        run.output.note(f"  and {error.more:,} more")
    run.code(Code.USAGE)
    run.output.event("error", error=error, problems=list(error.problems), more=error.more)


async def _dry_run(run: Run, order: Order) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an address to which nothing is sent
        # No key: only the address is wanted of it.
        session = Session("none", base_url=run.connection.base_url)
    order.batch(session, print)
    _show(run, await order.plan(session.base_url), order)


def _show(run: Run, planned: Plan, order: Order) -> int:
    """Tell what would be done, and return how many jobs would be paid for."""
    output = run.output
    jobs = planned.to_pay(order.max_jobs)
    at_work = jobs + planned.under_way
    seconds = planned.duration(at_work, order.concurrency, order.rate)
    output.event(
        "plan",
        lines=planned.lines,
        to_pay=jobs,
        done=planned.done,
        under_way=planned.under_way,
        in_doubt=planned.in_doubt + planned.interrupted + planned.sending,
        failed=planned.bad,
        retried=planned.again,
        new=planned.fresh,
        gone=planned.gone,
        seconds=round(seconds),
        folder=str(order.folder),
    )
    for text in described(planned, printable(order.folder), jobs, seconds):
        output.note(text)
    return jobs


async def _batch(run: Run, session: Session, order: Order, *, yes: bool) -> bool:
    """Run the batch, if its user agrees; return whether it ran."""
    batch_run = BatchRun(
        run=run, session=session, lines=order.lines, folder=order.folder, journal=order.journal
    )
    batch = order.batch(session, batch_run.progressed)
    check_unused(order.folder)
    if order.journal.exists():
        await session.in_doubt()  # what a process that was killed left is told as what it is
    planned = await order.plan(session.base_url)
    jobs = _show(run, planned, order)
    if planned.blocked:
        batch.stop("too much is in doubt")
    if jobs and not yes and not can_ask():
        raise ConfigurationError(
            f"{jobs_of(jobs)} would be paid for, and nobody can be asked: --yes buys without "
            "asking; nothing was sent"
        )
    before = await _usage(session) if jobs else None
    if before is not None and not before.unlimited:
        run.output.note(f"the key has {before.available:,.0f} units of quota left")
    if jobs and not yes and not await _agreed(run, f"Buy {jobs_of(jobs)}?"):
        run.output.note("nothing was bought")
        run.code(Code.USAGE)
        return False
    async with session:
        await batch_run.go(batch)
        if before is not None and (after := await _usage(session)) is not None:
            batch_run.used(after.used - before.used)
        batch_run.summarise()
    return True


async def _usage(session: Session) -> KeyUsage | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await session.usage()
    except (OctoremixError, TimeoutError):  # not every gateway tells, and nothing depends on it
        return None


async def _agreed(run: Run, question: str) -> bool:
    asking = asyncio.ensure_future(confirmed(run.output, question))

    def leave() -> None:
        run.code(Code.INTERRUPTED)
        asking.cancel()

    run.finish = leave
    try:
        await asyncio.wait([asking])
    finally:
        run.finish = None
        asking.cancel()
    return not asking.cancelled() and asking.result()
