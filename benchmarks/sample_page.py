"""Sample: the page of a batch of so many jobs, opened and searched in the browser given."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from workload import report

from octoremix.cli._report import write_report

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROMPT = "make it snow on roof {} " + "and on all the others " * 20


def _record(folder: Path, jobs: int) -> None:
    with (folder / "results.jsonl").open("w") as file:
        for number in range(jobs):
            common = {"key": f"k{number}", "id": f"task_{number}", "video": "video_1"}
            common |= {"prompt": PROMPT.format(number), "model": "veo_3_1-extend"}
            for event, after in (("submitted", 0), ("started", 20), ("downloaded", 60)):
                at = START + timedelta(seconds=number / 10 + after + number % 37)
                written = {"time": at.isoformat(), "event": event, **common}
                if event == "downloaded":
                    written["file"] = f"k{number}.mp4"
                print(json.dumps(written), file=file)


def _opened(page: Page, file: Path) -> float:
    began = time.perf_counter()
    page.goto(file.as_uri())
    page.locator(".job").first.wait_for()
    return time.perf_counter() - began


def _found(page: Page, jobs: int) -> float:
    began = time.perf_counter()
    page.get_by_role("searchbox").fill(f"roof {jobs - 1} ")
    page.locator(".job", has_text=f"roof {jobs - 1} ").first.wait_for()
    return time.perf_counter() - began


def _main(jobs: int, chromium: str) -> None:
    # As root Chromium can't build its sandbox; it opens nothing here but a page of our own.
    arguments = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        _record(Path(folder), jobs)
        file, _ = write_report(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        browser.new_page().goto("about:blank")
        page = browser.new_page()
        shown, found = _opened(page, file), _found(page, jobs)
        browser.close()
        report(megabytes=file.stat().st_size / 1e6, shown=shown, found=found)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
