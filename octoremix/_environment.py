"""What the environment says about the network, read as other HTTP clients read it."""

from __future__ import annotations

import os
import re
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from yarl import URL

from .errors import ConfigurationError, quoted

__all__ = ["check_headers", "check_proxy", "check_ssl", "environment_proxy", "environment_ssl"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"authorization", "content-length", "transfer-encoding", "host"})


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
    kind = "can't be used"
    try:
        url = URL(address if "://" in address else f"http://{address}")
        usable = url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
        if url.scheme.startswith("socks"):
            kind = "is a SOCKS proxy, which is not supported"
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{name} {kind}: {fix}")
    return url


def check_ssl(context: object) -> ssl.SSLContext | bool | None:
    """Return an ``ssl=`` argument if it is one.

    Raises:
        ConfigurationError: It is something else.
    """
    if context is None or isinstance(context, (bool, ssl.SSLContext)):
        return context
    raise ConfigurationError(
        "ssl must be an ssl.SSLContext, False to verify nothing, or None for the default, not "
        f"{type(context).__name__}"
    )


def environment_ssl(*, needed: bool = True) -> ssl.SSLContext | bool:
    """Return how to verify TLS: with ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` as they are set now.

    Args:
        needed: Whether the gateway itself is reached by TLS.

    Raises:
        ConfigurationError: The file named is not there, although it is needed.
    """
    path = os.environ.get("SSL_CERT_FILE")
    if path and not Path(path).is_file():
        if not needed:
            return True
        raise ConfigurationError(
            f"SSL_CERT_FILE names {quoted(path)}, which is no file: correct it or unset it"
        )
    if path or os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context()
    return True  # aiohttp's default context, made once at its import


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return further headers if they can be sent.

    Raises:
        ConfigurationError: One is malformed, or would take the place of the key.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a mapping, not {type(headers).__name__}")
    checked = dict(headers or {})
    if not all(isinstance(text, str) for pair in checked.items() for text in pair):
        raise ConfigurationError("headers must map names to values, both str")
    for name, value in checked.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"headers hold the malformed name {quoted(name, 60)}")
        if any(sign in value for sign in "\r\n\0"):
            raise ConfigurationError(f"the header {name} holds a line break or NUL: remove it")
        if any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ConfigurationError(f"the header {name} holds a lone surrogate: remove it")
        if name.lower() in _OURS:
            raise ConfigurationError(
                f"headers can't hold {name}, which each call sets: the key is api_key="
            )
    return checked
