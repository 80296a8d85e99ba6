"""How a job in doubt is told."""

from __future__ import annotations

from collections.abc import Sequence

from .. import InDoubt
from ..errors import printable
from ._options import Connection
from ._output import Output
from ._text import cut

__all__ = ["described", "tell_doubts", "tell_how_to_settle", "write_object"]

_EVIDENCE = {
    "charged": "charged: the key's log has a charge that no known job accounts for",
    "not seen": "not seen: the key's log has no charge for it; a log may lag",
    "unavailable": "unavailable: the key's log can't tell, or can't tell yet",
}

_WIDTH = 76


def described(doubt: InDoubt) -> list[str]:
    """Return the lines that describe a job in doubt; the first is its key."""
    sent_at = doubt.sent_at.astimezone()
    lines = [
        printable(doubt.key, 600),
        f"  sent:     {sent_at:%Y-%m-%d %H:%M:%S}, attempt {doubt.attempt}",
        f"  video:    {printable(doubt.video_id)}",
        f"  model:    {printable(doubt.model)}",
    ]
    if doubt.request is not None:
        lines.append(f"  prompt:   {cut(doubt.request.prompt, _WIDTH - 12)}")
    if doubt.request_id is not None:
        lines.append(f"  request:  {printable(doubt.request_id)}")
    lines.append(f"  why:      {printable(doubt.reason, 600)}")
    if doubt.evidence is not None:
        lines.append(f"  evidence: {_EVIDENCE.get(doubt.evidence, printable(doubt.evidence))}")
    return lines


def tell_doubts(output: Output, connection: Connection, doubts: Sequence[InDoubt]) -> None:
    """Say on stderr that jobs are in doubt, and how that is settled."""
    jobs = "1 job is" if len(doubts) == 1 else f"{len(doubts)} jobs are"
    output.warn(f"{jobs} in doubt: may exist and may be billed")
    tell_how_to_settle(output, connection, *(doubt.key for doubt in doubts))
    for doubt in doubts:
        write_object(output, doubt)


def tell_how_to_settle(output: Output, connection: Connection, *keys: str) -> None:
    """Tell on stderr the commands that settle doubts.

    Args:
        output: Where they go.
        connection: What they need to find the same journal and gateway.
        keys: The jobs; several share the commands.
    """
    ids = keys if len(keys) == 1 else ["KEY"]
    command = connection.command
    for when, words in (
        ("to look for it", command("doubts", "--evidence")),
        ("if it was bought", f"{command('doubts', 'adopt', ids=ids)} TASK_ID"),
        ("if it was not", command("doubts", "resubmit", ids=ids)),
        ("to give it up", command("doubts", "abandon", ids=ids)),
    ):
        output.note(f"  {when + ':':<17} {words}")


def write_object(output: Output, doubt: InDoubt) -> None:
    """Write a job in doubt as a JSON object, if that is wanted."""
    output.event(
        "doubt",
        key=doubt.key,
        video_id=doubt.video_id,
        model=doubt.model,
        prompt=None if doubt.request is None else doubt.request.prompt,
        attempt=doubt.attempt,
        sent_at=doubt.sent_at.isoformat(),
        request_id=doubt.request_id,
        reason=doubt.reason,
        evidence=doubt.evidence,
    )
