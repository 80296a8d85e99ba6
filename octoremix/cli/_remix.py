"""``octoremix remix``: buy one remix, and wait for it."""

from __future__ import annotations

import json as json_module
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from attrs import fields, frozen

from .. import (
    ConfigurationError,
    OctoremixError,
    RemixError,
    RemixFuture,
    RemixRequest,
    Session,
    SubmitOutcomeUnknownError,
    Video,
)
from ..errors import printable
from ._command import connected
from ._display import displayed
from ._options import Force, PollEvery, Timeout, poll_policy
from ._run import Run, execute
from ._target import check_target, save, tell_saved

__all__ = ["remix"]

_DEFAULT_MODEL = str(fields(RemixRequest).model.default)


@connected(journal=True, no_journal=True)
def remix(
    run: Run,
    video_id: Annotated[
        str, typer.Argument(metavar="VIDEO_ID", help="The video to remix: an id of the gateway's.")
    ],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What the remix should change.")],
    model: Annotated[str, typer.Option(help="The remix model.")] = _DEFAULT_MODEL,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A further field of the request, such as size=720P; NAME:=VALUE for JSON. "
            "May be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Save the video to this file."),
    ] = None,
    force: Force = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End as soon as the job is accepted.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Your name for the job: the same one never buys it twice.",
            rich_help_panel="Journal",
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Buy the job of this --key again if it ended without a video.",
            rich_help_panel="Journal",
        ),
    ] = False,
    timeout: Timeout = 3600.0,
    poll_every: PollEvery = None,
) -> None:
    """Buy one remix of a video and wait until it is done.

    On stdout: the file with --out, the id with --no-wait, else the video's link.
    Ctrl-C ends the wait, not the job, and says how to take the wait up again.
    """

    async def work(run: Run) -> None:
        order = _Order(
            request=RemixRequest(
                video_id=video_id, prompt=prompt, model=model, extra=_fields(extra or []), key=key
            ),
            out=out,
            force=force,
            wait=not no_wait,
            retry_failed=retry_failed,
        )
        if run.connection.records.off and key is not None:
            raise ConfigurationError("--key needs the journal: leave out --no-journal")
        policy = poll_policy(timeout, poll_every)
        async with run.session(policy, run.connection.records.for_purchases()) as session:
            await _remix(run, session, order)

    raise typer.Exit(execute(run, work))


@frozen(kw_only=True)
class _Order:
    """What is wanted; made, and so checked, before anything is sent."""

    request: RemixRequest
    out: Path | None
    force: bool
    wait: bool
    retry_failed: bool

    def __attrs_post_init__(self) -> None:
        if self.retry_failed and self.request.key is None:
            raise ConfigurationError("--retry-failed needs the --key of the job that failed")
        if self.out is None:
            return
        if not self.wait:
            raise ConfigurationError("--out needs the video, which --no-wait does not wait for")
        check_target(self.out, force=self.force)


def _fields(pairs: list[str]) -> dict[str, Any]:
    """Return the ``--extra`` options as fields of the request."""
    named: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        value: Any = text
        if name.endswith(":"):
            name = name[:-1]
            try:
                value = json_module.loads(text)
            except ValueError:
                raise ConfigurationError(
                    f"--extra {printable(pair)!r} is no JSON after ':=': write "
                    f"{printable(name)}={printable(text)} for a text"
                ) from None
        if not name or not separator:
            raise ConfigurationError(
                f"--extra {printable(pair)!r} is not of the form NAME=VALUE, such as size=720P"
            )
        if name in named:
            raise ConfigurationError(f"--extra names {printable(name)!r} twice")
        named[name] = value
    return named


async def _remix(run: Run, session: Session, order: _Order) -> None:
    started = time.monotonic()
    again = "the same command with --retry-failed buys it again" if order.request.key else ""
    try:
        future = await run.submit(session, order.request, retry_failed=order.retry_failed)
        if not order.wait:
            run.let_go(future)
            return
        video = await _followed(run, future)
    except RemixError as error:
        run.failed(error, retry=again)
        return
    except SubmitOutcomeUnknownError as error:
        guarded = "the same --key buys nothing until this is settled" if order.request.key else ""
        run.failed(error, retry=again if error.abandoned else guarded)
        return
    except OctoremixError as error:
        run.failed(error)
        return
    run.output.note(f"completed after {time.monotonic() - started:.0f} s")
    if order.out is None:
        _show_link(run, video)
    else:
        await _save(run, session, video, order.out, force=order.force)


async def _followed(run: Run, future: RemixFuture) -> Video:
    footer = "Ctrl-C detaches: the job goes on"
    with displayed(run.output, footer) as display:
        display.add(future.id, future.request.prompt if future.request else "", future.id)
        if future.video is not None:
            display.change(future.id, future.video)
        return await run.follow(future, lambda video: display.change(future.id, video))


def _show_link(run: Run, video: Video) -> None:
    run.output.event("done", id=video.id, video=video)
    if not run.output.json:
        link = video.url or ""
        # A video within its own link is better fetched than shown.
        shown = printable(link, len(link) + 1) if not link.startswith("data:") else ""
        if shown:
            run.output.write(shown)
        else:
            run.output.note("the gateway gave no link to it")
    run.output.note(f"to save it: {run.connection.command('download', ids=[video.id])}")


async def _save(run: Run, session: Session, video: Video, target: Path, *, force: bool) -> None:
    try:
        await save(session, video, target, force=force)
    except (OctoremixError, OSError) as error:
        again = run.connection.command("download", "--out", str(target), ids=[video.id])
        run.failed(error, video.id, f"the video is done and paid for; to fetch it: {again}")
        return
    tell_saved(run.output, video, target)
