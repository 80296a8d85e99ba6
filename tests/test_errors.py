"""The tree of errors: its drawing, its names, its bases, and that errors survive every journey."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import octoremix
from octoremix import Session, errors
from octoremix.errors import printable, quoted
from octoremix.models import RemixRequest, Video

from .scripted import ScriptedGateway, cut, reply, task

CLASSES: dict[str, type[errors.OctoremixError]] = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value)
    and issubclass(value, errors.OctoremixError)
    and not name.startswith("_")
}


def drawing() -> dict[str, tuple[str | None, str]]:
    """The tree as the module's docstring draws it: each name's parent, and the note beside it."""
    drawn: dict[str, tuple[str | None, str]] = {}
    above: list[str] = []
    lines = (errors.__doc__ or "").partition("::")[2].splitlines()
    for line in lines:
        if "Error" not in line or not line.startswith("    "):
            if drawn and line.strip():
                break
            continue
        bare = line[4:].lstrip("│├└─ ")
        depth = (len(line) - 4 - len(bare)) // 4
        name, _, note = bare.partition(" ")
        del above[depth:]
        drawn[name] = (above[-1] if above else None, note.strip())
        above.append(name)
    return drawn


def public_parent(kind: type) -> str | None:
    """The nearest public error that a class derives from."""
    return next((base.__name__ for base in kind.__mro__[1:] if base in CLASSES.values()), None)


def test_the_tree_is_drawn_as_it_is() -> None:
    """The drawing in the docstring has every public error, each below its real parent."""
    drawn = {name: parent for name, (parent, _) in drawing().items()}
    assert drawn == {name: public_parent(kind) for name, kind in CLASSES.items()}
    assert drawn["OctoremixError"] is None


def test_the_drawing_tells_the_other_bases() -> None:
    """A further base such as ValueError is noted in the drawing, and a noted one is there."""
    for name, (_, note) in drawing().items():
        noted = {word for word in ("ValueError", "TimeoutError") if f"also a {word}" in note}
        kind = CLASSES[name]
        others = {
            base.__name__
            for base in kind.__bases__
            if not issubclass(base, errors.OctoremixError) and base is not Exception
        }
        assert others == noted


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.APITimeoutError, TimeoutError),
        (errors.APITimeoutError, OSError),
        (errors.WaitTimeoutError, TimeoutError),
    ],
)
def test_errors_are_caught_by_the_languages_own_names(kind: type, base: type) -> None:
    """Code that knows only Python's exceptions catches what they stand for."""
    assert issubclass(kind, base)


def test_every_error_is_exported_and_no_other() -> None:
    """A user finds each error in the package itself."""
    exported = {
        name
        for name in octoremix.__all__
        if inspect.isclass(getattr(octoremix, name))
        and issubclass(getattr(octoremix, name), BaseException)
    }
    assert exported == set(CLASSES)
    assert set(errors.__all__) >= exported
    for name, kind in CLASSES.items():
        assert getattr(octoremix, name) is kind
        assert kind.__doc__


VIDEO = Video(id="video:1", raw={"id": "video:1", "deep": [1, {"a": None}]})
REQUEST = RemixRequest(video_id="video_123", prompt="snow", extra={"size": "720P"}, key="k")

# Something to tell apart for every argument and attribute that an error takes.
VALUES: dict[str, Any] = {
    "id": "video:1",
    "status": 418,
    "code": "teapot",
    "message": "short and stout",
    "request_id": "2025",
    "body": "<html>",
    "safe_to_resubmit": True,
    "retry_after": 7.5,
    "from_gateway": True,
    "abandoned": True,
    "request": REQUEST,
    "sent_at": datetime(2026, 1, 2, tzinfo=UTC),
    "video": VIDEO,
    "url": "https://cdn.example/a.mp4",
    "location": "https://moved.example/",
    "problems": ("status: int, not a text",),
    "interrupted": True,
    "reason": "no answer",
}


def filled(kind: type[errors.OctoremixError]) -> tuple[errors.OctoremixError, set[str]]:
    """An error with every argument and attribute filled, and their names."""
    takes = {
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    error = kind("what happened", **{name: VALUES[name] for name in takes})
    later = {name for base in kind.__mro__ for name in vars(base).get("__annotations__", ())}
    for name in later:
        setattr(error, name, VALUES[name])
    return error, takes | later


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    "journey",
    [
        copy.copy,
        copy.deepcopy,
        *(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_errors_survive_copies_and_pickles(name: str, journey: Any) -> None:
    """An error that crosses a queue or a process keeps its class, text and every attribute."""
    error, names = filled(CLASSES[name])
    error.add_note("goes on")
    arrived = journey(error)
    assert type(arrived) is CLASSES[name]
    assert str(arrived) == "what happened"
    assert arrived.args == error.args
    assert arrived.__notes__ == ["goes on"]
    for attribute in names:
        assert getattr(arrived, attribute) == VALUES[attribute]


@pytest.mark.parametrize("name", CLASSES)
def test_errors_can_be_made_of_nothing(name: str) -> None:
    """Every error has an id, and all that it does not know is None, empty or false."""
    error = CLASSES[name]()
    assert error.id is None
    for attribute in filled(CLASSES[name])[1]:
        assert not getattr(error, attribute)
    assert type(pickle.loads(pickle.dumps(error))) is CLASSES[name]


@pytest.mark.parametrize("name", CLASSES)
def test_what_an_error_carries_is_documented(name: str) -> None:
    """Every attribute of an error stands in its docstring or in that of a public error above it."""
    kind = CLASSES[name]
    documented = " ".join(
        inspect.getdoc(base) or "" for base in kind.__mro__ if base in CLASSES.values()
    )
    undocumented = {attribute for attribute in filled(kind)[1] if f"{attribute}:" not in documented}
    # RemixError and WaitError describe their own video, whose class is shared.
    assert not undocumented


PRINTED: list[tuple[str, str]] = [
    ("plain Text, 牛飞到海里去了 🎬", "plain Text, 牛飞到海里去了 🎬"),
    ("a\nb\r\tc", r"a\nb\r\tc"),
    ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
    ("\u202eevil\u2066\u200f", r"\u202eevil\u2066\u200f"),
    ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
    ("\ud800", r"\ud800"),
    ("\U000e0001", r"\U000e0001"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "shown"), PRINTED)
def test_foreign_text_is_made_harmless(text: str, shown: str) -> None:
    """Controls, line ends, escape sequences and direction marks are shown as escapes."""
    assert printable(text) == shown
    assert quoted(text) == f"'{shown}'"


@given(text=st.text(), limit=st.integers(1, 50))
def test_shown_text_is_one_printable_line(text: str, limit: int) -> None:
    """Whatever a text holds, it is shown in one line of printable characters and bounded."""
    for show in (printable, quoted):
        shown = show(text, limit)
        assert shown.isprintable()
        assert len(shown) <= 10 * limit + 2
    if len(text) <= limit and text.isprintable():
        assert printable(text, limit) == text


def test_long_text_is_cut() -> None:
    """What is longer than the limit ends in an ellipsis and keeps to it."""
    assert printable("x" * 400) == "x" * 299 + "…"
    assert printable("x" * 300) == "x" * 300
    assert quoted("x" * 10, 5) == "'xxxx…'"


def test_anything_can_be_shown() -> None:
    """What is no text is shown as its str."""
    assert printable(404) == "404"
    assert quoted(None) == "'None'"


NASTY = "video\x1b[31m\r\n\x00\u202e\u2028"


async def refused_submit(session: Session) -> None:
    await session.submit(NASTY, prompt=NASTY)


async def file_submitted(session: Session) -> None:
    await session.submit(f"{NASTY}.mp4", prompt=NASTY)


async def surrogate_submitted(session: Session) -> None:
    await session.submit("video_123", prompt=f"{NASTY}\ud800")


async def wait_timed_out(session: Session) -> None:
    await session.track(NASTY).wait(timeout=1)


async def deadline_passed(session: Session) -> None:
    await session.track(NASTY, deadline=1)


async def detached(session: Session) -> None:
    future = session.track(NASTY)
    future.detach()
    await future


async def closed(session: Session) -> None:
    future = session.track(NASTY)
    await session.aclose()
    await future


async def not_done(session: Session) -> None:
    await session.download(Video(id=NASTY), "snow.mp4")


async def no_folder(session: Session) -> None:
    await session.download("video_123", f"{NASTY}/snow.mp4")


@pytest.mark.parametrize(
    ("answers", "scenario", "kind"),
    [
        ([cut], refused_submit, errors.SubmitOutcomeUnknownError),
        ([reply("<html>")], refused_submit, errors.SubmitOutcomeUnknownError),
        (
            [reply({"code": NASTY, "message": NASTY}, status=400)],
            refused_submit,
            errors.BadRequestError,
        ),
        ([], file_submitted, errors.ConfigurationError),
        ([], surrogate_submitted, errors.ConfigurationError),
        ([task("processing")], wait_timed_out, errors.WaitTimeoutError),
        ([task("processing")], deadline_passed, errors.WaitTimeoutError),
        ([task("processing")], detached, errors.DetachedError),
        ([task("processing")], closed, errors.SessionClosedError),
        ([task("failed", error=NASTY)], deadline_passed, errors.RemixFailedError),
        ([task("processing")], not_done, errors.DownloadError),
        (
            [reply({"code": "task_not_exist", "message": NASTY}, status=400)],
            deadline_passed,
            errors.TaskNotFoundError,
        ),
        (
            [reply({"error": {"message": NASTY}}, status=403)],
            deadline_passed,
            errors.PollingFailedError,
        ),
        ([], no_folder, errors.ConfigurationError),
    ],
)
async def test_no_error_lets_foreign_characters_through(
    answers: list[Any], scenario: Any, kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids, prompts and messages with controls or direction marks are escaped in errors and logs."""
    caplog.set_level("DEBUG", logger="octoremix")
    gateway = ScriptedGateway(submits=list(answers), polls=list(answers))
    async with gateway, Session("k", base_url=gateway.url) as session:
        with pytest.raises(errors.OctoremixError) as caught:
            await scenario(session)
    assert type(caught.value) is kind
    shown = [str(caught.value), *getattr(caught.value, "__notes__", ()), *caplog.messages]
    for text in shown:
        assert text.isprintable()
