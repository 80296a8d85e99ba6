"""The Typer application: which commands there are."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ._batch import batch
from ._demo import demo
from ._doubts import doubts
from ._download import download
from ._jobs import jobs
from ._remix import remix
from ._report import report
from ._resume import resume
from ._serve import serve
from ._watch import watch

__all__ = ["app", "run"]

app = typer.Typer(
    name="octoremix",
    help="Remix videos on OctopusX: submit a job, wait for it, fetch the video.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 key or quota, 4 in doubt (a job may exist and "
    "be billed), 5 still running, 130 Ctrl-C, 143 SIGTERM. Of several the first of 4, 130, 143, 2, "
    "3, 1, 5 counts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"octoremix {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version


for _command in (demo, remix, batch, report, watch, download, jobs, resume, serve):
    app.command()(_command)
app.add_typer(doubts, name="doubts")


def run() -> None:
    """Run the command that the arguments name; see `octoremix.cli.main`."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character gets its escape, not a traceback.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a stand-in has none
    try:
        app(prog_name="octoremix")
    finally:
        _let_go_of_stdout()


def _let_go_of_stdout() -> None:
    """Keep Python from complaining, at its end, of a pipe that nobody reads."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as devnull:  # noqa: PTH123 - a device, not a path
            os.dup2(devnull.fileno(), sys.stdout.fileno())
