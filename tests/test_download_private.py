"""A link leads to the public internet or nowhere, whoever resolves and whatever is in between."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from octoremix import (
    ConfigurationError,
    DownloadError,
    OctoremixError,
    RetryPolicy,
    Session,
    TaskStatus,
    Video,
    _guard,
)

from .raw_servers import KEY, RawServer, RecordingProxy, answering, http, transport_to
from .scripted import Answer, ScriptedGateway, reply

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(5000)
ONCE = RetryPolicy(attempts=1)
SECRET = "signature-0123456789"


def content() -> Answer:
    return reply(MP4, headers={"Content-Type": "video/mp4"})


def moved(location: str) -> Answer:
    return reply(status=302, headers={"Location": location})


def session(gateway: Any, **settings: Any) -> Session:
    return Session(KEY, base_url=gateway.url, **{"retry": ONCE, "proxy": False} | settings)


def video(url: str | None = None) -> Video:
    return Video(id="task_1", status=TaskStatus.COMPLETED, url=url)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The names that can be resolved, and to which addresses; each look-up takes the first list."""
    known: dict[str, list[str]] = {}

    async def getaddrinfo(_: object, host: str, port: int, **__: object) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in known[host]
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as public where a name leads to it, so that a server can stand there."""
    judge = _guard.refusal_of_address

    def refusal(address: str) -> str | None:
        return None if address == "127.0.0.1" else judge(address)

    monkeypatch.setattr(_guard, "refusal_of_address", refusal)


async def refused(link: str, folder: Path, **settings: Any) -> DownloadError:
    """Offer a link as a redirect of `/content`, and return the error."""
    async with ScriptedGateway(contents=[moved(link)]) as gateway:
        async with session(gateway, **settings) as octo:
            with pytest.raises(DownloadError) as caught:
                await octo.download(video(), folder / "clip.mp4")
        assert len(gateway.calls) == 1
    assert list(folder.iterdir()) == []
    assert caught.value.id == "task_1"
    assert SECRET not in f"{caught.value} {vars(caught.value)}"
    return caught.value


LITERALS = [
    "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fe80::1%25eth0]/",
    "http://0.0.0.0:9/",
    "http://127.0.0.2/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://localhost:9/",
    "http://user:word@127.0.0.1.:9/",
    "http://\uff11\uff12\uff17.0.0.2/",
]


@pytest.mark.parametrize("link", LITERALS)
async def test_a_hop_to_a_private_address_is_refused(link: str, tmp_path: Path) -> None:
    """Also in odd spellings, and without any connection."""
    error = await refused(f"{link}clip.mp4?{SECRET}", tmp_path)
    assert "pass allow_private_links=True to Session if that is meant" in str(error)
    assert error.url is not None
    assert error.url.startswith("http://")


@pytest.mark.parametrize("link", LITERALS)
async def test_a_link_to_a_private_address_is_passed_over(link: str, tmp_path: Path) -> None:
    """The gateway's own `/content` is asked instead."""
    async with ScriptedGateway(contents=[content()]) as gateway, session(gateway) as octo:
        path = await octo.download(video(link), tmp_path / "clip.mp4")
        assert len(gateway.calls) == 1
    assert path.read_bytes() == MP4


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["8.8.8.8", "169.254.169.254"],
        ["2606:4700::1111", "fd00:ec2::254"],
    ],
)
async def test_a_name_at_a_private_address_is_refused(
    addresses: list[str], names: dict[str, list[str]], tmp_path: Path
) -> None:
    """The address counts at which a connection would be made; one that is private is enough."""
    names["cdn.example"] = addresses
    error = await refused(f"http://cdn.example/clip.mp4?{SECRET}", tmp_path)
    assert "cdn.example, which is at " in str(error)
    assert error.url == "http://cdn.example/clip.mp4"


async def test_a_name_that_changes_its_address_gains_nothing(
    names: dict[str, list[str]], lenient: None, tmp_path: Path
) -> None:
    """Each connection is made to an address that was looked up and checked for it (rebinding)."""
    names["cdn.example"] = ["127.0.0.1"]  # which counts as public here
    async with ScriptedGateway(contents=[content()]) as cdn:
        link = cdn.url.replace("127.0.0.1", "cdn.example") + "/clip.mp4"
        async with ScriptedGateway(contents=[moved(link)]) as gateway, session(gateway) as octo:
            path = await octo.download(video(), tmp_path / "clip.mp4")
            assert path.read_bytes() == MP4
            path.unlink()
            await cdn.__aexit__()  # so that its connection is not used again
            names["cdn.example"] = ["127.0.0.2"]
            with pytest.raises(DownloadError, match=r"cdn\.example, which is at 127\.0\.0\.2"):
                await octo.download(video(), tmp_path / "clip.mp4")
    assert len(cdn.calls) == 1
    assert "Authorization" not in cdn.calls[0].headers
    assert list(tmp_path.iterdir()) == []


async def test_a_name_that_is_not_known_is_a_connection_error(
    names: dict[str, list[str]], tmp_path: Path
) -> None:
    """A failing look-up may pass, unlike a refusal."""
    async with ScriptedGateway(contents=[moved("https://cdn.example/x")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(OctoremixError, match="its name is not known"):
                await octo.download(video(), tmp_path / "clip.mp4")


async def test_the_gateways_own_host_may_be_private(tmp_path: Path) -> None:
    """Another port of it may serve the results, of whatever case its name is written in."""
    async with ScriptedGateway(contents=[content()]) as cdn, ScriptedGateway() as gateway:
        base = gateway.url.replace("127.0.0.1", "localhost")
        link = cdn.url.replace("127.0.0.1", "LocalHost") + "/clip.mp4"
        octo = Session(KEY, base_url=base, retry=ONCE, proxy=False)
        async with octo:
            await octo.download(video(link), tmp_path / "clip.mp4")
        assert gateway.calls == []
    assert "Authorization" not in cdn.calls[0].headers


async def test_private_links_can_be_allowed(tmp_path: Path) -> None:
    """Where the storage is in one's own network, the caller says so; the key stays home anyway."""
    async with ScriptedGateway(contents=[content()]) as cdn, ScriptedGateway() as gateway:
        link = cdn.url.replace("127.0.0.1", "localhost") + "/clip.mp4"
        async with session(gateway, allow_private_links=True) as octo:
            await octo.download(video(link), tmp_path / "clip.mp4")
    assert "Authorization" not in cdn.calls[0].headers


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_allowing_them_is_a_plain_yes_or_no(value: Any) -> None:
    """What is neither True nor False is refused."""
    with pytest.raises(ConfigurationError, match="allow_private_links must be True or False"):
        Session(KEY, allow_private_links=value)


async def test_a_session_of_the_callers_opens_no_side_door(
    names: dict[str, list[str]], tmp_path: Path
) -> None:
    """Its connector resolves as it likes, so links to other hosts don't go over it."""
    names["cdn.example"] = ["127.0.0.1"]
    async with ScriptedGateway(contents=[content()]) as cdn:
        link = cdn.url.replace("127.0.0.1", "cdn.example") + "/clip.mp4"
        async with aiohttp.ClientSession() as own:
            error = await refused(link, tmp_path, http=own)
            assert "which is at 127.0.0.1, a loopback address" in str(error)
            await refused(link.replace("cdn.example", "127.0.0.2"), tmp_path, http=own)
        assert cdn.calls == []


async def test_with_a_session_of_the_callers_links_are_fetched_all_the_same(
    names: dict[str, list[str]], lenient: None, tmp_path: Path
) -> None:
    """By a connector of our own; the caller's session serves what is on the gateway's host."""
    names["cdn.example"] = ["127.0.0.1"]
    async with ScriptedGateway(contents=[content()]) as cdn, ScriptedGateway() as gateway:
        link = cdn.url.replace("127.0.0.1", "cdn.example") + "/clip.mp4"
        headers = {"Authorization": "Bearer somebody-else"}
        async with aiohttp.ClientSession(headers=headers) as own:
            async with session(gateway, http=own) as octo:
                for number in range(2):  # the connector is made once
                    await octo.download(video(link), tmp_path / f"{number}.mp4")
            assert not own.closed
    assert len(cdn.calls) == 2
    assert not any("Authorization" in call.headers for call in cdn.calls)


MP4_ANSWER = answering(http(MP4, headers="Content-Type: video/mp4\r\n"))


@pytest.mark.parametrize("whose", ["ours", "the session's", "the environment's"])
async def test_behind_a_proxy_the_proxy_resolves(
    whose: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name goes to the proxy as it is; an address in the link itself is still refused."""
    async with RecordingProxy([MP4_ANSWER]) as proxy:
        async with ScriptedGateway() as gateway:
            settings: dict[str, Any] = {"proxy": proxy.url} if whose == "ours" else {"proxy": None}
            arguments: dict[str, Any] = {"proxy": proxy.url} if whose == "the session's" else {}
            if whose == "the environment's":
                monkeypatch.setenv("HTTP_PROXY", proxy.url)
                monkeypatch.delenv("NO_PROXY", raising=False)
                monkeypatch.delenv("no_proxy", raising=False)
                arguments = {"trust_env": True}
            async with aiohttp.ClientSession(**arguments) as own:
                if whose != "ours":
                    settings["http"] = own
                async with session(gateway, **settings) as octo:
                    await octo.download(video("http://cdn.example/clip.mp4"), tmp_path / "a.mp4")
                    path = tmp_path / "b.mp4"
                    await octo.download(video("http://10.0.0.1/clip.mp4"), path)
    targets = [call.target for call in proxy.calls]
    assert targets[0] == "http://cdn.example/clip.mp4"
    assert not any("10.0.0.1" in target for target in targets)
    assert all(call.header("Authorization") is None for call in proxy.calls[:1])


async def test_a_session_that_trusts_an_environment_without_a_proxy_is_guarded(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`trust_env` alone does not make the caller's connector the one that resolves."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    names["cdn.example"] = ["10.0.0.1"]
    async with aiohttp.ClientSession(trust_env=True) as own:
        error = await refused("http://cdn.example/clip.mp4", tmp_path, http=own, proxy=None)
    assert "which is at 10.0.0.1" in str(error)


async def test_tls_is_verified_for_names_behind_the_guard(
    names: dict[str, list[str]], lenient: None, tmp_path: Path
) -> None:
    """The certificate is checked against the name, as everywhere, and `ssl=` holds there, too."""
    names["cdn.example"] = ["127.0.0.1"]
    async with RawServer([MP4_ANSWER], tls=True) as cdn, ScriptedGateway() as gateway:
        link = f"https://cdn.example:{cdn.port}/clip.mp4"
        gateway.contents = [moved(link)]
        async with session(gateway) as octo:
            with pytest.raises(OctoremixError, match="certificate"):
                await octo.download(video(), tmp_path / "clip.mp4")
        async with session(gateway, ssl=False) as octo:
            await octo.download(video(), tmp_path / "clip.mp4")


async def test_calls_of_the_api_are_not_guarded() -> None:
    """A gateway may stand wherever its base URL says."""
    async with ScriptedGateway() as gateway:
        transport = transport_to(gateway.url)
        try:
            async with transport.stream(transport._api.content("task_1").url, {}) as stream:
                assert stream.status == 404
        finally:
            await transport.aclose()
