"""``octoremix report``: one page that shows a batch, beside its videos."""

from .command import report
from .writing import write_report

__all__ = ["report", "write_report"]
