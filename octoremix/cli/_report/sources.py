"""The source videos of a batch, each fetched once into its folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from ... import (
    AuthenticationError,
    ConfigurationError,
    OctoremixError,
    PollPolicy,
    QuotaExceededError,
    Session,
)
from ...errors import printable
from .._run import Run, all_of
from .files import SOURCES, source_name
from .jobs import ReportJob
from .words import plural

__all__ = ["fetch_sources", "missing_sources"]

AT_ONCE = 4

# What is refused for one is refused for all.
_HOPELESS = (AuthenticationError, QuotaExceededError)


def missing_sources(jobs: Iterable[ReportJob]) -> list[str]:
    """Return the ids of the source videos that the folder does not hold yet, each once."""
    return list(dict.fromkeys(job.video for job in jobs if job.video and job.source_file is None))


async def fetch_sources(run: Run, folder: Path, ids: list[str]) -> None:
    """Download source videos; one that can't be had is reported and left out.

    Args:
        run: The command.
        folder: The batch's folder.
        ids: The videos.

    Raises:
        ConfigurationError: There is no key, or no folder for them can be made.
        OctoremixError: The gateway refuses the key.
    """
    async with run.session(PollPolicy()) as session:
        _make_folder(folder)
        run.output.note(f"fetching {plural(len(ids), 'source video')}", "dim")
        places = asyncio.Semaphore(AT_ONCE)
        await all_of(_fetch(run, session, places, video, folder) for video in ids)


async def _fetch(
    run: Run, session: Session, places: asyncio.Semaphore, video: str, folder: Path
) -> None:
    async with places:
        try:
            await session.download(video, folder / source_name(video))
        except _HOPELESS:
            raise
        except OctoremixError as error:
            run.failed(error, video)


def _make_folder(folder: Path) -> None:
    sources = folder / SOURCES
    shown = printable(sources)
    try:
        sources.mkdir(exist_ok=True)
    except FileExistsError:
        raise ConfigurationError(f"{shown} is no folder: the source videos go there") from None
    except OSError as error:
        raise ConfigurationError(f"the folder {shown} can't be made: {error.strerror}") from None
    if not sources.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"{shown} leads out of {printable(folder)}, where the page may not follow"
        )
