"""Foreign text in lines, file names and shell commands."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from octoremix.cli._text import cut, file_name, human_size, seconds_in, shell_command, slug

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def test_an_ordinary_id_is_its_own_file_name() -> None:
    """An id of letters, digits, `_` and `-` is kept, so that it can be recognised."""
    assert file_name("video_0a1b-2c") == "video_0a1b-2c.mp4"


@given(IDS)
@example("../../etc/passwd")
@example("-rf")
@example("con")
@example("a" * 300)
def test_any_id_gives_a_safe_file_name(task_id: str) -> None:
    """A name never leaves its folder, hides, looks like an option, or is one that Windows keeps."""
    name = file_name(task_id)
    assert name.isascii()
    assert not set(name) & set('/\\:*?"<>| \t\n')
    assert name[0] not in ".-"
    assert len(name) <= 120
    assert name.partition(".")[0].lower() not in {"con", "nul", "aux", "prn"}


def test_two_ids_never_share_a_name() -> None:
    """What makes a name safe does not make two ids one."""
    ids = ["a/b", "a_b", "a:b", "a b", "a/b/", ".a/b", "A/B"]
    assert len({file_name(task_id) for task_id in ids}) == len(ids)


@pytest.mark.needs("bash")  # the quoting is its own, and no other shell's
@pytest.mark.parametrize("task_id", ["a b", "it's", "$(id)", "line\nbreak", "\x1b[31m", "雪"])
def test_a_shown_command_says_the_id_to_a_shell(task_id: str) -> None:
    """What we print to be pasted gives the id byte for byte, and holds no control character."""
    command = shell_command(["printf", "%s"], [task_id])
    assert command.isprintable()
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert ran.stdout.decode() == task_id


def test_an_id_like_an_option_is_set_apart() -> None:
    """An id that begins with a dash is not taken for an option."""
    assert shlex.split(shell_command(["octoremix", "watch"], ["-x"])) == [
        *("octoremix", "watch"),
        *("--", "-x"),
    ]


def test_a_cut_text_is_one_line_of_the_width() -> None:
    """Controls are escaped and the text ends within the width."""
    assert cut("make\x1b[31m it\nsnow", 80) == r"make\x1b[31m it\nsnow"
    assert cut("x" * 50, 10) == "x" * 9 + "…"
    assert len(cut("\x1b" * 50, 10)) == 10


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        *((0, "0 B"), (999, "999 B"), (2059, "2.1 kB"), (104_857, "105 kB"), (999_990, "1.0 MB")),
        *((3_400_000, "3.4 MB"), (12_345_678_901, "12.3 GB")),
    ],
)
def test_sizes_are_read_by_people(size: int, shown: str) -> None:
    """Sizes have a unit and few digits."""
    assert human_size(size) == shown


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("make it snow like Christmas", "make-it-snow"), ("雪", "remix"), ("a of the", "remix")],
)
def test_a_prompt_names_a_file(prompt: str, name: str) -> None:
    """The demo's files are named after their prompts."""
    assert slug(prompt, 12) == name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        (" 12H ", 43200),
        ("30d", 2592000),
        ("2w", 1209600),
        ("1.5d", 129600),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    """A number and a unit are a duration."""
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1d 2h", "٣d", "1e9d", "nan"])
def test_what_is_no_duration_is_told(text: str) -> None:
    """Anything else is none: a number without a unit could mean days or seconds."""
    assert seconds_in(text) is None
