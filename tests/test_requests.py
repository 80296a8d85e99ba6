"""Requests as they leave: addresses byte for byte, bodies as the gateway reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from octoremix import ConfigurationError, RemixRequest
from octoremix._protocol import API, DEFAULT_BASE_URL, is_loopback, parse_base_url

API_ = API(parse_base_url(DEFAULT_BASE_URL))
PREFIX = "/v1/videos/"
T = TypeVar("T")


def attempt(make: Callable[[], T]) -> tuple[T | None, ConfigurationError | None]:
    """What `make` returns, or why it is refused; anything else that it raises is a bug."""
    try:
        return make(), None
    except ConfigurationError as error:
        return None, error


def segment(url: URL, action: str) -> str:
    """The task's part of a request's path, exactly as it is sent."""
    sent = url.raw_path_qs
    assert sent.startswith(PREFIX)
    assert sent.endswith(action)
    return sent[len(PREFIX) : len(sent) - len(action)]


IDS = {
    "plain": "video_fafb00cb-5475-4882-8714-57df146c6dbe",
    "colon": "grok:48a67431-0708-46d1-9ab9-83cb84700153",
    "slash": "a/b//c/",
    "equals": "dmlkZW8=",
    "percent": "a%2Fb%",
    "plus": "a+b",
    "space": " a b ",
    "query": "a?b=c#d",
    "long": "x" * 254,
    "emoji": "🎬é中",
    "backslash": "a\\b",
    "controls": "a\r\nX-Header: b\x00\x1b[31m",
    "brackets": "{video_id}[0]",
    "dots": "...",
    "dotted": "a/../b",
    "dot slash": "./.",
    "tilde": "~-._",
}


@pytest.mark.parametrize("name", IDS)
def test_an_id_arrives_byte_for_byte(name: str) -> None:
    """An id is one segment of the path and decodes to the same bytes."""
    request = RemixRequest(video_id=IDS[name], prompt="p")
    for url, action in [
        (API_.query(IDS[name]).url, ""),
        (API_.content(IDS[name]).url, "/content"),
        (API_.remix(request).url, "/remix"),
    ]:
        sent = segment(url, action)
        assert "/" not in sent
        assert "?" not in sent
        assert unquote_to_bytes(sent) == IDS[name].encode()
        assert url.origin() == URL(DEFAULT_BASE_URL)


@given(
    task_id=st.text(min_size=1).filter(lambda text: text.strip() and text not in {".", ".."}),
    prompt=st.text(min_size=1).filter(str.strip),
    extra=st.dictionaries(
        st.text(max_size=9).filter(lambda name: name not in {"prompt", "model", "seconds"}),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    ),
)
def test_any_id_and_prompt_arrive(task_id: str, prompt: str, extra: dict[str, Any]) -> None:
    """Whatever can be sent arrives as it was given; what can't is refused with its reason."""
    request, refusal = attempt(lambda: RemixRequest(video_id=task_id, prompt=prompt, extra=extra))
    if request is None:
        assert str(refusal).isprintable()
        return
    sent = API_.remix(request)
    assert unquote_to_bytes(segment(sent.url, "/remix")).decode() == task_id
    assert sent.body is not None
    body = json.loads(sent.body)
    assert body == {"prompt": prompt, "model": request.model, **extra}


def test_a_remix_is_the_documented_request() -> None:
    """A remix is a POST of prompt and model as JSON."""
    request = RemixRequest(video_id="video_123", prompt="牛飞到海里去了", model="veo_3_1-extend")
    sent = API_.remix(request)
    assert sent.method == "POST"
    assert str(sent.url) == "https://octopusx.ai/v1/videos/video_123/remix"
    assert sent.body == '{"prompt": "牛飞到海里去了", "model": "veo_3_1-extend"}'.encode()


def test_queries_have_no_body() -> None:
    """What is asked for with GET is all in the path."""
    for request in (API_.query("a"), API_.content("a")):
        assert (request.method, request.body) == ("GET", None)


@pytest.mark.parametrize(
    ("seconds", "sent"), [(8, "8"), (5.5, "5.5"), ("8", "8"), (None, None), (True, True)]
)
def test_seconds_are_sent_as_a_text(seconds: object, sent: object) -> None:
    """The gateway refuses a number of seconds, so a number goes as its text."""
    request = RemixRequest(video_id="a", prompt="p", extra={"seconds": seconds, "size": "720P"})
    body = json.loads(API_.remix(request).body or b"")
    assert body == {"prompt": "p", "model": request.model, "seconds": sent, "size": "720P"}
    assert request.extra["seconds"] is seconds


BASES: dict[str, str] = {
    "https://octopusx.ai": "https://octopusx.ai",
    "https://octopusx.ai/": "https://octopusx.ai",
    "https://octopusx.ai/v1": "https://octopusx.ai",
    "https://octopusx.ai/v1/": "https://octopusx.ai",
    "  https://octopusx.ai/v1\n": "https://octopusx.ai",
    "HTTPS://OctopusX.AI": "https://octopusx.ai",
    "https://gateway.example/octopus": "https://gateway.example/octopus",
    "https://gateway.example/octopus/v1/": "https://gateway.example/octopus",
    "https://gateway.example/a%2Fb/v1": "https://gateway.example/a%2Fb",
    "https://gateway.example/v1beta": "https://gateway.example/v1beta",
    "https://gateway.example:8443/v1": "https://gateway.example:8443",
    "http://127.0.0.1:8080": "http://127.0.0.1:8080",
    "http://[::1]:8080/v1": "http://[::1]:8080",
    "http://localhost": "http://localhost",
}


@pytest.mark.parametrize("text", BASES)
def test_a_base_url_with_or_without_v1(text: str) -> None:
    """The version at the end may be there or not, and a path before it stays."""
    api = API(parse_base_url(text))
    assert str(api.query("a").url) == f"{BASES[text]}/v1/videos/a"
    assert str(api.origin) == str(URL(BASES[text]).origin())


FIX = "OCTOPUSX_BASE_URL"
# What is wrong, and the words of the error that name it.
BAD_BASES: list[tuple[object, tuple[str, ...]]] = [
    ("", ("missing", FIX)),
    (" \n", ("missing", FIX)),
    (None, ("NoneType", FIX)),
    (URL("https://octopusx.ai"), ("URL", FIX)),
    (b"https://octopusx.ai", ("bytes", FIX)),
    ("octopusx.ai", ("http(s)", "'octopusx.ai'", FIX)),
    ("octopusx.ai/v1", ("http(s)", FIX)),
    ("ftp://octopusx.ai", ("http(s)", FIX)),
    ("https://", ("http(s)", FIX)),
    ("https:///v1", ("http(s)", FIX)),
    ("https:octopusx.ai", ("http(s)", FIX)),
    ("https://octopusx.ai:99999", ("http(s)", FIX)),
    ("https://octopusx.ai:port", ("http(s)", FIX)),
    ("https://[::1", ("http(s)", FIX)),
    ("https://octopusx.ai /v1", ("http(s)", FIX)),
    ("https://octo pusx.ai", ("http(s)", FIX)),
    ("https://octopusx.ai\x1b[31m", ("http(s)", r"\x1b", FIX)),
    ("https://octopusx.ai\u202e/v1", ("http(s)", r"\u202e", FIX)),
    ("https://octopusx.ai/v1/videos", ("one call's", FIX)),
    ("https://octopusx.ai/v1/videos/video_123/remix", ("one call's", FIX)),
    ("https://octopusx.ai/v1/videos/{video_id}/remix", ("one call's", FIX)),
    ("https://octopusx.ai/v1/chat/completions/", ("one call's", FIX)),
    ("https://octopusx.ai/?page=docs", ("one call's", FIX)),
    ("https://octopusx.ai/#remix", ("one call's", FIX)),
    ("https://user:hunter2@octopusx.ai", ("user name", "api_key=")),
    ("https://hunter2@octopusx.ai/v1", ("user name", "api_key=")),
    ("https://:hunter2@octopusx.ai", ("user name", "api_key=")),
    ("https://user:hunt@hunter2@octopusx.ai", ("octopusx.ai",)),
    ("https://user:hunter2/x@octopusx.ai", ("http(s)", FIX)),
    ("user:hunter2@octopusx.ai", ("http(s)", FIX)),
    ("https://user:hunter2\n@octopusx.ai", ("http(s)", FIX)),
    ("https://octopusx.ai/?api_key=hunter2", ("one call's", FIX)),
    ("https://octopusx.ai/v1#hunter2", ("one call's", FIX)),
]


@pytest.mark.parametrize(("text", "words"), BAD_BASES)
def test_a_bad_base_url_names_the_fix(text: object, words: tuple[str, ...]) -> None:
    """An address that is none of a gateway is refused with the fix, and no secret is repeated."""
    with pytest.raises(ConfigurationError) as caught:
        parse_base_url(text)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "hunter2" not in message
    assert message.isprintable()


@given(st.text(max_size=40) | st.text(max_size=20).map("https://{}".format))
def test_any_text_is_a_base_url_or_a_configuration_error(text: str) -> None:
    """Nothing but a usable address or the named error comes of any text."""
    base, refusal = attempt(lambda: parse_base_url(text))
    if base is None:
        assert str(refusal).isprintable()
    else:
        assert API(base).query("a").url.raw_path.endswith("/v1/videos/a")


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://gateway.example/x", True),
        ("https://gateway.example:443/v1/videos/a/content", True),
        ("https://GATEWAY.example/", True),
        ("https://user@gateway.example/", True),
        ("http://gateway.example/", False),
        ("https://gateway.example:444/", False),
        ("https://gateway.example.evil.example/", False),
        ("https://gateway.example@evil.example/", False),
        ("https://cdn.example/", False),
        ("http:///x", False),
        ("/v1/videos/a/content", False),
        ("data:video/mp4;base64,AAAA", False),
    ],
)
def test_only_the_gateways_own_origin_is_own(url: str, own: bool) -> None:
    """Scheme, host and port have to be the gateway's for the key to go along."""
    assert API(parse_base_url("https://gateway.example/octopus")).is_own(URL(url)) is own


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1", True),
        ("http://gateway.localhost", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]", True),
        ("http://localhost.example", False),
        ("http://10.0.0.1", False),
        ("http://[fe80::1]", False),
        ("http://octopusx.ai", False),
        ("/path", False),
    ],
)
def test_which_addresses_are_this_machine(url: str, loopback: bool) -> None:
    """Loopback addresses and the names under localhost are, and nothing that looks like them."""
    assert is_loopback(URL(url)) is loopback


def test_an_api_shows_its_address() -> None:
    """The repr tells which gateway is meant."""
    assert repr(API_) == "<API at https://octopusx.ai>"
