"""Whatever an input holds: jobs as they were written, or an error with line numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from octoremix import RemixRequest
from octoremix.cli._input import InputError, Line, read_stream

NOT_NUL = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
IDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
PROMPTS = st.text(NOT_NUL, min_size=1, max_size=30).filter(lambda text: text.strip() != "")
TEXTS = st.text(NOT_NUL, max_size=12)
COLUMNS = st.sampled_from(["size", "aspect_ratio", "seconds", "größe", "a b", 'q"', "x,y;\tz"])
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
).filter(lambda value: "Infinity" not in json.dumps(value))


@st.composite
def requests(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> list[RemixRequest]:
    """Valid requests, some with keys, of which no two are equal."""
    keys = draw(st.lists(IDS.map("key {}".format), max_size=3, unique=True))
    plain = draw(st.integers(0 if keys else 1, 4))
    return draw(
        st.permutations(
            [
                RemixRequest(
                    video_id=draw(IDS),
                    prompt=draw(PROMPTS),
                    model=draw(st.sampled_from(["veo_3_1-extend", "grok-video-3"])),
                    extra=draw(st.dictionaries(COLUMNS, values, max_size=3)),
                    key=key,
                )
                for key in [*keys, *[None] * plain]
            ]
        )
    )


def read(data: bytes, **settings: Any) -> list[Line]:
    return read_stream(io.BytesIO(data), name="jobs", **settings)


def written(request: RemixRequest) -> dict[str, Any]:
    fields = {"video": request.video_id, "prompt": request.prompt, "model": request.model}
    return fields | ({"key": request.key} if request.key else {}) | dict(request.extra)


def check(lines: list[Line], bought: list[RemixRequest], numbers: list[int]) -> None:
    assert [line.request for line in lines] == bought
    assert [line.number for line in lines] == numbers
    for line, request in zip(lines, bought, strict=True):
        assert request.key is None or line.request.key == request.key
    assert len({line.request.key for line in lines}) == len(lines)


@given(requests(JSONS), st.booleans(), st.sampled_from(["\n", "\r\n", "\r", "\n\n \n"]))
def test_what_is_written_as_jsonl_is_read(
    bought: list[RemixRequest], escaped: bool, end: str
) -> None:
    """Any requests come back from JSONL, each with its line."""
    text = end.join(json.dumps(written(each), ensure_ascii=escaped) for each in bought)
    height = 3 if len(end) > 2 else 1

    check(read(text.encode()), bought, [1 + height * index for index in range(len(bought))])


@given(
    requests(TEXTS.filter(lambda text: text.strip() != "")),
    st.sampled_from([",", ";", "\t"]),
    # Some Pythons leave a cell with a lone \r without quotation marks where rows end in \n.
    st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_is_written_as_csv_is_read(
    bought: list[RemixRequest], delimiter: str, style: tuple[str, Any], encoding: str
) -> None:
    """Any requests of texts come back from a table, each with the line on which its row begins."""
    rows = [written(each) for each in bought]
    names = list(
        dict.fromkeys([*("key", "video", "prompt"), *(name for row in rows for name in row)])
    )
    out = io.StringIO()
    writer = csv.DictWriter(
        out, names, delimiter=delimiter, lineterminator=style[0], quoting=style[1]
    )
    writer.writeheader()
    numbers = []
    for row in rows:
        numbers.append(1 + len(re.findall(r"\r\n|\r|\n", out.getvalue())))
        writer.writerow(row)

    check(read(out.getvalue().encode(encoding)), bought, numbers)


@given(requests(JSONS).filter(lambda each: len(each) > 1), st.data())
def test_keys_do_not_depend_on_the_order(bought: list[RemixRequest], data: st.DataObject) -> None:
    """Lines that are moved keep their keys, also those that are there more than once."""
    texts = [json.dumps(written(each)) for each in bought]
    texts += [json.dumps(written(each)) for each in bought if each.key is None]
    moved = data.draw(st.permutations(texts))

    def keys(lines: list[str]) -> Counter[tuple[str, str | None]]:
        read_lines = read("\n".join(lines).encode())
        return Counter((lines[line.number - 1], line.request.key) for line in read_lines)

    assert keys(moved) == keys(texts)
    assert max(keys(texts).values()) == 1


PIECES = st.sampled_from(
    [
        *(b"video", b"prompt", b"key", b"model", b'"', b'""', b",", b";", b"\t", b"\n", b"\r\n"),
        *(b"\r", b"{", b"}", b"[", b"]", b":", b"\\u0000", b"\\ud800", b"\xff\xfe", b"\xfe\xff"),
        *(b"\xef\xbb\xbf", b"\0", b"\x80", b"1e999", b"NaN", b"sep=;\n", b"v", b" ", b"PK\x03\x04"),
        *(b'{"video": "v", "prompt": "p"', b"video,prompt\n", b'{"video": "v", "prompt": "p"}\n'),
    ]
)


@given(
    st.binary(max_size=200) | st.lists(PIECES, max_size=20).map(b"".join),
    st.sampled_from([None, "csv", "jsonl"]),
)
@example(b'video,prompt\n"', "csv")
@example(b'"\n', None)
@example(b"sep=,", None)
@example(b"\xff\xfe\xd8", None)
@example(b"\r\0\n\0", "jsonl")
def test_any_bytes_give_jobs_or_one_error(data: bytes, format: Any) -> None:
    """Nothing but an `InputError` comes of what is no input, and its problems name lines."""
    # In UTF-16 every second byte is a zero, which elsewhere may stand in the middle of a line break.
    height = max(len(re.split(rb"\r\n|\r|\n", text)) for text in (data, data.replace(b"\0", b"")))
    lines, error = outcome(data, format)

    assert bool(lines) != bool(error)
    assert [line.number for line in lines] == sorted({line.number for line in lines})
    assert len({line.request.key for line in lines}) == len(lines)
    if error is not None:
        told = [re.match(r"line (\d+): .", problem) for problem in error.problems]
        assert all(each and 1 <= int(each[1]) <= height for each in told)
        assert str(error).startswith("jobs ")
        assert str(error).isprintable()


def outcome(data: bytes, format: Any) -> tuple[list[Line], InputError | None]:
    try:
        return read(data, format=format), None
    except InputError as error:
        return [], error
