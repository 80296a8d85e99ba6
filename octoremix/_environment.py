"""What the environment says about the network, read as other HTTP clients read it."""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from yarl import URL

from .errors import ConfigurationError, printable

__all__ = ["check_headers", "check_proxy", "environment_proxy", "environment_ssl"]


def environment_proxy(url: URL) -> URL | None:
    """Return the proxy that ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` name for an address.

    Raises:
        ConfigurationError: It is of a kind that can't be used.
    """
    address = urllib.request.getproxies().get(url.scheme)
    if not address or urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return _proxy(address, f"the environment's {url.scheme.upper()}_PROXY")


def check_proxy(proxy: object) -> URL | bool | None:
    """Return a ``proxy=`` argument as an address; ``None`` and ``False`` stay.

    Raises:
        ConfigurationError: It is no address of an HTTP proxy.
    """
    if proxy is None or proxy is False:
        return proxy
    if not isinstance(proxy, (str, URL)):
        raise ConfigurationError(
            "proxy must be the address of an HTTP proxy, None for the environment's or False for "
            f"none, not {type(proxy).__name__}"
        )
    return _proxy(str(proxy), "proxy")


def _proxy(address: str, name: str) -> URL:
    # The address may hold a password: it is not repeated.
    fix = "name an HTTP proxy such as http://proxy.example:3128"
    try:
        url = URL(address if "://" in address else f"http://{address}")
        usable = url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{name} can't be used: {fix}")
    return url


def environment_ssl() -> ssl.SSLContext | bool:
    """Return how to verify TLS: with ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` as they are set now.

    Raises:
        ConfigurationError: The file named is not there.
    """
    path = os.environ.get("SSL_CERT_FILE")
    if path and not Path(path).is_file():
        raise ConfigurationError(
            f"SSL_CERT_FILE names {printable(path)!r}, which is no file: correct it or unset it"
        )
    if path or os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context()
    return True  # aiohttp's default context, made once at its import


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return further headers if they can be sent.

    Raises:
        ConfigurationError: One is malformed, or would take the place of the key.
    """
    checked = dict(headers or {})
    if not all(isinstance(text, str) for pair in checked.items() for text in pair):
        raise ConfigurationError("headers must map names to values, both str")
    for name, value in checked.items():
        if not name.isascii() or not name.isprintable() or not name.strip(" :") or ":" in name:
            raise ConfigurationError(f"headers hold the malformed name {printable(name, 60)!r}")
        if any(sign in value for sign in "\r\n\0"):
            raise ConfigurationError(f"the header {name} holds a line break or NUL: remove it")
        if name.lower() in {"authorization", "content-length", "transfer-encoding", "host"}:
            raise ConfigurationError(f"headers can't hold {name}: pass api_key= for the key")
    return checked
