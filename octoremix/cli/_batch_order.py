"""What is wanted of a batch, and the folder that it goes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from .. import Batch, BatchEvent, ConfigurationError, Session, SQLiteJournal
from ..errors import printable
from ._batch_plan import MOST_IN_DOUBT, Plan, plan
from ._input import Line

__all__ = ["Order", "folder_of"]

JOURNAL = "journal.db"


@frozen(kw_only=True)
class Order:
    """What is wanted of a batch.

    Attributes:
        lines: Its input.
        folder: Where it goes, and where what is known of it lies.
        name: The template of the videos' names.
        retry_failed: Whether what ended badly is bought again.
        max_jobs: The most jobs that are paid for, or ``None``.
        concurrency: The most jobs at once.
        rate: The most requests a second, or ``None``.
    """

    lines: list[Line]
    folder: Path
    name: str
    retry_failed: bool
    max_jobs: int | None
    concurrency: int
    rate: float | None

    @property
    def journal(self) -> Path:
        """The journal, which lies in the folder."""
        return self.folder / JOURNAL

    def batch(self, session: Session, notify: Callable[[BatchEvent], object]) -> Batch:
        """Return the batch, of which nothing has begun.

        Raises:
            ConfigurationError: A setting is malformed.
        """
        return session.map(
            [line.request for line in self.lines],
            concurrency=self.concurrency,
            max_in_doubt=MOST_IN_DOUBT,
            max_jobs=self.max_jobs,
            retry_failed=self.retry_failed,
            download_to=self.folder,
            name=self.name,
            on_progress=notify,
        )

    async def plan(self, base_url: str) -> Plan:
        """Compare the input with what the folder has.

        Raises:
            ConfigurationError: The folder is none, or belongs to another batch.
            JournalError: Its journal can't be read.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigurationError(
                f"{printable(self.folder)} is no folder: name another one with --out"
            )
        known = []
        if self.journal.exists():
            known = await SQLiteJournal(self.journal).history()
        for entry in known:
            if entry.base_url != base_url and entry.status != "refused":
                raise ConfigurationError(
                    f"the folder {printable(self.folder)} has jobs of {printable(entry.base_url)}, "
                    f"and this is {printable(base_url)}, where all would be bought anew: name "
                    "another folder with --out, or that gateway with --base-url"
                )
        known = [entry for entry in known if entry.base_url == base_url]
        return plan(self.lines, known, retry_failed=self.retry_failed)


def folder_of(source: str, out: Path | None) -> Path:
    """Return the folder of a batch.

    Args:
        source: Its input.
        out: The folder that was named, or ``None``.

    Raises:
        ConfigurationError: None was named, nor does the input have a name.
    """
    if out is not None:
        return out
    if source == "-":
        raise ConfigurationError("the input is stdin, which has no name: name a folder with --out")
    path = Path(source)
    folder = path.with_suffix("")
    return folder if folder != path else path.with_name(f"{path.name}-videos")
