"""The page as people use it: they watch, filter, search, print, and read it in any light."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from octoremix.cli._report import write_report

from ..report_folders import event, job_done, write_record

Visit = Callable[..., Page]

pytestmark = pytest.mark.needs("chromium")

WIDE = {"width": 1360, "height": 900}
NARROW = {"width": 360, "height": 740}


def card(page: Page, text: str) -> Locator:
    """The card of the one job that shows this text."""
    return page.locator(".job", has_text=text)


def chip(page: Page, name: str) -> Locator:
    """The button that shows one kind of job."""
    return page.get_by_role("group", name="Show").get_by_role("button", name=name)


def wait_until(page: Page, condition: str, argument: object = None) -> None:
    """Wait for what JavaScript finds to be true."""
    page.wait_for_function(condition, arg=argument, timeout=20_000)


def scroll_to_the_end(page: Page) -> None:
    """Scroll down to the last of the forty jobs."""
    page.locator(".job").last.scroll_into_view_if_needed()
    expect(page.locator(".job")).to_have_count(40)
    page.locator(".job").last.scroll_into_view_if_needed()


def test_source_and_remix_play_side_by_side(visit: Visit, report: Path) -> None:
    """One button starts both videos of a job, from files with awkward names, and stops them."""
    job = card(visit(report, viewport=WIDE), "snow 0")
    both = job.get_by_role("button", name="Play both")

    both.click()

    page = job.page
    wait_until(
        page,
        "() => [...document.querySelectorAll('.job:first-child video')]"
        ".every((video) => video.currentTime > 0.2 && video.videoWidth === 64)",
    )
    first, second = (job.locator("video").nth(number).bounding_box() for number in (0, 1))
    assert first is not None
    assert second is not None
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]

    job.get_by_role("button", name="Pause both").click()

    assert job.locator("video").evaluate_all("(all) => all.every((video) => video.paused)")
    expect(both).to_be_visible()


def test_one_video_plays_alone_with_the_browsers_controls(visit: Visit, report: Path) -> None:
    """The button on a picture can be reached and pressed by keyboard, and hands the focus on."""
    page = visit(report, viewport=WIDE)
    button = page.get_by_role("button", name="Play the remix of snow 0", exact=True)
    button.focus()

    page.keyboard.press("Enter")

    video = card(page, "snow 0").first.locator("video").nth(1)
    wait_until(page, "() => document.querySelectorAll('video')[1].currentTime > 0.1")
    expect(video).to_be_focused()
    expect(video).to_have_js_property("controls", True)
    expect(button).to_be_hidden()


def test_videos_are_read_only_when_they_come_near(visit: Visit, report: Path) -> None:
    """Far below nothing is loaded, near by the first picture is, and far above it is let go."""
    page = visit(report, viewport=WIDE)
    states = "() => [...document.querySelectorAll('video')].map((video) => video.preload)"
    wait_until(page, "() => document.querySelector('video').readyState >= 1")
    before = page.evaluate(states)
    assert before[0] == "metadata"
    assert before[-1] == "none"

    scroll_to_the_end(page)

    wait_until(page, "() => [...document.querySelectorAll('video')].at(-1).readyState >= 1")
    wait_until(page, "() => document.querySelector('video').preload === 'none'")
    assert page.evaluate("() => document.querySelector('video').hasAttribute('src')") is False

    page.locator(".job").first.scroll_into_view_if_needed()

    wait_until(page, "() => document.querySelector('video').readyState >= 1")


def test_a_file_that_is_no_video_is_told(visit: Visit, report: Path) -> None:
    """In the place of a video that can't be played stands a sentence, not a black box."""
    (report.parent / "100% #0 ü?.mp4").write_bytes(b"no video")

    page = visit(report, viewport=WIDE)

    job = card(page, "snow 0").first
    told = job.locator(".broken:visible")
    expect(told).to_have_text("This file can\N{RIGHT SINGLE QUOTATION MARK}t be played here.")
    expect(job.locator(".both")).to_be_hidden()


def test_jobs_without_a_video_say_why(visit: Visit, report: Path) -> None:
    """Failed, in doubt, running and never sent: each is told in words, and texts stay texts."""
    page = visit(report, viewport=WIDE)
    page.get_by_role("searchbox").fill("frogs")

    job = card(page, "frogs")
    expect(job).to_contain_text("rain <b>of</b> frogs")
    expect(job).to_contain_text("no capacity </script>")
    expect(job.locator(".status")).to_have_text("failed")
    for group, words in (
        ("In doubt", "it may exist, and may be billed"),
        ("Running", "not ready yet"),
        ("Not sent", "nothing was bought"),
    ):
        page.get_by_role("searchbox").fill("")
        chip(page, group).click()
        expect(page.locator(".job")).to_have_count(1)
        expect(page.locator(".job")).to_contain_text(words)


def test_a_long_prompt_is_shown_in_part_first(visit: Visit, tmp_path: Path) -> None:
    """A button shows the rest of it and takes it away again; on paper all of it stands."""
    long, short = event("submitted", prompt="snow " * 400), event("submitted", "b")
    report, _ = write_report(write_record(tmp_path / "batch", long, short))
    page = visit(report, viewport=WIDE)
    height = "() => document.querySelector('.prompt').offsetHeight"
    before = page.evaluate(height)
    button = page.get_by_role("button", name="Show all of it")

    button.click()

    whole = page.evaluate(height)
    assert whole > 2 * before
    page.get_by_role("button", name="Show less").click()
    assert page.evaluate(height) == before
    expect(button).to_have_count(1)
    assert Axe().run(page).violations_count == 0
    page.emulate_media(media="print")
    assert page.evaluate("() => document.querySelector('.prompt').scrollHeight") == page.evaluate(
        height
    )
    expect(button).to_be_hidden()


def test_jobs_are_filtered_and_found(visit: Visit, report: Path) -> None:
    """A kind and words narrow the list together; what is shown is counted aloud."""
    page = visit(report, viewport=WIDE)
    told = page.get_by_role("status")
    expect(told).to_have_text("40 jobs")

    chip(page, "Done").click()
    expect(told).to_have_text("36 jobs")
    expect(chip(page, "Done")).to_have_attribute("aria-pressed", "true")
    expect(chip(page, "All")).to_have_attribute("aria-pressed", "false")

    page.get_by_role("searchbox").fill("SNOW  17")
    expect(told).to_have_text("1 job")
    expect(page.locator(".job .prompt")).to_have_text(["snow 17"])

    chip(page, "Failed").click()
    expect(page.locator(".job")).to_have_count(0)
    expect(page.get_by_text("No job of this kind matches “SNOW 17”")).to_be_visible()

    page.get_by_role("button", name="Show all jobs").click()
    expect(told).to_have_text("40 jobs")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_a_kind_with_no_job_says_so(visit: Visit, tmp_path: Path) -> None:
    """An empty list is a sentence that tells what its emptiness means."""
    report, _ = write_report(write_record(tmp_path / "batch", event("submitted")))
    page = visit(report, viewport=WIDE)

    for group, words in (
        ("Failed", "Nothing failed"),
        ("Done", "Nothing is done yet"),
        ("In doubt", "Nothing is in doubt"),
    ):
        chip(page, group).click()
        expect(page.get_by_text(words)).to_be_visible()


def test_an_address_can_name_a_kind(visit: Visit, report: Path) -> None:
    """The kind that is shown is part of the address, so that it can be passed on."""
    page = visit(report, "#failed", viewport=WIDE)

    expect(page.locator(".job")).to_have_count(1)
    chip(page, "In doubt").click()
    assert page.url.endswith("report.html#doubt")


def test_more_jobs_come_as_one_scrolls(visit: Visit, report: Path) -> None:
    """The list is drawn in parts, down to the last job."""
    page = visit(report, viewport=WIDE)
    expect(page.locator(".job")).to_have_count(24)

    page.locator(".job").last.scroll_into_view_if_needed()

    expect(page.locator(".job")).to_have_count(40)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_all_can_be_reached_by_keyboard(visit: Visit, report: Path) -> None:
    """Tab leads from the way past the head through the filters and the search into the jobs."""
    page = visit(report, viewport=WIDE)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "() => { const here = document.activeElement;"
                " return here.getAttribute('aria-label') || here.id || here.innerText }"
            )
        )

    words = [re.sub(r"\s+\d+$", "", word) for word in reached]
    assert words == [
        *("Skip to the jobs", "All", "Done", "Failed", "In doubt", "Running", "Not sent", "find"),
        *("Source", "Play the source of snow", "Remix", "Play the remix of snow"),
    ]


@pytest.mark.parametrize(
    ("scheme", "size", "state"),
    [
        ("light", WIDE, "all"),
        ("light", NARROW, "all"),
        ("dark", WIDE, "all"),
        ("dark", NARROW, "all"),
        ("light", NARROW, "playing"),
        ("dark", WIDE, "playing"),
        ("light", WIDE, "nothing"),
        ("dark", NARROW, "nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value['width']}px",
)
def test_the_page_breaks_no_rule_of_accessibility(
    visit: Visit, report: Path, scheme: str, size: dict[str, int], state: str
) -> None:
    """axe finds no fault, contrast among them, and nothing is wider than the window."""
    page = visit(report, viewport=size, color_scheme=scheme)
    if state == "nothing":
        page.get_by_role("searchbox").fill("nobody asked for this")
        expect(page.locator(".job")).to_have_count(0)
    elif state == "playing":
        page.get_by_role("button", name="Play the remix of snow 0", exact=True).click()
        wait_until(page, "() => document.querySelectorAll('video')[1].currentTime > 0.1")
    else:
        scroll_to_the_end(page)

    results = Axe().run(page)

    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_nothing_is_accessible_too(visit: Visit, tmp_path: Path, scheme: str) -> None:
    """The page of a batch without jobs breaks no rule either."""
    report, _ = write_report(write_record(tmp_path / "empty"))

    results = Axe().run(visit(report, viewport=NARROW, color_scheme=scheme))

    assert results.violations_count == 0, results.generate_report()


def test_without_scripts_there_is_a_table(visit: Visit, report: Path) -> None:
    """Every job is in it, with links to its videos, and no control that would do nothing."""
    page = visit(report, viewport=WIDE, java_script_enabled=False)

    expect(page.locator("tbody tr")).to_have_count(40)
    expect(page.get_by_role("link", name="remix").first).to_have_attribute(
        "href", "100%25%20%230%20%C3%BC%3F.mp4"
    )
    expect(page.get_by_role("searchbox")).to_be_hidden()


def test_the_policy_keeps_foreign_code_out(browser: Browser, report: Path) -> None:
    """Even if a text came to be markup, the browser would run and fetch nothing of it."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, browser.new_context() as context:
        elsewhere.setblocking(False)
        host = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        attack = (
            "<script>document.title = 'taken'</script><style>body { display: none }</style>"
            f"<img src='{host}/x' onerror=\"document.title = 'taken'\">"
            f"<iframe src='sources/'></iframe><base href='{host}/'><video src='{host}/v'></video>"
        )
        text = report.read_text("utf-8")
        report.write_text(text.replace("</header>", f"{attack}</header>"), "utf-8")
        page = context.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(report.as_uri())
        wait_until(page, "() => document.querySelector('.job video').readyState >= 1")

        assert page.title() == "spring & autumn \N{EN DASH} octoremix"
        expect(page.get_by_role("heading", name="spring & autumn")).to_be_visible()
        assert len(refused) >= 5
        assert all("Content Security Policy" in message for message in refused)
        with pytest.raises(BlockingIOError):  # nobody has come
            elsewhere.accept()


def test_five_thousand_jobs_are_usable_at_once(visit: Visit, tmp_path: Path) -> None:
    """However many jobs there are, few are drawn, and a search goes through all of them."""
    lines: list[dict[str, Any]] = []
    for number in range(5_000):
        prompt = f"make it snow on roof {number} " + "and on all the others " * 20
        lines += job_done(f"k{number}", accepted=number / 10, line=number, prompt=prompt)
    report, _ = write_report(write_record(tmp_path / "batch", *lines))
    assert report.stat().st_size < 10_000_000

    page = visit(report, viewport=WIDE)

    expect(page.get_by_role("status")).to_have_text("5,000 jobs")
    assert page.locator("*").count() < 2_500
    page.get_by_role("searchbox").fill("roof 4999")
    expect(page.locator(".job")).to_have_count(1)


def test_a_print_holds_every_job(visit: Visit, report: Path) -> None:
    """What is printed are all jobs' words, without what only a screen can do."""
    page = visit(report, viewport=WIDE)

    page.emulate_media(media="print")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")

    expect(page.locator(".job")).to_have_count(40)
    expect(page.get_by_role("searchbox")).to_be_hidden()
    expect(page.locator("video").first).to_be_hidden()
    expect(page.get_by_text("rain <b>of</b> frogs")).to_be_visible()

    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    expect(page.locator(".job")).to_have_count(24)
