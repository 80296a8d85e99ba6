"""The key is nowhere but in the header of a call to the gateway."""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
import json
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity

import octoremix
from octoremix import (
    APIConnectionError,
    APIError,
    ConfigurationError,
    OctoremixError,
    PollPolicy,
    RetryPolicy,
    Session,
    Video,
)
from octoremix._credentials import APIKey

from .raw_servers import KEY, RawServer, answering, http
from .scripted import ScriptedGateway, task

PACKAGE = str(Path(octoremix.__file__).parent)
BURST = b"\x1b[2J\x1b]0;owned\x07\r\nFAKE LOG LINE\xe2\x80\xae"


def exposures(error: BaseException) -> Iterator[tuple[str, str]]:
    """Everything that a log, a debugger or an error tracker would show of an error: name, text."""
    seen: set[int] = set()
    queue: list[tuple[str, Any]] = [("error", error)]
    while queue:
        name, thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        yield f"repr of {name}", repr(thing)
        yield f"str of {name}", str(thing)
        if isinstance(thing, BaseException):
            queue += [
                (f"{name}.{hop}", getattr(thing, hop)) for hop in ("__cause__", "__context__")
            ]
            queue += [(f"{name}.args", each) for each in thing.args]
            yield f"report of {name}", "".join(traceback.format_exception(thing))
            for frame, _ in traceback.walk_tb(thing.__traceback__):
                if frame.f_code.co_filename.startswith(PACKAGE):
                    for local, value in frame.f_locals.items():
                        yield f"{frame.f_code.co_name}: {local}", repr(value)
        if isinstance(thing, OctoremixError):
            yield f"pickle of {name}", pickle.dumps(thing).decode("latin-1")
        names = getattr(thing, "__slots__", ()) if not isinstance(thing, str) else ()
        held = {**getattr(thing, "__dict__", {}), **{n: getattr(thing, n, None) for n in names}}
        if type(thing).__module__.startswith("octoremix"):
            queue += [(f"{name}.{attribute}", value) for attribute, value in held.items()]


def assert_hidden(error: BaseException, *secrets: str) -> None:
    for (name, text), secret in itertools.product(list(exposures(error)), secrets or (KEY,)):
        assert secret not in text, f"{name} shows the key: {text}"


REPEATS_IN_JSON = http(
    json.dumps({"error": {"message": f"invalid token {KEY}", "code": KEY, "type": "x"}}).encode(),
    status="401 Unauthorized",
    headers=f"Content-Type: application/json\r\nX-Oneapi-Request-Id: {KEY}\r\n",
)
REPEATS_IN_HTML = http(
    f"<html>Authorization: Bearer {KEY}</html>".encode(),
    status="500 Oops",
    headers=f"Content-Type: text/html\r\nX-Debug: Bearer {KEY}\r\ncf-ray: {KEY}\r\n",
)
REPEATS_IN_REASON = http(b"{}", status=f"503 {KEY}")
REDIRECTS_WITH_KEY = http(
    b"",
    status="302 Found",
    headers=f"Location: https://elsewhere.example/{KEY}/x?key={KEY}\r\n",
)
NO_HTTP = f"HTTP/1.1 200 OK\r\nX {KEY} Y\r\nContent-Length : x\r\n\r\n".encode()
CUT = http(f'{{"id": "{KEY}"'.encode(), length=5000)


async def stall(*_: object) -> bool:
    await asyncio.Event().wait()
    return False


FAILURES: dict[str, Callable[[], RawServer] | None] = {
    "refused": None,
    "reset": lambda: RawServer([answering(b"")]),
    "silent": lambda: RawServer([stall]),
    "cut": lambda: RawServer([answering(CUT)]),
    "no HTTP": lambda: RawServer([answering(NO_HTTP)]),
    "untrusted": lambda: RawServer([answering(http())], tls=True),
    "401 repeating it in JSON": lambda: RawServer([answering(REPEATS_IN_JSON)]),
    "500 repeating it in HTML": lambda: RawServer([answering(REPEATS_IN_HTML)]),
    "503 repeating it in its reason": lambda: RawServer([answering(REPEATS_IN_REASON)]),
    "redirect": lambda: RawServer([answering(REDIRECTS_WITH_KEY)]),
}

CALLS: dict[str, Callable[[Session, Path], Awaitable[object]]] = {
    "retrieve": lambda octo, folder: octo.retrieve("task_1"),
    "submit": lambda octo, folder: octo.submit("video_1", prompt="snow"),
    "remix": lambda octo, folder: octo.remix("video_1", prompt="snow", timeout=60),
    "poll": lambda octo, folder: octo.track("task_1").wait(),
    "download": lambda octo, folder: octo.download(
        Video(id="task_1", status=octoremix.TaskStatus.COMPLETED), folder / "clip.mp4"
    ),
}


def session(base_url: str, key: Any = KEY, **settings: Any) -> Session:
    return Session(
        key,
        base_url=base_url,
        retry=RetryPolicy(attempts=2, wait=tenacity.wait_fixed(1)),
        poll=PollPolicy(wait=tenacity.wait_fixed(11), max_failures=2, failure_window=0),
        request_timeout=5,
        submit_timeout=5,
        **settings,
    )


@pytest.mark.parametrize(
    ("failure", "call"),
    # A download goes on to wherever the gateway sends it.
    [pair for pair in itertools.product(FAILURES, CALLS) if pair != ("redirect", "download")],
)
async def test_no_failure_of_any_call_shows_the_key(
    failure: str, call: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Error, causes, attributes, pickle, our frames' locals and the log: none of them holds it."""
    caplog.set_level(logging.DEBUG, logger="octoremix")
    make = FAILURES[failure]
    server = RawServer([answering(b"")]) if make is None else make()
    async with server:
        if make is None:
            assert server._server is not None
            server._server.close()
        async with session(server.url) as octo:
            with pytest.raises(OctoremixError) as caught:
                await CALLS[call](octo, tmp_path)
            assert_hidden(caught.value)
            assert KEY not in repr(octo) + str(octo) + repr(vars(octo))
    assert KEY not in caplog.text
    assert KEY not in repr([vars(record) for record in caplog.records])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["retrieve", "submit", "download"])
async def test_a_cancelled_call_does_not_show_the_key(call: str, tmp_path: Path) -> None:
    """A caller's own time-out is chained to a cancellation, which comes out of aiohttp's frames."""
    async with RawServer([stall]) as server, session(server.url) as octo:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1):
                await CALLS[call](octo, tmp_path)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert_hidden(caught.value)
    frames = [
        frame
        for error in (caught.value, caught.value.__cause__)
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    assert frames
    for frame in frames:
        assert "aiohttp" not in Path(frame.f_code.co_filename).parts


async def test_errors_of_the_settings_do_not_show_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is found wrong only in the first call is raised where the key is not yet known."""
    for name, value in (("SSL_CERT_FILE", "/missing.pem"), ("HTTPS_PROXY", "socks5://h:1")):
        with monkeypatch.context() as environment:
            environment.setenv(name, value)
            async with session("https://gateway.example") as octo:
                with pytest.raises(ConfigurationError, match=name) as caught:
                    await octo.retrieve("task_1")
                assert_hidden(caught.value)


@pytest.mark.parametrize("wrong", [f"Bearer {KEY}", f"{KEY}\n{KEY}", f"{KEY} {KEY}", f"{KEY}é"])
async def test_a_malformed_key_is_not_repeated(wrong: str) -> None:
    """The error about a key says what is wrong with it, and nothing of it."""
    with pytest.raises(ConfigurationError, match="OCTOPUSX_API_KEY") as caught:
        APIKey(wrong)
    assert_hidden(caught.value)
    async with ScriptedGateway() as gateway, session(gateway.url, lambda: wrong) as octo:
        with pytest.raises(ConfigurationError, match="OCTOPUSX_API_KEY") as late:
            await octo.retrieve("task_1")
        assert_hidden(late.value)
        assert gateway.calls == []


@pytest.mark.parametrize("key", ["", "   ", None, 7, b"sk-bytes-0123456"])
def test_a_key_that_is_none_is_refused(key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key, or one of another type, is missing; so is an empty variable."""
    monkeypatch.setenv("OCTOPUSX_API_KEY", " ")
    with pytest.raises(ConfigurationError, match="key is missing"):
        Session(key)


def holding(key: str) -> Any:
    """Return a callable whose own `repr` shows the key."""
    return functools.partial(str, key)


@pytest.mark.parametrize("source", [KEY, holding(KEY)], ids=["key", "callable"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "octopusx.ai"},
        {"request_timeout": 0},
        {"proxy": "socks5://127.0.0.1:1"},
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"headers": {"X-Key": KEY}, "max_tasks": 0},
        {"poll": 10},
        {"on_event": "print"},
    ],
    ids="-".join,
)
def test_no_refused_setting_shows_the_key(source: Any, wrong: dict[str, Any]) -> None:
    """Whichever setting is refused, no frame of ours holds the key, its callable or the headers."""
    with pytest.raises(ConfigurationError) as caught:
        Session(source, **{"base_url": "http://127.0.0.1:9", **wrong})
    assert_hidden(caught.value)


@pytest.mark.parametrize("wrong", [f"Bearer {KEY}", f"{KEY} {KEY}"])
def test_a_session_does_not_repeat_a_malformed_key(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is refused is in no frame either, given or from the environment."""
    with pytest.raises(ConfigurationError, match="OCTOPUSX_API_KEY") as given:
        Session(wrong)
    assert_hidden(given.value)
    monkeypatch.setenv("OCTOPUSX_API_KEY", wrong)
    with pytest.raises(ConfigurationError, match="OCTOPUSX_API_KEY") as found:
        Session()
    assert_hidden(found.value)


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    """A key read from a file with its line's end is used without it."""
    headers = asyncio.run(APIKey(f" {KEY}\n").headers({}))
    assert headers == {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_session_and_key_are_not_pickled_or_copied(duplicate: Any) -> None:
    """Neither leaves its process or is shared by halves, and the refusal does not show the key."""
    octo = Session(KEY, base_url="http://127.0.0.1:9")
    for thing, refusal in ((octo, "session can't be copied"), (APIKey(KEY), "can't be pickled")):
        with pytest.raises(TypeError, match=refusal) as caught:
            duplicate(thing)
        assert_hidden(caught.value)
    assert repr(APIKey(KEY)) == str(APIKey(KEY)) == "<APIKey>"


async def test_a_transport_is_not_pickled() -> None:
    """What holds the key further in is held back by it."""
    octo = Session(KEY, base_url="http://127.0.0.1:9")
    for duplicate in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="can't be pickled"):
            duplicate(octo._transport)


async def asynchronous() -> str:
    return KEY


@pytest.mark.parametrize("source", [lambda: KEY, asynchronous, lambda: f"{KEY}\n"])
async def test_a_callable_gives_the_key(source: Any) -> None:
    """The key may come from a function, plain or asynchronous, asked before each call."""
    asked = []

    def counted() -> Any:
        asked.append(1)
        return source()

    async with ScriptedGateway() as gateway, session(gateway.url, counted) as octo:
        await octo.retrieve("task_1")
        await octo.retrieve("task_1")
    assert {call.headers["Authorization"] for call in gateway.calls} == {f"Bearer {KEY}"}
    assert len(asked) == 2


async def test_a_callable_that_fails_sent_nothing(tmp_path: Path) -> None:
    """An exception of the callable's is told without a chain, and tried again as one of the net."""
    reasons: Iterator[BaseException | str] = itertools.chain(
        [KEY], itertools.repeat(TimeoutError(f"the vault does not know {KEY}"))
    )

    def moody() -> str:
        reason = next(reasons)
        if isinstance(reason, BaseException):
            raise reason
        return reason

    async with ScriptedGateway() as gateway, session(gateway.url, moody) as octo:
        await octo.retrieve("task_1")
        for call in CALLS.values():
            with pytest.raises(OctoremixError) as caught:
                await call(octo, tmp_path)
            assert_hidden(caught.value)
        with pytest.raises(APIConnectionError) as last:
            await octo.submit("video_1", prompt="snow")
    assert str(last.value) == (
        "nothing was sent, because the api_key callable failed: TimeoutError: the vault does not "
        "know [API key]"
    )
    assert len(gateway.calls) == 1


@pytest.mark.parametrize("nonsense", [None, "", 7, b"sk-bytes-0123456", ["sk"], {}])
async def test_a_callable_that_returns_nonsense_sent_nothing(nonsense: Any) -> None:
    """What is no key is refused before anything leaves, also in the first call."""
    async with ScriptedGateway() as gateway, session(gateway.url, lambda: nonsense) as octo:
        with pytest.raises(ConfigurationError, match="key is missing"):
            await octo.submit("video_1", prompt="snow")
    assert gateway.calls == []


@pytest.fixture
async def rotating() -> AsyncIterator[tuple[Session, RawServer, list[str]]]:
    """A session with another key for each call, to a gateway that repeats it after a second."""
    given: list[str] = []

    def rotate() -> str:
        given.append(f"sk-rotated-{len(given):08}")
        return given[-1]

    async def repeat(call: Any, writer: Any) -> bool:
        await asyncio.sleep(1)
        body = json.dumps({"error": {"message": call.header("Authorization")}}).encode()
        writer.write(http(body, status="400 Bad"))
        return False

    async with RawServer([repeat]) as server, session(server.url, rotate) as octo:
        yield octo, server, given


async def test_a_key_that_was_replaced_meanwhile_is_blotted_out_too(
    rotating: tuple[Session, RawServer, list[str]],
) -> None:
    """Answers to calls with the last keys come when newer ones are in use."""
    octo, server, given = rotating
    results = await asyncio.gather(
        *(octo.retrieve(f"task_{number}") for number in range(20)), return_exceptions=True
    )
    used = {str(call.header("Authorization")).removeprefix("Bearer ") for call in server.calls}
    assert used == set(given)
    assert len(used) == 20
    for error in results:
        assert isinstance(error, APIError)
        assert error.message == "Bearer [API key]"
        assert_hidden(error, *given)


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("sk/with+signs/of==base64", r"sk\/with+signs\/of==base64"),
        ("sk/with+signs/of==base64", "sk%2Fwith%2Bsigns%2Fof%3D%3Dbase64"),
    ],
)
async def test_a_key_is_blotted_out_in_other_spellings(key: str, written: str) -> None:
    """JSON may escape a slash, and an address escapes more."""
    body = f'{{"error": {{"message": "no such key: {written}"}}}}'.encode()
    async with RawServer([answering(http(body, status="400 Bad"))]) as server:
        async with session(server.url, key) as octo:
            with pytest.raises(APIError, match=r"\[API key\]") as caught:
                await octo.retrieve("task_1")
    assert_hidden(caught.value, key, written)


async def test_the_longer_of_two_keys_leaves_no_tail() -> None:
    """Where one key begins with another, all of the longer one is blotted out."""
    keys = iter(["sk-12345678", "sk-12345678-and-more"])
    key = APIKey(lambda: next(keys))
    await key.headers({})
    await key.headers({})
    assert key.redact(b"sk-12345678-and-more, sk-12345678") == b"[API key], [API key]"
    assert key.redact_text("sk-12345678-and-more!") == "[API key]!"


async def test_a_stand_in_for_a_key_does_not_garble_answers() -> None:
    """A key such as "id", of a test's gateway, is part of every answer and stays in it."""
    async with ScriptedGateway(polls=[task("processing", model="test")]) as gateway:
        async with session(gateway.url, "id") as octo:
            video = await octo.retrieve("task_1")
    assert video.raw["id"] == "task_1"


async def test_foreign_text_is_escaped_in_errors_and_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Escape sequences, newlines and direction marks of the gateway's never reach a terminal."""
    caplog.set_level(logging.DEBUG, logger="octoremix")
    message = json.dumps({"error": {"message": BURST.decode(), "code": BURST.decode()}}).encode()
    answers = [
        http(message, status="400 Bad"),
        http(BURST, status="500 Oops", headers="Content-Type: text/html\r\n"),
        http(b"", status="302 Found", headers="Location: /\x1b[2J\xc2\x9b\r\n"),
        b"HTTP/1.1 200 \x1b[2J\r\n\x1b[2J: x\r\nx\x00y: \x07\r\n\r\n",
    ]
    for answer in answers:
        async with RawServer([answering(answer)]) as server, session(server.url) as octo:
            for call in ("retrieve", "submit", "poll"):
                with pytest.raises(OctoremixError) as caught:
                    await CALLS[call](octo, Path())
                assert str(caught.value).isprintable(), str(caught.value)
    for record in caplog.records:
        assert record.getMessage().isprintable(), record.getMessage()
