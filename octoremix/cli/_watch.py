"""``octoremix watch``: follow tasks that exist already."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import OctoremixError, RemixFuture, Session, Video
from ..errors import printable
from ._display import Display, displayed
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
from ._run import Run, all_of, execute

__all__ = ["watch"]


def watch(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="The tasks to follow.")],
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
    """Follow tasks until all of them are done.

    On stdout, as each one ends: its id, status and link, separated by tabs.
    """
    connection = Connection(
        base_url=base_url, proxy=proxy, ca_file=ca_file, api_key_file=api_key_file
    )

    async def work(run: Run) -> None:
        policy = poll_policy(timeout, poll_every, first_delay=0.0)
        footer = "Ctrl-C ends the watch, not the jobs"
        async with run.session(policy) as session:
            with displayed(run.output, footer) as display:
                await _watch(run, session, display, list(dict.fromkeys(ids)))

    raise typer.Exit(execute(Run(Output(json=json, verbose=verbose), connection), work))


async def _watch(run: Run, session: Session, display: Display, ids: list[str]) -> None:
    # A malformed id is found before any is asked for.
    futures = [session.track(task_id) for task_id in ids]
    for task_id in ids:
        run.goes_on(task_id)
        display.add(task_id, id=task_id)

    await all_of(_follow(run, display, future) for future in futures)


async def _follow(run: Run, display: Display, future: RemixFuture) -> None:
    try:
        video = await run.follow(future, lambda video: display.change(future.id, video))
    except OctoremixError as error:
        display.end(future.id, None if future.status.terminal else "error")
        run.failed(error)
    else:
        display.end(future.id)
        run.output.event("done", id=future.id, video=video)
    _show(run, future.id, future.video)


def _show(run: Run, id: str, video: Video | None) -> None:
    if run.output.json:
        return
    link = (video.url if video is not None else None) or "-"
    if link.startswith("data:"):
        link = "data:…"
    status = "unknown" if video is None else str(video.status)
    run.output.write("\t".join([printable(id), status, printable(link, len(link) + 1)]))
