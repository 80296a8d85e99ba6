"""The page: one file that holds all of itself but the videos, which it plays from beside it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from attrs import asdict
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ... import __version__
from .charts import draw_bins, draw_flow
from .figures import GROUPS, bins_of, flow_of, summary_of
from .files import check_page, href
from .jobs import ReportBatch, ReportJob, read_jobs
from .words import day_and_time, plural, shown, span, spoken

__all__ = ["embedded", "render", "write_page"]

WITHOUT_SCRIPT = 5_000
"""How many jobs the plain table lists that stands in for the page where no script runs."""

# Characters of all jobs together: the page is to stay small, whatever the prompts are.
_PROMPTS, _ERRORS = 2_000_000, 1_000_000
_LONGEST_NAME = 200

_STATUSES = {
    "submitted": "submitted",
    "started": "running",
    "detached": "not followed any more",
    "completed": "done",
    "downloaded": "done",
    "download_failed": "not downloaded",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
    "refused": "refused",
    "abandoned": "given up in doubt",
    "in_doubt": "in doubt",
    "not_submitted": "not sent",
}

# Each stands for itself where JSON is read, and for nothing where HTML is.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}

_POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; "
    "media-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def write_page(folder: Path, target: Path | None = None) -> tuple[Path, ReportBatch]:
    """Write the page of a batch's folder. A page that is there is replaced, or left whole.

    Args:
        folder: Where a batch has run.
        target: The file, in that folder; ``None`` for ``report.html``.

    Returns:
        The file, and what it shows.

    Raises:
        ConfigurationError: That is no batch's folder, or no place for the page.
        OSError: A file can't be read or written.
    """
    batch = read_jobs(folder)
    target = check_page(folder, target)
    page = render(batch).encode()
    part = target.with_name(f"{target.name[:50]}.{os.urandom(4).hex()}.part")
    try:
        part.write_bytes(page)
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    return target, batch


def render(batch: ReportBatch, made_at: datetime | None = None) -> str:
    """Return the page's HTML.

    Args:
        batch: What to show.
        made_at: When it is made (UTC); ``None`` for now.
    """
    summary, flow, bins = summary_of(batch.jobs), flow_of(batch.jobs), bins_of(batch.jobs)
    style, script = _asset("page.css"), _asset("page.js")
    rows = [_row(job, len(batch.jobs)) for job in batch.jobs]
    template = _environment().from_string(_asset("page.html.jinja"))
    return template.render(
        name=shown(batch.name, _LONGEST_NAME) or "batch",
        version=__version__,
        made_at=f"{day_and_time(made_at or datetime.now(UTC))} UTC",
        policy=_POLICY.format(script=_digest(script), style=_digest(style)),
        style=Markup(style),  # noqa: S704 - our own
        script=Markup(script),  # noqa: S704 - our own
        groups=GROUPS,
        summary=asdict(summary, recurse=False) | {"seconds": summary.seconds},
        when=span(summary.begin, summary.end) if summary.begin and summary.end else "",
        flow=draw_flow(flow) if flow is not None else None,
        bins=draw_bins(bins) if bins is not None else None,
        rows=rows[:WITHOUT_SCRIPT],
        data=embedded({"sources": any(job.source_file for job in batch.jobs), "jobs": rows}),
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"spoken": spoken, "plural": plural}
    return environment


def _row(job: ReportJob, total: int) -> dict[str, Any]:
    """Return one job as the page's script reads it; what is empty is left out."""
    fields = {
        "key": shown(job.key, _LONGEST_NAME),
        "id": shown(job.id or "", _LONGEST_NAME),
        "video": shown(job.video, _LONGEST_NAME),
        "prompt": shown(job.prompt, min(4000, max(200, _PROMPTS // total))),
        "model": shown(job.model, _LONGEST_NAME),
        "status": _STATUSES[job.status],
        "group": job.group,
        "error": shown(job.error, min(1000, max(200, _ERRORS // total))),
        "at": job.submitted_at and job.submitted_at.isoformat(timespec="seconds"),
        "took": "" if job.seconds is None else spoken(job.seconds),
        "waited": _waited(job),
        "file": job.file and href(job.file),
        "source": job.source_file and href(job.source_file),
    }
    return {name: value for name, value in fields.items() if value}


def _waited(job: ReportJob) -> str:
    if job.submitted_at is None or job.started_at is None or job.started_at < job.submitted_at:
        return ""
    return spoken((job.started_at - job.submitted_at).total_seconds())


def embedded(value: object) -> Markup:
    """Return JSON for a ``<script>`` element, which nothing in it can close."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))  # noqa: S704 - made harmless one line above


def _asset(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text("utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
