"""``octoremix batch``: thousands of remixes from a file, into a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from attrs import fields, frozen
from rich.prompt import Confirm

from .. import ConfigurationError, KeyUsage, OctoremixError, RemixRequest, Session, SQLiteJournal
from ..errors import printable
from ._batch_plan import Plan, plan
from ._batch_run import BatchRun
from ._exit import Code
from ._input import InputError, Line, read_input
from ._options import (
    JSON,
    APIKeyFile,
    APIKeyOption,
    BaseURL,
    CAFile,
    Connection,
    PollEvery,
    Proxy,
    Timeout,
    Verbose,
    poll_policy,
)
from ._output import Output
from ._run import Run, execute
from ._text import human_duration

__all__ = ["batch"]

_DEFAULT_MODEL = str(fields(RemixRequest).model.default)
JOURNAL = "journal.db"


def batch(
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
    timeout: Timeout = 3600.0,
    poll_every: PollEvery = None,
    json: JSON = False,
    verbose: Verbose = False,
    base_url: BaseURL = None,
    proxy: Proxy = None,
    ca_file: CAFile = None,
    api_key_file: APIKeyFile = None,
    _api_key: APIKeyOption = None,
) -> None:
    """Buy all remixes of a list, and save their videos in a folder.

    The same command again goes on where it stopped: nothing is bought twice.
    Ctrl-C once finishes what runs and buys nothing more; twice detaches, and the jobs go on.
    """
    connection = Connection(
        base_url=base_url, proxy=proxy, ca_file=ca_file, api_key_file=api_key_file
    )

    async def work(run: Run) -> None:
        try:
            lines = read_input(source, format=_format(format), model=model)
        except InputError as error:
            _complain(run, error)
            return
        order = _Order(
            lines=lines,
            folder=_folder(source, out),
            name=name,
            retry_failed=retry_failed,
            max_jobs=max_jobs,
            concurrency=concurrency,
            rate=rate,
        )
        if dry_run:
            await _dry_run(run, order)
            return
        async with run.session(
            poll_policy(timeout, poll_every), journal=order.journal, rate_limit=rate
        ) as session:
            await _batch(run, session, order, yes=yes)

    raise typer.Exit(execute(Run(Output(json=json, verbose=verbose), connection), work))


@frozen(kw_only=True)
class _Order:
    """What is wanted."""

    lines: list[Line]
    folder: Path
    name: str
    retry_failed: bool
    max_jobs: int | None
    concurrency: int
    rate: float | None

    @property
    def journal(self) -> Path:
        return self.folder / JOURNAL

    async def plan(self, base_url: str) -> Plan:
        """Compare the input with what the folder has."""
        known = []
        if self.journal.exists():
            known = await SQLiteJournal(self.journal).history(base_url=base_url)
        return plan(self.lines, known, retry_failed=self.retry_failed)


def _format(given: str | None) -> Literal["csv", "jsonl"] | None:
    if given == "csv":
        return "csv"
    if given == "jsonl":
        return "jsonl"
    if given is not None:
        raise ConfigurationError(f"--format must be csv or jsonl, not {printable(given)}")
    return None


def _complain(run: Run, error: InputError) -> None:
    """Tell what is wrong with an input, a line for each of its lines."""
    if not error.problems:
        raise error
    headline = str(error).partition(": line ")[0]
    run.output.complain(headline)
    for problem in error.problems:
        run.output.note(f"  {printable(problem, 2000)}")
    if error.more:
        run.output.note(f"  and {error.more:,} more")
    run.output.event("error", error=error, problems=list(error.problems), more=error.more)
    run.code(Code.USAGE)


def _folder(source: str, out: Path | None) -> Path:
    if out is not None:
        return out
    if source == "-":
        raise ConfigurationError("the input is stdin, which has no name: name a folder with --out")
    path = Path(source)
    folder = path.with_suffix("")
    return folder if folder != path else path.with_name(f"{path.name}-videos")


async def _dry_run(run: Run, order: _Order) -> None:
    # No key: only the address is wanted of it.
    session = Session("none", base_url=run.connection.base_url)
    planned = await order.plan(session.base_url)
    _show(run, planned, order)


def _show(run: Run, planned: Plan, order: _Order) -> None:
    output = run.output
    jobs = planned.to_pay(order.max_jobs)
    seconds = planned.duration(jobs + planned.under_way, order.concurrency, order.rate)
    output.event(
        "plan",
        lines=planned.lines,
        to_pay=jobs,
        done=planned.done,
        under_way=planned.under_way,
        in_doubt=planned.in_doubt,
        failed=planned.bad,
        retried=planned.again,
        gone=planned.gone,
        seconds=round(seconds),
        folder=str(order.folder),
    )
    for text in _told(planned, order, jobs, seconds):
        output.note(text)


def _told(planned: Plan, order: _Order, jobs: int, seconds: float) -> list[str]:
    """Return what a batch would do, in words."""
    told = [f"{_jobs(planned.lines)} in the input, for the folder {printable(order.folder)}"]
    rows = [
        (planned.done, "done already"),
        (planned.under_way, "under way already, and followed"),
        (planned.in_doubt, "in doubt: they may have been charged, and are not sent again"),
        (planned.bad, "ended badly: --retry-failed buys them again"),
        (planned.again, "ended badly, and are bought again"),
        (planned.fresh, "new"),
    ]
    told += [f"  {count:>7,}  {what}" for count, what in rows if count]
    if planned.gone:
        told.append(
            f"  {planned.gone:>7,}  of the folder are not in the input any more: lines that were "
            "removed, or edited, which makes them new jobs"
        )
    told.append(f"to be paid for: {_jobs(jobs)}")
    if seconds:
        per_job = human_duration(planned.seconds)
        why = f"if a job takes {per_job}" if planned.guessed else f"as a job takes {per_job} here"
        told.append(f"it takes about {human_duration(seconds)}, {why}")
    return told


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


async def _batch(run: Run, session: Session, order: _Order, *, yes: bool) -> None:
    planned = await order.plan(session.base_url)
    _show(run, planned, order)
    usage = await _usage(session)
    jobs = planned.to_pay(order.max_jobs)
    if jobs:
        if usage is not None and not usage.unlimited:
            run.output.note(f"the key has {usage.available:,.0f} units of quota left")
        await _ask(run, jobs, yes=yes)
    batch_run = BatchRun(
        run=run, session=session, lines=order.lines, folder=order.folder, journal=order.journal
    )
    await batch_run.go(
        concurrency=order.concurrency,
        max_jobs=order.max_jobs,
        retry_failed=order.retry_failed,
        name=order.name,
    )
    if usage is not None and (after := await _usage(session)) is not None:
        batch_run.used(after.used - usage.used)
    batch_run.summarise()


async def _usage(session: Session) -> KeyUsage | None:
    try:
        return await session.usage()
    except OctoremixError:  # not every gateway tells, and nothing depends on it
        return None


async def _ask(run: Run, jobs: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty() or not run.output.animated:
        raise ConfigurationError(
            f"{_jobs(jobs)} would be paid for, and nobody can be asked: --yes buys without asking; "
            "nothing was sent"
        )
    if not Confirm.ask(f"Buy {_jobs(jobs)}?", console=run.output.console, default=False):
        raise ConfigurationError("nothing was bought")
