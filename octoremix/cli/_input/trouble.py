"""What is wrong with an input: every line of it, told at once."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from ... import ConfigurationError
from ...errors import printable

__all__ = ["MARK_INSIDE", "MOST_SHOWN", "InputError", "Troubles"]

MOST_SHOWN = 20
"""Lines that are told by themselves; of the others only their number is."""

MARK_INSIDE = "begins with a byte order mark, as where files were joined: remove it"


class InputError(ConfigurationError):
    """The input of a batch can't be used; nothing was submitted.

    Attributes:
        problems: What is wrong, each beginning with its line, such as ``"line 3: …"``; at most 20.
        more: How many further problems there are.
    """

    def __init__(self, message: str = "", *, problems: Sequence[str] = (), more: int = 0) -> None:
        super().__init__(message)
        self.problems = tuple(problems)
        self.more = more


@define(eq=False, repr=False)
class Troubles:
    """Collects what is wrong with an input.

    Args:
        name: How the input is called in errors.
    """

    name: str
    count: int = field(init=False, default=0)
    _shown: list[str] = field(init=False, factory=list)

    def __repr__(self) -> str:
        return f"<Troubles {self.count} in {printable(self.name, 60)}>"

    def add(self, line: int, problem: str) -> None:
        """Note what is wrong with a line."""
        self.count += 1
        if len(self._shown) < MOST_SHOWN:
            self._shown.append(f"line {line}: {problem}")

    def whole(self, problem: str) -> InputError:
        """Return the error that says what is wrong with the input as a whole."""
        return InputError(f"{printable(self.name)} {problem}")

    def check(self) -> None:
        """Raise what was noted.

        Raises:
            InputError: There is something.
        """
        if not self.count:
            return
        more = self.count - len(self._shown)
        told = [*self._shown, *([f"and {more:,} more"] if more else [])]
        problems = "1 problem" if self.count == 1 else f"{self.count:,} problems"
        raise InputError(
            f"{printable(self.name)} has {problems}, nothing was submitted: {'; '.join(told)}",
            problems=self._shown,
            more=more,
        )
