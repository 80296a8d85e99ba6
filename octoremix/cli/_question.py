"""A question on the terminal that Ctrl-C can leave."""

from __future__ import annotations

import asyncio
import os
import sys

from rich.text import Text

from ._output import Output

__all__ = ["can_ask", "confirmed"]

_YES = frozenset({"y", "yes"})


def can_ask() -> bool:
    """Whether somebody sits at a terminal, reads what we write and can answer."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


async def confirmed(output: Output, question: str) -> bool:
    """Ask, and return whether the answer is yes; anything else is no."""
    output.console.print(Text(f"{question} [y/N] "), end="", soft_wrap=True)
    try:
        answer = await _line()
    except asyncio.CancelledError:
        output.note("")  # what follows is no part of the question's line
        raise
    if not answer.endswith("\n"):  # the end of the input, which a terminal does not show
        output.note("")
    return answer.strip().lower() in _YES


async def _line() -> str:
    # Not by input(): while that waits the event loop hears of no signal, and a thread that waits
    # in it would have to be waited for.
    if os.name != "posix":
        return await asyncio.to_thread(sys.stdin.readline)
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    answered: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        loop.remove_reader(descriptor)
        try:
            answer = os.read(descriptor, 4096)
        except OSError:  # the terminal has gone
            answer = b""
        answered.set_result(answer)

    loop.add_reader(descriptor, read)
    try:
        return (await answered).decode(errors="replace")
    finally:
        loop.remove_reader(descriptor)
