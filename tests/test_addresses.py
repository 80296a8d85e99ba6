"""No spelling and no embedding makes an address of this network look public."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from octoremix._addresses import refusal_of_address, refusal_of_host

REFUSED: dict[str, str] = {
    "0.0.0.0": "an unspecified",
    "0.1.2.3": "a private or reserved",
    "10.0.0.1": "a private or reserved",
    "100.64.0.1": "a private or reserved",  # carriers' NAT
    "100.100.100.200": "a private or reserved",  # a cloud's metadata
    "127.0.0.1": "a loopback",
    "127.255.255.254": "a loopback",
    "168.63.129.16": "a private or reserved",  # a cloud's services
    "169.254.169.254": "a link-local",  # most clouds' metadata
    "172.16.0.1": "a private or reserved",
    "172.31.255.255": "a private or reserved",
    "192.0.0.192": "a private or reserved",  # a cloud's metadata
    "192.0.2.1": "a private or reserved",
    "192.88.99.1": "a private or reserved",
    "192.168.1.1": "a private or reserved",
    "198.18.0.1": "a private or reserved",
    "224.0.0.1": "a multicast",
    "239.255.255.250": "a multicast",
    "240.0.0.1": "a private or reserved",
    "255.255.255.255": "a private or reserved",
    "::": "an unspecified",
    "::1": "a loopback",
    "::2": "a private or reserved",
    "::127.0.0.1": "a loopback",
    "::ffff:127.0.0.1": "a loopback",
    "::ffff:169.254.169.254": "a link-local",
    "64:ff9b::7f00:1": "a loopback",
    "64:ff9b::a00:1": "a private or reserved",
    "64:ff9b:1::808:808": "a private or reserved",
    "2002:7f00:1::": "a loopback",
    "2002:c0a8:101::1": "a private or reserved",
    "2001::1": "a private or reserved",  # Teredo
    "2001:db8::1": "a private or reserved",
    "2a00::5efe:10.0.0.1": "a private or reserved",
    "2a00::200:5efe:127.0.0.1": "a loopback",
    "fc00::1": "a private or reserved",
    "fd00:ec2::254": "a private or reserved",  # a cloud's metadata
    "fe80::1": "a link-local",
    "fe80::1%eth0": "a link-local",
    "fec0::1": "a private or reserved",
    "ff02::1": "a multicast",
    "4000::1": "a private or reserved",
}

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "99.255.255.255",
    "172.32.0.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2a00::5efe:8.8.8.8",
]


@pytest.mark.parametrize(("address", "kind"), REFUSED.items())
def test_what_is_not_public_is_refused(address: str, kind: str) -> None:
    """Loopback, private, link-local, carrier's, multicast, metadata, bare or wrapped in IPv6."""
    assert refusal_of_address(address) == kind
    assert refusal_of_host(address) == kind


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_passes(address: str) -> None:
    """The internet's addresses, also where a network translates them."""
    assert refusal_of_address(address) is None
    assert refusal_of_host(address) is None


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "0",
        "0x",
        "127.0.0.1.2",
        "999.1.1.1",
        "cdn.example.1",
        "134744072",
    ],
)
def test_numbers_in_other_spellings_are_refused(host: str) -> None:
    """Decimal, octal, hexadecimal and short forms, which systems read as addresses."""
    assert refusal_of_host(host) == "an oddly spelled"
    assert refusal_of_host(f"{host}.") == "an oddly spelled"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1."]
)
def test_this_machines_own_name_is_refused(host: str) -> None:
    """By its names, and with a dot at the end."""
    assert refusal_of_host(host) == "a loopback"


@pytest.mark.parametrize("host", ["cdn.example", "0x7f.example", "1.example", "xn--e1afmkfd.", "a"])
def test_names_pass(host: str) -> None:
    """What a name leads to is known when it is connected to."""
    assert refusal_of_host(host) is None


@given(st.ip_addresses(v=4), st.sampled_from(["::", "::ffff:0:0", "64:ff9b::"]))
def test_an_embedded_address_is_judged_like_itself(
    inner: ipaddress.IPv4Address, prefix: str
) -> None:
    """IPv4 in IPv6 passes only where the IPv4 address does."""
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))
    if int(inner) > 1 or prefix != "::":
        assert (refusal_of_address(str(outer)) is None) is (refusal_of_address(str(inner)) is None)
    six = ipaddress.IPv6Address((0x2002 << 112) | (int(inner) << 80))
    assert (refusal_of_address(str(six)) is None) is (refusal_of_address(str(inner)) is None)


@given(st.ip_addresses())
def test_what_python_calls_private_never_passes(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The table only adds to what the standard library knows."""
    if not address.is_global or address.is_multicast:
        embedded = isinstance(address, ipaddress.IPv6Address) and (
            address.ipv4_mapped is not None or address.sixtofour is not None
        )
        assert embedded or refusal_of_address(str(address)) is not None


@given(st.integers(0, 2**24 - 1), st.integers(0, 3), st.data())
def test_no_spelling_of_loopback_passes(rest: int, cut: int, data: st.DataObject) -> None:
    """Whatever the system's own parser reads as 127.0.0.0/8 is refused in a link."""
    number = (127 << 24) | rest
    parts = [number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255]
    last = int.from_bytes(bytes(parts[cut:]))
    written = [
        data.draw(st.sampled_from([str(part), hex(part), f"0{part:o}"]))
        for part in [*parts[:cut], last]
    ]
    host = ".".join(written)
    assert socket.inet_aton(host) == number.to_bytes(4)
    url = URL(f"http://{host}/clip.mp4")
    assert refusal_of_host(url.raw_host or "") is not None


@pytest.mark.parametrize(
    "host",
    [
        "\uff11\uff12\uff17.\uff10.0.1",
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
        "127\u30020\u30020\u30021",
    ],
)
def test_other_digits_are_read_first(host: str) -> None:
    """What a URL makes plain digits of is judged as those."""
    assert refusal_of_host(URL(f"http://{host}/").raw_host or "") is not None
