"""``octoremix report``: one page that shows a batch, beside its videos."""

from .command import report
from .writing import page_writer, write_report

__all__ = ["page_writer", "report", "write_report"]
