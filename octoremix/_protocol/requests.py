"""The gateway's address, and the calls that are sent to it."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from urllib.parse import quote

from attrs import frozen
from yarl import URL

from ..errors import ConfigurationError, printable, quoted
from ..models import RemixRequest, without_query

__all__ = [
    "API",
    "DEFAULT_BASE_URL",
    "Request",
    "doubts_about",
    "is_loopback",
    "parse_base_url",
]

DEFAULT_BASE_URL = "https://octopusx.ai"


# What OctopusX's page of grok's remix lists. Channels differ, so that the gateway decides.
_GROK_FIELDS = {"size": ("720P", "1080P"), "aspect_ratio": ("2:3", "3:2", "1:1")}


def doubts_about(request: RemixRequest) -> list[str]:
    """Return what a channel will probably not like about a request, for a warning."""
    if not request.model.lower().startswith("grok"):
        return []
    model = printable(request.model, 60)
    return [
        f"{model} takes {name} of {', '.join(known)}, not {quoted(request.extra[name], 60)}"
        if name in request.extra
        else f"{model} wants {name} in extra, one of {', '.join(known)}"
        for name, known in _GROK_FIELDS.items()
        if request.extra.get(name) not in known
    ]


@frozen(kw_only=True)
class Request:
    """One call to be sent to the gateway.

    Attributes:
        method: The HTTP method.
        url: The whole address, already encoded.
        body: The JSON body, or ``None``.
    """

    method: str
    url: URL
    body: bytes | None = None


def is_loopback(url: URL) -> bool:
    """Whether an address names this machine itself."""
    host = url.host or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def parse_base_url(text: object) -> URL:
    """Return the gateway's address without its trailing ``/v1``.

    Raises:
        ConfigurationError: It is no address of a gateway.
    """
    fix = f"pass base_url= or set OCTOPUSX_BASE_URL to an address such as {DEFAULT_BASE_URL}"
    if not isinstance(text, str):
        raise ConfigurationError(f"the base URL must be a str, not {type(text).__name__}: {fix}")
    text = text.strip()
    if not text:
        raise ConfigurationError(f"the base URL is missing: {fix}")
    # What stands before an @ or in a query may be a secret, also where the rest is malformed.
    shown = quoted(re.sub(r".*@", "…@", without_query(text) or "", flags=re.DOTALL), 120)
    try:
        url = URL(text)
        host, _ = url.host, url.port
    except ValueError:
        host, url = None, URL()
    malformed = not text.isprintable() or " " in text  # a host with a space would be accepted
    if url.scheme not in {"http", "https"} or not host or malformed:
        raise ConfigurationError(f"the base URL {shown} is no http(s) address: {fix}")
    if url.user is not None or url.password is not None:
        raise ConfigurationError(f"the base URL {shown} holds a user name: pass api_key= instead")
    if url.raw_query_string or url.raw_fragment or "/v1/" in url.path.rstrip("/"):
        raise ConfigurationError(f"the base URL {shown} is one call's address: {fix}")
    path = url.raw_path.rstrip("/").removesuffix("/v1").rstrip("/")
    return url.with_path(path, encoded=True)


class API:
    """Builds the gateway's requests below one base URL.

    Args:
        base_url: As `parse_base_url` returns it.
    """

    def __init__(self, base_url: URL) -> None:
        self.base_url = base_url
        self.origin = base_url.origin()
        self._path = base_url.raw_path.rstrip("/")

    def __repr__(self) -> str:
        return f"<API at {self.base_url}>"

    def query(self, task_id: str) -> Request:
        """Ask how a task goes."""
        return Request(method="GET", url=self._url(f"/v1/videos/{_segment(task_id)}"))

    def legacy_query(self, task_id: str) -> Request:
        """Ask new-api's older route, which tells its own record of a task.

        There the gateway's word for the status stands outside of what the upstream said last.
        """
        return Request(method="GET", url=self._url(f"/v1/video/generations/{_segment(task_id)}"))

    def content(self, task_id: str) -> Request:
        """Ask for the bytes of a finished video."""
        return Request(method="GET", url=self._url(f"/v1/videos/{_segment(task_id)}/content"))

    def key_log(self) -> Request:
        """Ask for the records of what the key was charged for (new-api's ``/api/log/token``)."""
        return Request(method="GET", url=self._url("/api/log/token"))

    def key_usage(self) -> Request:
        """Ask what the key was given and has used (OctopusX's ``/api/usage/token/``)."""
        return Request(method="GET", url=self._url("/api/usage/token/"))

    def remix(self, request: RemixRequest) -> Request:
        """Buy a remix."""
        body = {"prompt": request.prompt, "model": request.model, **request.extra}
        # The gateway decodes seconds into a string and refuses a number (new-api's
        # TaskSubmitReq).
        seconds = body.get("seconds")
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
            body["seconds"] = str(seconds)
        encoded = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        return Request(
            method="POST",
            url=self._url(f"/v1/videos/{_segment(request.video_id)}/remix"),
            body=encoded,
        )

    def is_own(self, url: URL) -> bool:
        """Whether an address is of the gateway's own origin, which alone may see the key."""
        origin = self.origin  # compared part by part: a poll should not make two more URLs
        return url.scheme == origin.scheme and (
            url.raw_authority == origin.raw_authority
            or (url.raw_host == origin.raw_host and url.port == origin.port)
        )

    def is_own_host(self, url: URL) -> bool:
        """Whether an address is on the gateway's own host, on whatever port."""
        return (url.raw_host or "").lower() == (self.origin.raw_host or "").lower()

    def _url(self, path: str) -> URL:
        return self.base_url.with_path(self._path + path, encoded=True)


def _segment(video_id: str) -> str:
    """Return an id as one segment of a path, so that it arrives as it is."""
    return quote(video_id, safe="")
