"""``octoremix serve``: the local gateway, for trying things out without a key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from .. import ConfigurationError
from ..errors import printable
from ._options import JSON, Verbose
from ._output import Output
from ._run import Run, execute
from ._text import cut, shell_command

if TYPE_CHECKING:
    from ..testing import Emulator, JobRequest

__all__ = ["serve"]

_LOOPBACK = frozenset({"localhost", "::1"})


def serve(
    port: Annotated[int, typer.Option(metavar="PORT", help="The port; 0 takes a free one.")] = 8765,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="The address to listen on; another one lets others in."
        ),
    ] = "127.0.0.1",
    duration: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="How long each job takes.")
    ] = 30.0,
    render: Annotated[
        bool,
        typer.Option(
            "--render/--no-render", help="Make real videos, which needs octoremix\\[demo]."
        ),
    ] = False,
    profile: Annotated[
        str,
        typer.Option(metavar="NAME", help="The dialect it speaks; a wrong name lists them all."),
    ] = "octopus-doc",
    refresh: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="How often it looks at its upstream; 0 for at each query, 15 as new-api does.",
        ),
    ] = 0.0,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FAULT",
            help="What goes wrong, as in html_502:on=query,rate=0.1; may be repeated; "
            "mix:rate=0.2 is a mix of all that a poll survives; a wrong name lists them all.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="NUMBER", help="Chooses which calls the rate= of a fault or a mix hits."
        ),
    ] = 0,
    json: JSON = False,
    verbose: Verbose = False,
) -> None:
    """Run a local gateway: the real protocol, no key, no network, no cost.

    On stdout: two lines to paste into the shell that is to use it.
    Any id is that of a finished video there. Ctrl-C ends it, with exit code 0.
    """

    async def work(run: Run) -> None:
        if not 0 <= port <= 65535:
            raise ConfigurationError(f"--port must be from 0 to 65535, not {port}")
        from ..testing import PROFILES, Emulator  # noqa: PLC0415 - others can do without it

        if profile not in PROFILES:
            raise ConfigurationError(
                f"--profile must be one of {', '.join(PROFILES)}, not {printable(profile)}"
            )
        plan = [_fault(text, seed) for text in faults or ()]

        def take(request: JobRequest) -> float:
            source = cut(request.source_id or "nothing", 40)
            run.output.note(f"job {request.index + 1}: {source}: {cut(request.prompt, 60)}", "dim")
            return duration

        try:
            gateway = Emulator(
                host=host,
                port=port,
                duration=take,
                render=render,
                profile=profile,
                refresh=refresh,
                faults=plan,
            )
        except ImportError:
            raise ConfigurationError(
                'rendered videos need PyAV, which is not installed: pip install "octoremix[demo]", '
                "or leave out --render"
            ) from None
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        await _serve(run, gateway, host, port)

    raise typer.Exit(execute(Run(Output(json=json, verbose=verbose), endless=True), work))


def _fault(text: str, seed: int) -> str:
    """One fault or mix as the option tells it, with the seed of all where it names none."""
    from ..testing import Faults  # noqa: PLC0415 - other commands can do without it

    try:
        Faults.of([text])
    except ValueError as error:
        reason = printable(error, 2000)  # it may list all faults
        raise ConfigurationError(f"--faults {printable(text)}: {reason}") from None
    if "seed=" in text:
        return text
    return f"{text},seed={seed}" if ":" in text else f"{text}:seed={seed}"


async def _serve(run: Run, gateway: Emulator, host: str, port: int) -> None:
    output = run.output
    if not (host in _LOOPBACK or host.startswith("127.")):
        output.warn(f"on {printable(host)} anybody who can reach this machine can use the gateway")
    try:
        await gateway.start()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(
            f"can't listen on {printable(host)} port {port}: {reason}; --port 0 takes a free port"
        ) from None
    try:
        _announce(output, gateway)
        await asyncio.get_running_loop().create_future()
    finally:
        await gateway.aclose()
        _close_books(output, gateway)


def _announce(output: Output, gateway: Emulator) -> None:
    output.event("serving", base_url=gateway.url, api_key=gateway.api_key)
    if not output.json:
        output.write(shell_command(["export", f"OCTOPUSX_BASE_URL={gateway.url}"]))
        output.write(shell_command(["export", f"OCTOPUSX_API_KEY={gateway.api_key}"]))
    output.note("the local gateway runs until Ctrl-C; paste these lines into another shell", "dim")


def _close_books(output: Output, gateway: Emulator) -> None:
    books = gateway.books
    polls, requests = books.polls.total(), books.requests.total()
    output.note(
        f"{books.accepted} jobs accepted, {books.charged} charged, {polls} polls, "
        f"{requests} requests in all, at most {books.most_in_flight} at once"
    )
    output.event(
        "served", accepted=books.accepted, charged=books.charged, polls=polls, requests=requests
    )
