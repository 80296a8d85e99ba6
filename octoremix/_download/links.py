"""Addresses of results: read to the byte, followed from hop to hop, shown without permissions."""

from __future__ import annotations

from attrs import define, field
from yarl import URL

from ..errors import DownloadError, printable, quoted
from ..models import Video, without_query

__all__ = ["MOST_REDIRECTS", "Place", "about", "next_hop", "place_of", "shown"]

MOST_REDIRECTS = 10

_NOT_IN_ADDRESSES = frozenset(' "<>\\^`{|}')

_INLINE = URL.build(scheme="data")


def shown(url: URL) -> str:
    """Return an address without what may be a permission: its user, query and fragment."""
    if url.scheme == "data":
        return "data:…"
    return str(url.with_user(None).with_query(None).with_fragment(None))


@define(eq=False)
class Place:
    """Where a result may lie.

    Attributes:
        url: The address.
        inline: The whole ``data:`` address that holds the result itself, or nothing.
        tries: How often it was asked.
        spent: Whether its answer began, and was resumed as often as the policy allows.
    """

    url: URL = field(repr=shown)
    inline: str = field(default="", repr=False)
    tries: int = 0
    spent: bool = False

    def is_same(self, other: Place) -> bool:
        """Whether both are one address."""
        return self.url == other.url and self.inline == other.inline


def place_of(video: Video) -> Place | None:
    """Return the place that a video's link names, if it is one that can be fetched from."""
    link = video.url or ""
    if link[:5].lower() == "data:":
        return Place(_INLINE, link)  # a URL object would be cached, with all its megabytes
    url = _address(link)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        return None
    return Place(url)


def _address(text: str) -> URL | None:
    """Read an address byte for byte, since a signature may depend on it; ``None`` if malformed."""
    as_it_is = text.isascii() and text.isprintable() and not set(text) & _NOT_IN_ADDRESSES
    try:
        url = URL(text, encoded=as_it_is)
        _ = url.host, url.port  # what is malformed in them comes up only now
    except ValueError:
        return None
    return url


def next_hop(task_id: str, url: URL, location: str) -> URL:
    """Return where a redirect leads.

    Raises:
        DownloadError: To no web address, or from an encrypted to a plain one.
    """
    address = _address(location)
    hop = url.join(address) if address is not None else URL()
    if (
        hop.scheme not in {"http", "https"}
        or not hop.host
        or (url.scheme == "https" and hop.scheme == "http")
    ):
        target = shown(hop) if hop.host else without_query(location) or ""
        raise DownloadError(
            f"the download of {quoted(task_id)} was redirected to {quoted(target)}, which is not "
            "followed",
            id=task_id,
            url=shown(url),
        )
    return hop


def about(task_id: str, url: URL) -> str:
    """Return how an error about a download begins."""
    return f"the download of {quoted(task_id)} from {printable(shown(url))}"
