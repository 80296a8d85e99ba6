"""What a batch buys is read from a file: each job with its line and key, or all faults at once."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from octoremix import ConfigurationError, RemixRequest
from octoremix.cli._input import InputError, Line, read_input, read_stream
from octoremix.cli._input.lines import CHUNK, LONGEST_LINE


def read(text: str | bytes, **settings: Any) -> list[Line]:
    data = text.encode() if isinstance(text, str) else text
    return read_stream(io.BytesIO(data), name="jobs", **settings)


def problems(text: str | bytes, **settings: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(text, **settings)
    assert "\n" not in str(caught.value)
    return list(caught.value.problems) or [str(caught.value)]


def shown(lines: list[Line]) -> list[tuple[Any, ...]]:
    return [
        (line.number, line.request.video_id, line.request.prompt, dict(line.request.extra))
        for line in lines
    ]


# What is read.


def test_each_line_of_jsonl_is_a_job() -> None:
    """The four known fields make the request, and every further one is a field of the body."""
    lines = read(
        '{"video": "v1", "prompt": "snow", "key": "k", "model": "grok", "size": "720P"}\n'
        "\n"
        '{"video": "v2", "prompt": "rain", "metadata": {"a": [1, null]}, "audio": true}'
    )

    assert shown(lines) == [
        (1, "v1", "snow", {"size": "720P"}),
        (3, "v2", "rain", {"metadata": {"a": [1, None]}, "audio": True}),
    ]
    assert (lines[0].request.key, lines[0].request.model) == ("k", "grok")


def test_each_row_of_a_table_is_a_job() -> None:
    """The header names the fields; empty cells and rows say nothing, and values stay texts."""
    lines = read("video,prompt,size,seconds,\nv1,snow,720P,8,\n\nv2,rain\n , ,,,\nv3,wind,,05,\n")

    assert shown(lines) == [
        (2, "v1", "snow", {"size": "720P", "seconds": "8"}),
        (4, "v2", "rain", {}),
        (6, "v3", "wind", {"seconds": "05"}),
    ]


def test_a_quoted_cell_may_hold_line_ends() -> None:
    """A record's number is that of the line on which it begins, whatever its cells hold."""
    lines = read('prompt,video\n"one\ntwo ""x"",\r\nthree",v1\nfour,v2\n')

    assert shown(lines) == [(2, "v1", 'one\ntwo "x",\r\nthree', {}), (5, "v2", "four", {})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_write_is_read(delimiter: str, encoding: str, end: str) -> None:
    """Byte order marks, delimiters and line ends of all kinds give the same jobs."""
    rows = [[" Video", "PROMPT ", "size"], ["v1", "snow; white, 雪", ""], ["v2 ", "rain", "720P"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)

    assert shown(read(out.getvalue().encode(encoding))) == [
        (2, "v1", "snow; white, 雪", {}),
        (3, "v2", "rain", {"size": "720P"}),
    ]


def test_the_first_line_may_tell_the_delimiter() -> None:
    """Excel's own line for the delimiter is followed, and counted."""
    assert shown(read("sep=;\nvideo;prompt\nv1;a,b\n")) == [(3, "v1", "a,b", {})]
    text = "SEP=;\r\nkey,model,x;video;prompt\r\n1;v1;a\r\n"
    assert shown(read(text)) == [(3, "v1", "a", {"key,model,x": "1"})]


def test_a_model_is_given_by_the_line_or_by_the_caller() -> None:
    """The caller's model is that of the lines that name none, and of those alone."""
    text = '{"video": "v", "prompt": "p"}\n{"video": "v", "prompt": "p", "model": "grok"}'

    assert [line.request.model for line in read(text, model="veo")] == ["veo", "grok"]
    assert read(text)[0].request.model == RemixRequest(video_id="v", prompt="p").model
    assert read(text.replace('"grok"', "null"), model="veo")[1].request.model == "veo"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jobs.jsonl", '{"video": "v", "prompt": "p"}'),
        ("jobs.JSON", '{"video": "v", "prompt": "p"}'),
        ("jobs.csv", "video,prompt\nv,p"),
        ("jobs.tsv", "video\tprompt\nv\tp"),
        ("jobs", '\n\n  {"video": "v", "prompt": "p"}'),
        ("jobs.txt", "\nvideo;prompt\nv;p"),
    ],
)
def test_the_format_is_that_of_the_name_or_of_the_beginning(
    tmp_path: Path, name: str, text: str
) -> None:
    """A known suffix tells the format, and the first character where there is none."""
    path = tmp_path / name
    path.write_text(text)

    [line] = read_input(path)
    assert (line.request.video_id, line.request.prompt) == ("v", "p")


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input is read once, and its format found out."""
    data = io.BytesIO(b'{"video": "v", "prompt": "p"}')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))

    assert [line.number for line in read_input("-")] == [1]


def test_a_file_of_many_chunks_is_read_line_by_line() -> None:
    """Lines that lie across the borders of what is read at once stay whole."""
    text = "".join(f'{{"video": "v{n}", "prompt": "{"雪" * (n % 90)}."}}\r\n' for n in range(5000))
    assert len(text.encode()) > 600_000

    for encoding in ("utf-8", "utf-16"):
        lines = read(text.encode(encoding))
        assert [line.number for line in lines] == list(range(1, 5001))
        assert all(line.request.prompt == "雪" * (n % 90) + "." for n, line in enumerate(lines))


# Keys.


def test_a_derived_key_is_lost_by_an_edit_and_kept_by_a_move() -> None:
    """It is made of what is bought and of nothing else, and is the same in every format."""
    one = {"video": "v", "prompt": "p", "size": "720P"}
    [first] = read(json.dumps(one))
    key = first.request.key

    assert key is not None
    assert len(key) == 16
    assert read("video,size,prompt\n\nv,720P,p")[0].request.key == key
    assert read(json.dumps({"prompt": "p", "size": "720P", "video": " v "}))[0].request.key == key
    for edit in ({"prompt": "q"}, {"video": "w"}, {"size": "1080P"}, {"model": "grok"}, {"x": ""}):
        assert read(json.dumps(one | edit))[0].request.key != key
    assert read(json.dumps(one), model="grok")[0].request.key != key


def test_lines_of_the_same_content_are_different_jobs() -> None:
    """The n-th of them has its number in its key; lines with keys of their own don't count."""
    text = "video,prompt,key\nv,p,\nv,p,mine\nv,p,\nv,q,\nv,p,\n"

    keys = [line.request.key for line in read(text)]

    assert keys[1] == "mine"
    assert [keys[2], keys[4]] == [f"{keys[0]}-2", f"{keys[0]}-3"]
    assert len(set(keys)) == 5


def test_the_key_of_a_known_content_stays_what_it_is() -> None:
    """The derivation never changes: a batch that is run again would buy all of it again."""
    [line] = read('{"video": "video_123", "prompt": "make it 雪", "size": "720P"}', model="m")

    content = '{"extra":{"size":"720P"},"model":"m","prompt":"make it 雪","video":"video_123"}'
    assert line.request.key == hashlib.sha256(content.encode()).hexdigest()[:16]


# What is refused.


def test_every_bad_line_is_told() -> None:
    """All faults come in one error, each with its line, and the rest as a number."""
    good = '{"video": "v", "prompt": "p"}'
    text = "\n".join([good, *['{"video": "v"}'] * 57, good])

    with pytest.raises(InputError, match="57 problems, nothing was submitted") as caught:
        read(text)

    error = caught.value
    assert len(error.problems) == 20
    assert error.problems[0].startswith("line 2: there is no field 'prompt'")
    assert error.more == 37
    assert str(error).endswith("and 37 more")
    assert isinstance(error, ConfigurationError)
    again = pickle.loads(pickle.dumps(copy.copy(error)))
    assert (again.problems, again.more, str(again)) == (error.problems, 37, str(error))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"prompt": "p"}', "there is no field 'video', only 'prompt'"),
        ("{}", "there is no field 'video'"),
        ('{"video_id": "v", "prompt": "p"}', "'video': is it what is called 'video_id'?"),
        ('{"video": "v", "text": "p"}', "no field 'prompt': is it what is called 'text'?"),
        ('{"video": "v", "prompt": "p", "id": "1"}', "the field 'id' would be sent"),
        ('{"video": "v", "prompt": "p", "extra": {}}', "name each further field by itself"),
        ('{"video": "v", "prompt": "p", "": 1}', "a field without a name"),
        ('{"video": "v", "prompt": "p", " ": 1}', "a field without a name"),
        ('{"video": "v", "prompt": "p", "Prompt": "q"}', "there are two fields 'prompt'"),
        ('{"video": "v", "prompt": "p", "a": 1, "A": 1}', "there are two fields 'A'"),
        ('{"video": "v", "prompt": "p", "prompt": "q"}', "names 'prompt' twice"),
        ('{"video": "v", "prompt": "p", "a": {"b": 1, "b": 2}}', "names 'b' twice"),
        ('{"video": 1, "prompt": "p"}', "video must be a str, not int"),
        ('{"video": null, "prompt": "p"}', "video must be a str, not NoneType"),
        ('{"video": "v", "prompt": " "}', "prompt is empty"),
        ('{"video": "v", "prompt": ["p"]}', "prompt must be a str, not list"),
        ('{"video": "v", "prompt": "p", "model": 1}', "model must be a str, not int"),
        ('{"video": "v", "prompt": "p", "model": ""}', "model is empty"),
        ('{"video": "v", "prompt": "p", "key": 17}', "key must be a text, not 17"),
        ('{"video": "v", "prompt": "p", "key": " "}', "key is empty"),
        ('{"video": "v", "prompt": "p", "key": "' + "k" * 501 + '"}', "longer than 500"),
        ('{"video": "v", "prompt": "p", "key": "\\ud800"}', "key '\\ud800' holds a lone"),
        ('{"video": "v", "prompt": "\\ud800"}', "prompt '\\ud800' holds a lone surrogate"),
        ('{"video": "v", "prompt": "p", "a": "\\ud800"}', "extra can't be written"),
        ('{"video": "v", "prompt": "p\\u0000"}', "prompt holds a NUL"),
        ('{"video": "v", "prompt": "p\0"}', "holds a NUL character: save the file as UTF-8"),
        ('{"video": "movie.mp4", "prompt": "p"}', "looks like a local file, not an id"),
        ('{"video": "https://x/y", "prompt": "p"}', "is an address, not an id"),
        ('{"video": "v", "prompt": "p", "a": NaN}', "holds NaN, which is no JSON"),
        ('{"video": "v", "prompt": "p", "a": -Infinity}', "holds -Infinity"),
        ('{"video": "v", "prompt": "p", "a": 1e999}', "extra can't be written as JSON"),
        ('{"video": "v", "prompt": "p", "a": ' + "1" * 5000 + "}", "a number of too many digits"),
        ('{"video": "v", "prompt": "p", "a": ' + "[" * 33 + "]" * 33 + "}", "deeper than 32"),
        ('{"video": "v", "prompt": ' + "[" * 900 + "]" * 900 + "}", "deeper than 32"),
        ('{"video": "v", "prompt": "p", "key": ' + "[" * 900 + "]" * 900 + "}", "deeper than 32"),
        ('{"video": "v", "prompt": "p", "\\ud800": 1}', "extra can't be written"),
        ('{"a": ' * 100_000, "is nested too deeply"),
        ('{"video": "v", "prompt": "p" "a"}', "is no JSON: Expecting ',' delimiter at char"),
        ('{"video": "v", "prompt": "p"},', "holds more than one object"),
        ('{"video": "v",', "where the line ends: write each object on one line"),
        ('[{"video": "v", "prompt": "p"}]', "is a JSON array: write each object on one line"),
        ('[{"video": "v", "prompt": "p"},', "is part of a JSON array"),
        ('"video"', "is no JSON object such as"),
        ("\ufeff{}", "begins with a byte order mark"),
        ('{"video": "' + "v" * LONGEST_LINE + '"}', "is longer than 1,048,576 bytes"),
        (b'{"video": "v", "prompt": "\xe9"}', "is no UTF-8: save the file as UTF-8"),
    ],
)
def test_a_bad_line_of_jsonl_is_told(line: str | bytes, told: str) -> None:
    """Each kind of fault names its line and what to do; the lines around it are read."""
    good = b'{"video": "v", "prompt": "p", "key": "%d"}'
    data = line.encode() if isinstance(line, str) else line

    [problem] = problems(b"\n".join([good % 1, data, good % 3]), format="jsonl")

    assert problem.startswith("line 2: ")
    assert told in problem
    assert len(problem) < 400
    assert problem.isprintable()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("v,make it snow, please,", "has 4 cells for 3 columns: put a text that holds ','"),
        ("v,p,x", "the cell 'x' stands in a column without a name"),
        ('v,"p"q,', "a quotation mark in a quoted cell is not doubled"),
        ("v,,", "prompt is empty"),
        (",p,", "video is empty"),
        ("v", "prompt is empty"),
        ("video,prompt,", "names the columns again"),
        ("movie.mov,p", "looks like a local file"),
        ("v,p\0,", "holds a NUL character"),
        ("v," + "p" * 200_000 + ",", "a cell is longer than 131,072 characters"),
        ("\ufeffvideo,prompt,", "begins with a byte order mark"),
        (b"v,\xe9", "is no UTF-8"),
    ],
)
def test_a_bad_row_is_told(row: str | bytes, told: str) -> None:
    """Each kind of fault names its line and what to do; the rows around it are read."""
    data = row.encode() if isinstance(row, str) else row

    found = problems(b"video,prompt,\nv,p,\n" + data + b"\n,q,\nv,q,")

    assert len(found) == 2
    assert found[0].startswith("line 3: ")
    assert told in found[0]
    assert found[1].startswith("line 4: video is empty")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("v1,snow\nv2,rain", "line 1: names no columns: begin with a row that does, such as"),
        ("\n\nv1,snow", "line 3: names no columns"),
        ("id,text\nv1,snow", "(is it what is called 'id'?)"),
        ("video,text\nv1,snow", "line 1: there is no column 'prompt': is it what is called 'text'"),
        ("prompt\nsnow", "line 1: there is no column 'video', only 'prompt'"),
        ("video,prompt,Video \nv,p,w", "line 1: there are two columns 'video'"),
        ("video,prompt,Video ID\nv,p,w", "the column 'Video ID' would be sent"),
        ("video,prompt,extra\nv,p,w", "line 1: there is a column 'extra'"),
        ('{"video": "v"}', "line 1: looks like JSON"),
        (b"video,prompt\xe9\n", "line 1: is no UTF-8"),
        ('video,"prompt"x\n', "line 1: a quotation mark in a quoted cell"),
    ],
)
def test_a_bad_header_is_told_alone(text: str | bytes, told: str) -> None:
    """Where the columns are not known, nothing else is said of the table."""
    [problem] = problems(text, format="csv")

    assert told in problem


def test_a_quotation_mark_that_is_never_closed_is_told_where_it_opens() -> None:
    """It swallows the rows after it, so they are not judged; the rows before it are."""
    assert problems('video,prompt\n,p\nv,"p\nv,q\n,r') == [
        "line 2: video is empty: pass the id that the gateway gave, for example 'video_123'",
        "line 3: a quotation mark is opened and never closed; what follows was not read",
    ]


def test_what_follows_a_misplaced_quotation_mark_is_not_judged() -> None:
    """Where a cell of many lines ends in the wrong place, the rows after it can't be told apart."""
    [problem] = problems('video,prompt\nv,"p\nv,"q\n,r')

    assert problem.startswith("line 2: a quotation mark in a quoted cell is not doubled")
    assert problem.endswith("; what follows was not read")


def test_a_key_is_given_once() -> None:
    """Two equal keys would be one job, so the second is refused, with the line of the first."""
    text = "video,prompt,key\nv,p,a\nv,q,A\nv,r, a \n"
    assert problems(text) == ["line 4: the key 'a' is that of line 2 too"]


def test_a_derived_key_that_another_line_was_given_is_refused() -> None:
    """A key copied to another line is not silently bought in place of the line it came from."""
    key = read('{"video": "v", "prompt": "p"}')[0].request.key
    text = f"video,prompt,key\nv,p,\nv,q,{key}\n"
    assert problems(text) == [f"line 3: the key '{key}' is that of line 2 too"]


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff", "video,prompt\n", "video,prompt\n,\n"])
@pytest.mark.parametrize("format", [None, "csv"])
def test_an_empty_input_is_told(text: str, format: str | None) -> None:
    """A batch of nothing is a mistake, not a success."""
    assert problems(text, format=format) == [
        "jobs names no job: it is empty, or holds nothing but a header"
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\x03\x04\x14\0", "jobs is a spreadsheet or an archive"),
        ("video,prompt\nv,p".encode("utf-32"), "jobs is UTF-32: save it as UTF-8"),
        ("video,prompt\nv,p".encode("utf-16-le"), "line 1: holds a NUL character"),
        ("video,prompt\nv,雪".encode("utf-16") + b"\0", "line 2: is no UTF-16"),
        ("\ufeffvideo,prompt\nv,\ud800".encode("utf-16-le", "surrogatepass"), "line 2: is no UTF"),
        (b"\xff\xfe", "jobs names no job"),
    ],
)
def test_what_is_no_text_is_told(data: bytes, told: str) -> None:
    """Encodings are not guessed, and the message says what to do instead."""
    assert told in problems(data)[0]


def test_a_line_too_long_for_memory_is_passed_over() -> None:
    """What is too long is never kept, wherever the line ends, and the next lines have their place."""
    longest = b'{"video": "v", "prompt": "'.ljust(LONGEST_LINE - 3, b"p") + b'"}\n'
    assert len(longest) == LONGEST_LINE
    too_long = b"{" * (3 * LONGEST_LINE)

    for data in (too_long + b"\r\n\n{}", too_long + b"\n\n{}"):
        found = problems(longest + data)
        assert [problem.partition(":")[0] for problem in found] == ["line 2", "line 4"]
    assert problems(longest + too_long) == ["line 2: is longer than 1,048,576 bytes"]
    assert len(read(longest)) == 1


def test_a_line_end_may_lie_across_what_is_read_at_once() -> None:
    """It is one line end, after a line that is read and after one that is passed over."""
    line = b'{"video": "v", "prompt": "'.ljust(CHUNK - 3, b"p") + b'"}'
    second = b'{"video": "v", "prompt": "q"}'
    assert [each.number for each in read(line + b"\r\n" + second)] == [1, 2]

    for steps in range(5, 8):
        too_long = b"{" * (CHUNK * steps)
        assert problems(too_long) == ["line 1: is longer than 1,048,576 bytes"]
        found = problems(too_long[:-1] + b"\r\n" + second + b"\n{}")
        assert [problem.partition(":")[0] for problem in found] == ["line 1", "line 3"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.csv", "No such file or directory"),
        (".", "Is a directory"),
        ("a\0b", "name of a file"),
    ],
)
def test_a_file_that_cannot_be_opened_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    """A missing file is an error of the input, and its name is shown printably."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told) as caught:
        read_input(name)
    assert str(caught.value).isprintable()


def test_a_closed_stdin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard input is no reason for a traceback."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="stdin is closed"):
        read_input("-")


def test_a_failing_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while reading is an error of the input too."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Failing()))
    with pytest.raises(InputError, match="stdin: Input/output error"):
        read_input("-")
