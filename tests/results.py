"""A server that serves one result in ranges, and cuts it where a test says."""

from __future__ import annotations

import asyncio
import re

from attrs import define, field

from .raw_servers import RawCall

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 2000
"""Half a megabyte, in which each byte tells where it stands."""

ETAG = '"the-first"'
CHANGED = "Wed, 01 Jul 2026 10:00:00 GMT"


@define(eq=False)
class Result:
    """Behaves as a server of static files does: a script's entry for `RawServer`.

    Args:
        body: The file.
        etag: Its ``ETag``, or nothing.
        changed: Its ``Last-Modified``, or nothing.
        cuts: How many bytes of each answer are sent before the connection is cut; once the list
            is empty, answers are whole.
        ranges: Whether ``Range`` is understood.
        chunked: Whether a whole answer comes without its length.
        headers: Further headers of each answer, with their line ends.
    """

    body: bytes = MP4
    etag: str = ETAG
    changed: str = ""
    cuts: list[int] = field(factory=list)
    ranges: bool = True
    chunked: bool = False
    headers: str = "Content-Type: video/mp4\r\n"
    asked: list[tuple[str | None, str | None]] = field(factory=list, init=False)

    async def __call__(self, call: RawCall, writer: asyncio.StreamWriter) -> bool:
        wanted, condition = call.header("Range"), call.header("If-Range")
        self.asked.append((wanted, condition))
        start, status = 0, "200 OK"
        found = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if found and self.ranges and condition in {self.etag, self.changed}:
            start, status = int(found[1]), "206 Partial Content"
        await self.send(writer, status, self.body[start:], self.range_of(start))
        return False

    def range_of(self, start: int) -> str:
        """The header that a range which starts there has; a whole answer has none."""
        whole = len(self.body)
        return f"Content-Range: bytes {start}-{whole - 1}/{whole}\r\n" if start else ""

    async def send(
        self, writer: asyncio.StreamWriter, status: str, body: bytes, content_range: str = ""
    ) -> None:
        """Send an answer, or what comes before its cut."""
        head = f"HTTP/1.1 {status}\r\n{self.headers}{content_range}"
        head += f"ETag: {self.etag}\r\n" if self.etag else ""
        head += f"Last-Modified: {self.changed}\r\n" if self.changed else ""
        cut = self.cuts.pop(0) if self.cuts else len(body)
        if self.chunked and not content_range:
            head += "Transfer-Encoding: chunked\r\n\r\n"
            end = b"" if cut < len(body) else b"0\r\n\r\n"
            sent = b"%x\r\n%b\r\n" % (len(body[:cut]), body[:cut]) + end if cut else end
        else:
            head += f"Content-Length: {len(body)}\r\n\r\n"
            sent = body[:cut]
        writer.write(head.encode())
        # In pieces and with time between them, so that a reader has them before the cut.
        for begin in range(0, len(sent), 32_768):
            writer.write(sent[begin : begin + 32_768])
            await writer.drain()
            await asyncio.sleep(0.01)
