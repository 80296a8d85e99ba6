"""Proxies, certificates and what else the environment says about the network."""

from __future__ import annotations

import os
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from octoremix import APIConnectionError, ConfigurationError, RetryPolicy, Session
from octoremix._environment import check_headers, environment_proxy
from octoremix._protocol import parse_base_url
from octoremix._transport import MOST_PROXIES

from .raw_servers import CERTIFICATE, KEY, RawServer, RecordingProxy, answering, http
from .scripted import ScriptedGateway

ONCE = RetryPolicy(attempts=1)
NOWHERE = "http://gateway.localhost:9"  # loopback by its name, so that http is no matter
SECRET = "pass-word"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, certificate file or key of the machine's."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("OCTOPUSX_", "SSL_CERT_")):
            monkeypatch.delenv(name)


async def retrieve(url: str, **settings: Any) -> None:
    async with Session(KEY, base_url=url, retry=ONCE, **settings) as octo:
        await octo.retrieve("task_1")


async def refusal(url: str, **settings: Any) -> str:
    with pytest.raises((APIConnectionError, ConfigurationError)) as caught:
        await retrieve(url, **settings)
    return str(caught.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
async def test_http_proxy_is_used_for_http(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A plain gateway is asked through the environment's proxy, which sees the whole address."""
    async with RecordingProxy([answering(http())]) as proxy:
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        await retrieve(NOWHERE)
    assert [call.target for call in proxy.calls] == [f"{NOWHERE}/v1/videos/task_1"]


async def test_https_proxy_tunnels_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted gateway is reached through a tunnel, and the proxy never sees the key."""
    async with (
        RawServer([answering(http())], tls=True) as gateway,
        RecordingProxy([answering(http())]) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        await retrieve(gateway.url)
    (tunnel,) = proxy.calls
    assert (tunnel.method, tunnel.target) == ("CONNECT", f"127.0.0.1:{gateway.port}")
    assert KEY.encode() not in tunnel.head
    assert gateway.calls[0].header("Authorization") == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("*", True),
        ("127.0.0.1", True),
        ("other.example, 127.0.0.1", True),
        ("other.example", False),
        ("", False),
    ],
)
async def test_no_proxy_names_what_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, direct: bool
) -> None:
    """Hosts of `NO_PROXY` are asked without the proxy, all others through it."""
    async with ScriptedGateway() as gateway, RecordingProxy([answering(http())]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        await retrieve(gateway.url)
    assert bool(gateway.calls) is direct
    assert bool(proxy.calls) is not direct


def test_no_proxy_may_name_a_port_and_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NO_PROXY` matches subdomains, and a port where it names one."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", ".inner.example,gateway.example:8443")
    direct = {
        address: environment_proxy(parse_base_url(address)) is None
        for address in (
            "https://api.inner.example",
            "https://gateway.example:8443",
            "https://gateway.example",
            "https://outer.example",
        )
    }
    assert list(direct.values()) == [True, True, False, False]


async def test_proxy_false_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`proxy=False` turns the environment's proxy off."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with ScriptedGateway() as gateway:
        await retrieve(gateway.url, proxy=False)
    assert len(gateway.calls) == 1


async def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`proxy=` is used for every host, whatever the environment and its exceptions say."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    async with RecordingProxy([answering(http())]) as proxy:
        await retrieve(NOWHERE, proxy=f"127.0.0.1:{proxy.port}")  # the scheme may be left out
    assert len(proxy.calls) == 1


async def test_a_proxys_password_goes_to_the_proxy_on_every_call() -> None:
    """Name and password in the proxy's address authorise each call, also on a reused connection."""
    async with RecordingProxy([answering(http(), keep=True)]) as proxy:
        address = f"http://user:{SECRET}@127.0.0.1:{proxy.port}"
        async with Session(KEY, base_url=NOWHERE, proxy=address) as octo:
            await octo.retrieve("task_1")
            await octo.retrieve("task_2")
    assert proxy.connections == 1
    for call in proxy.calls:
        assert (call.header("Proxy-Authorization") or "").startswith("Basic ")
        assert call.header("Authorization") == f"Bearer {KEY}"


@pytest.mark.parametrize("secure", [False, True])
async def test_a_proxys_password_is_never_shown(secure: bool) -> None:
    """Where the proxy refuses, breaks or is not there, no error repeats its password."""
    refused = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    base = "https://gateway.example" if secure else NOWHERE
    shown = [await refusal(base, proxy=f"http://user:{SECRET}@127.0.0.1:9")]
    async with RecordingProxy([answering(b"")], refuse_tunnels=refused) as proxy:
        shown.append(await refusal(base, proxy=f"http://user:{SECRET}@127.0.0.1:{proxy.port}"))
    async with RecordingProxy(
        [answering(b"what?\r\n\r\n")], refuse_tunnels=b"what?\r\n\r\n"
    ) as proxy:
        shown.append(await refusal(base, proxy=f"http://user:{SECRET}@127.0.0.1:{proxy.port}"))
    assert "the proxy 127.0.0.1:9 is not there (Connection refused)" in shown[0]
    if secure:
        assert "the proxy answered 407 Proxy Authentication Required" in shown[1]
    for text in shown:
        assert SECRET not in text


MALFORMED = [
    "http://",
    "http://user:pass-word@host:port",
    "ftp://user:pass-word@host:21",
    "file:///pass-word",
    "socks5://user:pass-word@127.0.0.1:1080",
    "socks5h://user:pass-word@127.0.0.1:1080",
    "http://user:pass-word@:3128",
    True,
    3128,
    b"http://host:1",
]


@pytest.mark.parametrize("proxy", MALFORMED)
def test_a_proxy_that_can_not_be_used_is_refused_at_once(proxy: Any) -> None:
    """An address of no HTTP proxy is a `ConfigurationError` that names the fix, not the password."""
    with pytest.raises(ConfigurationError, match="HTTP proxy") as caught:
        Session(KEY, proxy=proxy)
    assert SECRET not in str(caught.value)
    assert ("SOCKS" in str(caught.value)) is str(proxy).startswith("socks")


@pytest.mark.parametrize("address", [each for each in MALFORMED if isinstance(each, str)])
async def test_a_proxy_of_the_environment_that_can_not_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """A malformed variable is named in the error, and nothing is sent around the proxy."""
    async with ScriptedGateway() as gateway:
        monkeypatch.setenv("HTTP_PROXY", address)
        text = await refusal(gateway.url)
        assert gateway.calls == []
    assert text.startswith("the environment's HTTP_PROXY")
    assert SECRET not in text


async def test_ssl_cert_file_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that only `SSL_CERT_FILE` vouches for is trusted."""
    async with RawServer([answering(http())], tls=True) as gateway:
        assert "is not trusted" in await refusal(gateway.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        await retrieve(gateway.url)


async def test_ssl_cert_dir_is_honoured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`SSL_CERT_DIR` takes the place of the system's folder, also where it holds nothing."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    async with RawServer([answering(http())], tls=True) as gateway:
        assert "is not trusted" in await refusal(gateway.url)


async def test_a_certificate_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenSSL would silently trust nobody; we say which variable is wrong."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    async with RawServer([answering(http())], tls=True) as gateway:
        text = await refusal(gateway.url)
        assert "SSL_CERT_FILE names" in text
        assert "missing.pem" in text
        # With ssl= the variable is not consulted.
        await retrieve(gateway.url, ssl=False)
    async with ScriptedGateway() as plain:
        await retrieve(plain.url)  # which needs no certificates


async def test_a_context_of_the_users_decides() -> None:
    """`ssl=` takes an `ssl.SSLContext` that trusts what it was told to."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with RawServer([answering(http())], tls=True) as gateway:
        await retrieve(gateway.url, ssl=context)
        assert "is not trusted" in await refusal(gateway.url, ssl=ssl.create_default_context())


async def test_ssl_false_verifies_nothing() -> None:
    """`ssl=False` accepts any certificate, and `ssl=True` is the default."""
    async with RawServer([answering(http())], tls=True) as gateway:
        await retrieve(gateway.url, ssl=False)
        assert "is not trusted" in await refusal(gateway.url, ssl=True)


async def test_netrc_is_never_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A .netrc with an entry for the gateway neither replaces the key nor joins it."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    async with ScriptedGateway() as gateway:
        await retrieve(gateway.url)
    assert gateway.calls[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "base_url", ["http://gateway.example", "http://192.168.0.7:3000/v1", "HTTP://10.0.0.1"]
)
def test_an_unencrypted_gateway_warns_once(base_url: str) -> None:
    """The key in clear text on a network is warned about, at the line that made the session."""
    with pytest.warns(UserWarning, match="not encrypted") as caught:
        Session(KEY, base_url=base_url)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "base_url",
    [
        "https://gateway.example",
        "http://127.0.0.1:3000",
        "http://127.1.2.3",
        "http://localhost",
        "http://gateway.localhost",
        "http://[::1]:3000",
    ],
)
def test_loopback_and_https_do_not_warn(base_url: str) -> None:
    """What never leaves the machine, or is encrypted, is nobody's worry."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Session(KEY, base_url=base_url)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Team": "film\r\nX-Evil: 1"},
        {"X-Team": "film\0"},
        {"X-Team": "\ud800"},
        {"X-Team": 7},
        {7: "x"},
        {"": "x"},
        {"X Team": "x"},
        {"X-Team:": "x"},
        {"X-Teäm": "x"},
        {"X-Team\n": "x"},
        {"Authorization": "Bearer other"},
        {"AUTHORIZATION": "Bearer other"},
        {"Content-Length": "3"},
        {"transfer-encoding": "chunked"},
        {"Host": "elsewhere.example"},
        [("X-Team", "film")],
        "X-Team: film",
    ],
)
def test_headers_that_can_not_be_sent_are_refused_at_once(headers: Any) -> None:
    """A malformed header, or one that would take the place of ours, fails before any I/O."""
    with pytest.raises(ConfigurationError, match="header"):
        Session(KEY, headers=headers)


def test_good_headers_are_copied() -> None:
    """What the caller does with the mapping afterwards changes nothing."""
    given = {"X-Team": "film, Ünïcode", "CF-Access-Client-Id": "1"}
    checked = check_headers(given)
    given.clear()
    assert checked == {"X-Team": "film, Ünïcode", "CF-Access-Client-Id": "1"}
    assert check_headers(None) == {}


def test_proxies_are_remembered_for_few_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to a host of its own for each video leave no more behind than a few hosts do."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    transport = Session("key")._transport
    for number in range(2 * MOST_PROXIES):
        proxy = transport._proxy_for(URL(f"https://cdn-{number}.example/video.mp4"))
        assert proxy == URL("http://proxy.example:3128")
        assert len(transport._proxies) <= MOST_PROXIES
