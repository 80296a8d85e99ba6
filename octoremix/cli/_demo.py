"""``octoremix demo``: the whole way, on this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import ConfigurationError
from ..errors import printable
from ._demo_play import SOURCE_ID, Demo
from ._options import JSON, Verbose
from ._output import Output
from ._run import Run, execute
from ._target import make_folder

if TYPE_CHECKING:
    from ..testing import JobRequest

__all__ = ["demo"]

SHORTEST, LONGEST = 3.0, 16.0
"""Seconds that the first job takes, and the last at most."""

STEP = 1.2
"""Seconds between the ends of two jobs, at most."""


def demo(
    video: Annotated[
        Path | None,
        typer.Argument(
            metavar="VIDEO", help="A video of your own to remix. Default: one made on the spot."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=500, metavar="N", help="How many remixes.")] = 12,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The folder for the videos.")
    ] = Path("octoremix-demo"),
    json: JSON = False,
    verbose: Verbose = False,
) -> None:
    """Remix a video against a local gateway: no key, no network, no cost.

    The gateway speaks the real protocol and makes real videos.
    It takes about 20 seconds. Those of an earlier demo in the folder are replaced.
    """

    async def work(run: Run) -> None:
        from ..testing import Emulator  # noqa: PLC0415 - other commands can do without it

        try:
            gateway = Emulator(
                render=True,
                duration=lambda request: _duration(request, jobs),
                sources=None if video is None else {SOURCE_ID: _checked_source(video)},
            )
        except ImportError:
            raise ConfigurationError(
                "the demo makes real videos with PyAV, which is not installed: "
                'pip install "octoremix[demo]"'
            ) from None
        make_folder(out)
        async with gateway:
            await Demo(run=run, gateway=gateway, jobs=jobs, folder=out, own=video).play()

    output = Output(json=json, verbose=verbose)
    raise typer.Exit(execute(Run(output, quiet=True, billed=False), work))


def _duration(request: JobRequest, jobs: int) -> float:
    step = min(STEP, (LONGEST - SHORTEST) / max(1, jobs - 1))
    return SHORTEST + step * request.index


def _checked_source(video: Path) -> Path:
    """Return a user's file if there is a picture in it."""
    import av  # noqa: PLC0415 - from the extra, which other commands can do without

    shown = printable(video)
    if not video.is_file():
        what = "is no file" if video.exists() else "does not exist"
        raise ConfigurationError(f"{shown} {what}: name a video, or leave it out")
    try:
        with av.open(str(video)) as container:
            if any(True for _ in container.decode(video=0)):
                return video
    except (av.error.FFmpegError, OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "there is no video stream in it"
        raise ConfigurationError(f"{shown} can't be read as a video: {reason}") from None
    raise ConfigurationError(f"{shown} holds no picture")
