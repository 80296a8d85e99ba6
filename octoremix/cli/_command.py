"""What the commands that reach the gateway have in common: their options, written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from ._journal import JournalFile, NoJournal, Records
from ._options import JSON, APIKeyFile, APIKeyOption, BaseURL, CAFile, Connection, Proxy, Verbose
from ._output import Output
from ._run import Run

__all__ = ["connected"]

_P = ParamSpec("_P")


def connected(
    *, journal: bool = False, no_journal: bool = False
) -> Callable[[Callable[Concatenate[Run, _P], None]], Callable[..., None]]:
    """Make a command of a function that takes its `Run` first.

    In the place of the run stand the options that it is made from: those of the connection and of
    the output, and those of the journal where they are wanted.

    Args:
        journal: Whether there is ``--journal``.
        no_journal: Whether there is ``--no-journal``.
    """
    wanted = {"journal": journal, "no_journal": no_journal}
    shared = {
        name: parameter
        for name, parameter in inspect.signature(_run, eval_str=True).parameters.items()
        if wanted.get(name, True)
    }

    def decorate(function: Callable[Concatenate[Run, _P], None]) -> Callable[..., None]:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()

        @functools.wraps(function)
        def command(**given: Any) -> None:
            run = _run(**{name: given.pop(name) for name in shared})
            function(run, **given)  # type: ignore[call-arg]  # what Typer has read for it

        parameters = [*own, *shared.values()]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _run(
    journal: JournalFile = None,
    no_journal: NoJournal = False,
    json: JSON = False,
    verbose: Verbose = False,
    base_url: BaseURL = None,
    proxy: Proxy = None,
    ca_file: CAFile = None,
    api_key_file: APIKeyFile = None,
    _api_key: APIKeyOption = None,
) -> Run:
    connection = Connection(
        base_url=base_url,
        proxy=proxy,
        ca_file=ca_file,
        api_key_file=api_key_file,
        records=Records(journal, no_journal),
    )
    return Run(Output(json=json, verbose=verbose), connection)
