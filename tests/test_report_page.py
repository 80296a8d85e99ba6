"""The page: what is in it, and that nothing foreign can be more in it than text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import octoremix
from octoremix.cli._report import write_report
from octoremix.cli._report.jobs import ReportBatch, ReportJob, read_jobs
from octoremix.cli._report.page import embedded, render
from octoremix.cli._report.words import shown, span, spoken

from .report_folders import START, event, job_done, write_record

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</script x><script >alert(1)//",
    "<!--<script>",
    "</noscript><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "]]>",
    "line\u2028separator\u2029",
]


class Reader(HTMLParser):
    """Reads a page as a browser does that runs no script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of this name."""
        return [attributes for name, attributes in self.tags if name == tag]


def data_of(page: str) -> dict[str, Any]:
    """What the page's script finds in it."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(text)


def batch_of(*jobs: ReportJob) -> ReportBatch:
    return ReportBatch(name="spring", jobs=jobs)


def test_a_page_shows_every_job(tmp_path: Path) -> None:
    """Each job is in the script's data and in the plain table, with links to its files."""
    for name in ("a.mp4", "b c#1.mp4", "sources/video_1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_record(
        tmp_path,
        *job_done("a", line=1, took=45),
        *job_done("b", line=2, took=60, file="b c#1.mp4"),
        event("failed", "c", line=3, error={"type": "X", "message": "no capacity"}),
    )
    page = render(read_jobs(tmp_path))

    data = data_of(page)
    assert data["sources"] is True
    assert data["jobs"][0] == {
        "key": "a",
        "id": "task_a",
        "video": "video_1",
        "prompt": "prompt of a",
        "model": "veo_3_1-extend",
        "status": "done",
        "group": "done",
        "at": "2026-03-01T12:00:00+00:00",
        "took": "45 s",
        "waited": "22 s",
        "file": "a.mp4",
        "source": "sources/video_1.mp4",
    }
    assert [job.get("file") for job in data["jobs"]] == ["a.mp4", "b%20c%231.mp4", None]
    assert data["jobs"][2]["error"] == "no capacity"
    links = [link["href"] for link in Reader(page).named("a")][1:]
    source = "sources/video_1.mp4"
    assert links == [source, "a.mp4", source, "b%20c%231.mp4", source]


def test_the_head_tells_the_whole(tmp_path: Path) -> None:
    """Counts, the time from first to last, the middle and the longest stand above the jobs."""
    write_record(
        tmp_path,
        *job_done("a", accepted=0, took=40),
        *job_done("b", accepted=10, took=50),
        *job_done("c", accepted=20, took=100),
        event("in_doubt", "d"),
        event("submitted", "e"),
    )
    page = render(read_jobs(tmp_path))

    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))
    assert facts == {
        "jobs": "5",
        "done": "3",
        "failed": "0",
        "in doubt": "1",
        "running": "1",
        "total time": "2 min",
        "median job": "50 s",
        "longest job": "1 min 40 s",
    }
    assert f"<h1>{tmp_path.name}</h1>" in page
    assert "1 Mar 2026, 12:00 \N{EN DASH} 12:02 UTC" in page
    assert 'aria-label="Done: 3, In doubt: 1, Running: 1"' in page


def test_an_empty_batch_has_a_page(tmp_path: Path) -> None:
    """Without jobs the page says so, and holds no list, charts or script."""
    (tmp_path / "results.jsonl").touch()

    page = render(read_jobs(tmp_path))

    reader = Reader(page)
    assert "No jobs yet" in page
    assert not {"script", "noscript", "figure", "svg", "ol", "a"} & {tag for tag, _ in reader.tags}


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_is_only_text(text: str) -> None:
    """A text from the record makes no element, wherever on the page it comes."""
    job = ReportJob(
        key=text, id=text, video=text, prompt=text, model=text, status="failed", error=text
    )
    harmless = ReportJob(key="x", prompt="x", status="failed")
    page = render(ReportBatch(name=text, jobs=(job,)))

    reader, expected = Reader(page), Reader(render(ReportBatch(name="x", jobs=(harmless,))))
    assert [tag for tag, _ in reader.tags] == [tag for tag, _ in expected.tags]
    assert "".join(reader.texts["h1"]) == shown(text, 200)
    assert "".join(reader.texts["th"]).endswith(shown(text, 160))
    (told,) = data_of(page)["jobs"]
    assert {told[name] for name in ("key", "id", "video", "prompt", "model", "error")} == {
        shown(text, 200)
    }


@given(st.text())
@example("<")
@example(">")
@example("&")
@example("\u2028\u2029")
def test_nothing_closes_the_scripts_data(text: str) -> None:
    """No character of JSON data means anything to HTML, and it reads as what it was."""
    written = embedded({"text": text})

    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written) == {"text": text}


def test_only_the_page_itself_may_run() -> None:
    """The policy allows the script and the style that are in the page, by their digests, alone."""
    page = render(batch_of(ReportJob(key="a")))
    reader = Reader(page)
    policy = next(meta["content"] for meta in reader.named("meta") if "http-equiv" in meta) or ""
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert allowed == {
        "default-src": "'none'",
        "script-src": digest(reader.texts["script"][-1]),
        "style-src": digest("".join(reader.texts["style"])),
        "media-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    # It would not be applied: a policy by digests rules these out.
    assert not [attributes for _, attributes in reader.tags if "style" in attributes]
    assert not [name for _, attributes in reader.tags for name in attributes if name[:2] == "on"]


def test_the_page_names_no_other_host() -> None:
    """The only addresses in it are relative, but for the icon that it holds and a namespace."""
    job = ReportJob(key="a", status="downloaded", file="a.mp4", source_file="sources/v.mp4")
    page = render(batch_of(job))

    assert re.findall(r"\w+://[^\s'\"]*", page) == ["http://www.w3.org/2000/svg"]


def test_links_and_places_stay_out_of_the_page(tmp_path: Path) -> None:
    """Neither a result's link nor where the folder lies is in the page."""
    write_record(
        tmp_path,
        event("submitted"),
        event("completed", url="https://cdn.example/v.mp4?sig=secret", file=str(tmp_path / "a")),
    )
    page = render(read_jobs(tmp_path))

    assert "cdn.example" not in page
    assert "secret" not in page
    assert str(tmp_path) not in page
    assert str(tmp_path.parent) not in page


def test_many_jobs_make_a_page_of_moderate_size() -> None:
    """5,000 jobs with long prompts stay far below 10 MB, and all of them are there."""
    jobs = [
        ReportJob(
            key=f"campaign/{index:05}",
            id=f"video_{index:032}",
            video=f"video_{index % 50:032}",
            prompt="make it snow on all roofs " * 200,
            model="veo_3_1-extend",
            status="downloaded",
            submitted_at=START,
            done_at=START,
            file=f"campaign-{index:05}-video_{index:032}.mp4",
            source_file="sources/video_1.mp4",
        )
        for index in range(5_000)
    ]
    page = render(batch_of(*jobs))

    assert len(page.encode()) < 7_000_000
    assert len(data_of(page)["jobs"]) == 5_000


def test_the_plain_table_ends_where_nobody_reads_on() -> None:
    """Without a script the page lists 5,000 jobs, and says that it ends there."""
    page = render(batch_of(*(ReportJob(key=str(index)) for index in range(5_001))))

    assert page.count('<th scope="row">') == 5_000
    assert "It ends after 5,000 jobs." in page


def test_the_page_tells_when_and_by_what_it_was_made() -> None:
    """Its foot has the version and the time, in UTC."""
    page = render(batch_of(), made_at=START)

    assert f"Made by octoremix {octoremix.__version__}, 1 Mar 2026, 12:00 UTC" in page


def test_the_page_is_written_beside_the_videos(tmp_path: Path) -> None:
    """By default it is `report.html`, and no other file is left."""
    folder = write_record(tmp_path / "batch", event("submitted"))

    page, batch = write_report(folder)

    assert page == folder / "report.html"
    assert [job.key for job in batch.jobs] == ["a"]
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "results.jsonl"]
    assert page.read_text("utf-8").endswith("</html>")


def test_a_page_that_can_not_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is replaced as a whole or not at all, and no part of it stays behind."""
    folder = write_record(tmp_path / "batch", event("submitted"))
    (folder / "report.html").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(folder)

    assert (folder / "report.html").read_text() == "old"
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "results.jsonl"]


def test_another_name_must_be_that_of_a_page_in_the_folder(tmp_path: Path) -> None:
    """A page elsewhere would find no video, and a record is not replaced by a page."""
    folder = write_record(tmp_path / "batch", event("submitted"))
    (folder / "folder.html").mkdir()

    page, _ = write_report(folder, folder / "index.html")

    assert page.is_file()
    for target, reason in (
        (tmp_path / "index.html", "is not in"),
        (folder / "results.jsonl", "no name for a page"),
        (folder / "folder.html", "is a folder"),
    ):
        with pytest.raises(octoremix.ConfigurationError, match=reason):
            write_report(folder, target)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Jinja2 the error says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    monkeypatch.delitem(__import__("sys").modules, "octoremix.cli._report.page", raising=False)

    with pytest.raises(octoremix.ConfigurationError, match=r'pip install "octoremix\[cli\]"'):
        write_report(write_record(tmp_path / "batch", event("submitted")))


@pytest.mark.parametrize(
    ("text", "limit", "result"),
    [
        ("plain", 10, "plain"),
        ("  padded\n", 10, "padded"),
        ("two\nlines\r\nthree", 100, "two\nlines\nthree"),
        ("much too long", 8, "much to…"),
        ("\x1b[31m \x00", 100, "\\x1b[31m \\x00"),
        ("a\u202eb", 100, "a\\u202eb"),
        ("\ud800", 100, "\\ud800"),
        ("family \U0001f468\u200d\U0001f469", 100, "family \U0001f468\u200d\U0001f469"),
        ("a\u200d\u202e", 100, "a\u200d\\u202e"),
    ],
)
def test_foreign_text_is_made_readable(text: str, limit: int, result: str) -> None:
    """Controls and marks that reorder are escaped, lines and joined characters are kept."""
    assert shown(text, limit) == result


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 s"),
        (0.84, "0.8 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 01 s"),
        (3599.6, "1 h"),
        (3661, "1 h 01 min"),
        (7170, "2 h"),
        (47.5 * 3600, "47 h 30 min"),
        (48 * 3600, "2 d"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_durations_are_written_as_people_say_them(seconds: float | None, text: str) -> None:
    """Two units at most, and none that rounds up to a whole one above it."""
    assert spoken(seconds) == text


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (START, "1 Mar 2026, 12:00 UTC"),
        (START.replace(hour=13), "1 Mar 2026, 12:00 \N{EN DASH} 13:00 UTC"),
        (START.replace(day=2), "1 Mar 2026, 12:00 \N{EN DASH} 2 Mar 2026, 12:00 UTC"),
    ],
)
def test_a_range_of_times_repeats_nothing(end: datetime, text: str) -> None:
    """The day is written once where it is the same, and the time where that is."""
    assert span(START, end) == text


def test_the_page_is_part_of_what_is_installed() -> None:
    """The files that the page is made of lie in the package, where a wheel takes them from."""
    folder = Path(octoremix.__file__).parent / "cli" / "_report" / "templates"

    names = {file.name for file in folder.iterdir()}
    assert names == {"page.css", "page.html.jinja", "page.js"}
