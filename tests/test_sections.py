"""The reference of the protocol and the tests that hold it name each other's sections rightly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
REFERENCE = TESTS.parent / "docs" / "wire.md"

_NAMED = re.compile(r"§(\d(?:\.\d)?)( trap \d| E\d)?")
_DETAILS = {"1.3": r"^\| (trap \d) \|", "3.1": r"^\| (E\d) \|"}


def sections() -> list[str]:
    """The sections of the reference, and their traps and envelopes, as tests name them."""
    text = REFERENCE.read_text("utf-8")
    found = []
    for part in re.split(r"^#+ §", text, flags=re.MULTILINE)[1:]:
        number = part.split(maxsplit=1)[0]
        found.append(number)
        if number in _DETAILS:
            found += [
                f"{number} {name}" for name in re.findall(_DETAILS[number], part, re.MULTILINE)
            ]
    return found


def named_by_tests() -> dict[str, set[str]]:
    """What the tests name, each with the files that do."""
    named: dict[str, set[str]] = {}
    for file in TESTS.rglob("test_*.py"):
        if file.name != Path(__file__).name:
            for number, detail in _NAMED.findall(file.read_text("utf-8")):
                named.setdefault(f"{number}{detail}", set()).add(file.name)
    return named


def test_tests_name_sections_that_exist() -> None:
    """No test refers to a section, a trap or an envelope that the reference doesn't have."""
    unknown = {name: files for name, files in named_by_tests().items() if name not in sections()}
    assert unknown == {}


# What they say can't be tested, or is said elsewhere.
_UNTESTED = {"3", "4", "2", "7", "8"}


@pytest.mark.parametrize("section", [name for name in sections() if name not in _UNTESTED])
def test_every_section_is_held_by_a_test(section: str) -> None:
    """Each section, trap and envelope of the reference is named by a test that holds it."""
    assert section in named_by_tests()


def test_the_reference_is_read_rightly() -> None:
    """Headings, traps and envelopes are found, each once."""
    found = sections()
    assert len(found) == len(set(found))
    assert {"1", "1.1", "1.3 trap 7", "3.1 E1", "3.1 E8", "4.6", "8"} <= set(found)


def test_the_reference_names_its_own_sections_rightly() -> None:
    """Where the page points to another of its sections, that one exists."""
    links = re.findall(r"§(\d(?:\.\d)?)", REFERENCE.read_text("utf-8"))
    assert set(links) <= set(sections())
