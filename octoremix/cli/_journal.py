"""The journal that a command uses: the user's own, another file, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from attrs import frozen

from .. import ConfigurationError, JournalError, SQLiteJournal
from ..errors import printable

__all__ = ["JournalFile", "NoJournal", "Records"]

_PANEL = "Journal"

JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="The record of what was bought. Default: journal.db in your folder for the state of "
        "programs.",
        rich_help_panel=_PANEL,
    ),
]
NoJournal = Annotated[
    bool,
    typer.Option("--no-journal", help="Use no record, and make none.", rich_help_panel=_PANEL),
]


@frozen
class Records:
    """Which journal is wanted.

    Attributes:
        file: The one that the user named, or ``None`` for the default.
        off: Whether there is to be none.
    """

    file: Path | None = None
    off: bool = False

    def for_purchases(self) -> SQLiteJournal | None:
        """Return the journal to buy with, which need not exist yet; ``None`` if none is wanted.

        Raises:
            ConfigurationError: There is no place for one.
        """
        self._check()
        if self.off:
            return None
        path = self.file or _default()
        if path is None:
            raise ConfigurationError(
                "there is no folder for the journal, since nobody knows your home: name a file "
                "with --journal, or use none with --no-journal"
            )
        return SQLiteJournal(path)

    def existing(self) -> SQLiteJournal | None:
        """Return the journal if there is one: none is made to look at.

        Raises:
            JournalError: The one that the user named is missing.
        """
        self._check()
        path = self.file or _default()
        if self.off or path is None:
            return None
        if self.file is not None and not path.exists():
            raise JournalError(f"there is no journal {printable(path)}")
        return SQLiteJournal(path) if _exists(path) else None

    def _check(self) -> None:
        if self.off and self.file is not None:
            raise ConfigurationError("--journal and --no-journal can't be had together")


def _default() -> Path | None:
    path = platformdirs.user_state_path("octoremix", appauthor=False) / "journal.db"
    return path if path.is_absolute() else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be looked into
        return False
