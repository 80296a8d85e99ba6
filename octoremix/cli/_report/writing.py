"""The one door to the page, which needs a package that other commands can do without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ... import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .jobs import ReportBatch

__all__ = ["page_writer", "write_report"]


def write_report(folder: Path, target: Path | None = None) -> tuple[Path, ReportBatch]:
    """Write the page of a batch's folder; it blocks.

    Args:
        folder: Where a batch has run.
        target: The file, in that folder; ``None`` for ``report.html``.

    Returns:
        The file, and what it shows.

    Raises:
        ConfigurationError: That is no batch's folder, no place for the page, or Jinja2 is missing.
        OSError: A file can't be read or written.
    """
    return page_writer()(folder, target)


def page_writer() -> Callable[[Path, Path | None], tuple[Path, ReportBatch]]:
    """Return what writes the page.

    Raises:
        ConfigurationError: Jinja2 is missing.
    """
    try:
        from .page import write_page  # noqa: PLC0415 - loaded by those who want a page
    except ModuleNotFoundError as error:
        if error.name not in {"jinja2", "markupsafe"}:
            raise
        raise ConfigurationError(
            'the page is made with Jinja2, which is not installed: pip install "octoremix[cli]"'
        ) from None
    return write_page
