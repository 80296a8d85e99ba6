"""The physical lines of an input, in whichever encoding, without reading all of it at once."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from attrs import frozen

from .trouble import Troubles

__all__ = ["CHUNK", "LONGEST_LINE", "PhysicalLine", "physical_lines"]

LONGEST_LINE = 1024 * 1024
"""Bytes of UTF-8 that a line may have, with its end."""

CHUNK = 256 * 1024
"""Bytes that are read at once."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_ZIP = b"PK\x03\x04"


@frozen
class PhysicalLine:
    """What stands between two line ends.

    Attributes:
        number: Its number, from 1.
        text: What it holds, with its end; empty where there is a problem.
        problem: Why it can't be read, or ``None``.
    """

    number: int
    text: str
    problem: str | None = None


def physical_lines(stream: BinaryIO, troubles: Troubles) -> Iterator[PhysicalLine]:
    r"""Split an input at ``\n``, ``\r\n`` and ``\r``, as editors count lines.

    Args:
        stream: The bytes: UTF-8, or UTF-16 that begins with a byte order mark.
        troubles: Gives the errors about the input as a whole.

    Raises:
        InputError: It is no text at all.
        OSError: It can't be read.
    """
    head = stream.read(CHUNK)
    if head.startswith(_ZIP):
        raise troubles.whole("is a spreadsheet or an archive: export it as CSV UTF-8")
    if head.startswith(_UTF32):
        raise troubles.whole("is UTF-32: save it as UTF-8")
    chunks = _chunks(head, stream)
    encoding = "UTF-8"
    if head.startswith(_UTF16):
        encoding = "UTF-16"
        chunks = _utf8_of_utf16(chunks)
    for number, raw in enumerate(_split(chunks), 1):
        yield _decoded(number, raw, encoding)


def _chunks(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield head.removeprefix(codecs.BOM_UTF8)
    while chunk := stream.read(CHUNK):
        yield chunk


def _utf8_of_utf16(chunks: Iterable[bytes]) -> Iterator[bytes]:
    # What is damaged stays damaged, so that it is found on its line.
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # half a character at the end
        yield b"\xff"


def _split(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Return the lines with their ends, and ``None`` for each that is too long."""
    rest = b""
    too_long = False
    for chunk in chunks:
        # The last may go on in the next chunk, also where it ends in \r: a \n may follow.
        lines = (rest + chunk).splitlines(keepends=True)
        rest = b"" if not lines or lines[-1].endswith(b"\n") else lines.pop()
        for line in lines:
            yield None if too_long or len(line) > LONGEST_LINE else line
            too_long = False
        if len(rest) > LONGEST_LINE:
            too_long = True
            rest = rest[-1:]
    if rest:
        yield None if too_long else rest


def _decoded(number: int, raw: bytes | None, encoding: str) -> PhysicalLine:
    if raw is None:
        return PhysicalLine(number, "", f"is longer than {LONGEST_LINE:,} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return PhysicalLine(number, "", f"is no {encoding}: save the file as UTF-8")
    if "\0" in text:
        why = "holds a NUL character: save the file as UTF-8, if it is a text"
        return PhysicalLine(number, "", why)
    return PhysicalLine(number, text)
