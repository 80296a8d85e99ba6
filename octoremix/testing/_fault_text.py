"""Faults as text: ``"name:setting=value,setting=value"``, as a command line gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MIX = "mix"
"""The name that stands for several faults at once."""


def _task(value: str) -> str | int:
    return int(value) if value.isdecimal() else value


def _names(value: str) -> list[str]:
    return value.split("+")


def _truth(value: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words[value.lower()]


_WHOLE = int, "a whole number"
_NUMBER = float, "a number"
_TEXT = str, "a text"

# Each with what reads it, and what that wants.
SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "on": _TEXT,
    "next": _WHOLE,
    "call": _WHOLE,
    "task": (_task, "a number or an id"),
    "first": _WHOLE,
    "rate": _NUMBER,
    "seed": _WHOLE,
    "seconds": _NUMBER,
    "times": _WHOLE,
    "word": _TEXT,
    "status": _WHOLE,
    "accepted": (_truth, "true or false"),
}

MIX_SETTINGS = {"names": (_names, "names with + between them"), **SETTINGS}


def split(
    text: str, settings: Mapping[str, tuple[Callable[[str], Any], str]] = SETTINGS
) -> tuple[str, dict[str, Any]]:
    """The name and the settings in a text.

    Args:
        text: The text.
        settings: Those that there are.

    Raises:
        ValueError: if there is no such setting, or its value is not of its kind.
    """
    name, _, rest = text.strip().partition(":")
    found: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in settings:
            known = ", ".join(settings)
            raise ValueError(f"{part!r} of the fault {text!r} is no setting; use {known}")
        read, wanted = settings[key]
        try:
            found[key] = read(value)
        except (ValueError, KeyError):
            raise ValueError(
                f"{key} of the fault {text!r} must be {wanted}, not {value!r}"
            ) from None
    return name.strip(), found


def is_mix(text: str) -> bool:
    """Whether a text asks for a mix."""
    return text.partition(":")[0].strip() == MIX
