"""The pytest plugin, in suites of users' own: each runs in a process with its own settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTING = Path(__file__).parent.parent / "docs" / "testing.md"

# What each of these suites holds: it works, and what a test leaves open is closed in silence.
COROUTINES = """
import asyncio
import pytest

{head}

{mark}
async def test_a_remix(octoremix_gateway, octoremix_session):
    video = await octoremix_session.remix("video_1", prompt="make it snow")
    assert video.url.startswith(octoremix_gateway.url)
    books = octoremix_gateway.books
    books.assert_charged_once(1)
    assert books.polls[video.id] >= 2

{mark}
async def test_books_of_its_own(octoremix_gateway):
    assert octoremix_gateway.books.accepted == 0

{mark}
@pytest.mark.octoremix_gateway(duration=600)
async def test_left_open(octoremix_gateway, octoremix_session):
    followed = await octoremix_session.submit("video_1", prompt="make it snow")
    while octoremix_gateway.books.polls[followed.id] < 1:
        await asyncio.sleep(0.01)
    assert not followed.done()

{mark}
@pytest.mark.octoremix_gateway(faults=["hung_submit:seconds=0.3"])
async def test_left_unanswered(octoremix_gateway, octoremix_session):
    waiting = asyncio.ensure_future(octoremix_session.submit("video_1", prompt="a"))
    while not octoremix_gateway.books.in_flight:
        await asyncio.sleep(0.01)
    waiting.cancel()

{mark}
async def test_closed_by_hand(octoremix_session):
    async with octoremix_session:
        await octoremix_session.retrieve("video_1")

{mark}
async def test_unused(octoremix_session):
    assert not octoremix_session.pending
"""

SHARED_LOOP = """
@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="module", autouse=True)
async def loop_of_all(anyio_backend):
    yield
"""

SUITES = {
    "asyncio-auto": ("asyncio_mode = auto", "", "", ""),
    "asyncio-strict": ("asyncio_mode = strict", "", "@pytest.mark.asyncio", ""),
    "asyncio-shared-loop": (
        "asyncio_mode = strict",
        "",
        "@pytest.mark.asyncio(loop_scope='module')",
        "",
    ),
    "anyio": (
        "",
        "@pytest.fixture\ndef anyio_backend(): return 'asyncio'",
        "@pytest.mark.anyio",
        "no:asyncio",
    ),
    "anyio-shared-loop": ("", SHARED_LOOP, "@pytest.mark.anyio", "no:asyncio"),
}


def run(pytester: pytest.Pytester, *words: str, ini: str = "") -> pytest.RunResult:
    """Run a suite in a process of its own, every warning an error."""
    if "no:asyncio" not in words:
        ini += "\nasyncio_default_fixture_loop_scope = function"  # it warns where this is open
    pytester.makeini(f"[pytest]\nfilterwarnings = error\ntimeout = 30\n{ini}\n")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *words)


@pytest.mark.parametrize("suite", SUITES)
def test_coroutines_of_every_runner(pytester: pytest.Pytester, suite: str) -> None:
    """Gateway and session work under each runner of coroutines, and leave nothing behind."""
    ini, head, mark, plugins = SUITES[suite]
    pytester.makepyfile(COROUTINES.format(head=head, mark=mark))
    result = run(pytester, *(("-p", plugins) if plugins else ()), ini=ini)
    result.assert_outcomes(passed=6)
    assert result.ret == 0
    assert "rror" not in result.stdout.str() + result.stderr.str()


def test_plain_functions(pytester: pytest.Pytester) -> None:
    """Without a runner of coroutines a test talks to the gateway as it likes."""
    pytester.makepyfile(
        """
        import asyncio, json, urllib.request
        import pytest

        def ask(gateway, path, body=None):
            request = urllib.request.Request(
                gateway.url + path,
                data=body and json.dumps(body).encode(),
                headers={
                    "Authorization": "Bearer " + gateway.api_key,
                    "Content-Type": "application/json",
                },
            )
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)

        BODY = {"prompt": "make it snow", "model": "veo_3_1-extend"}

        def test_urllib(octoremix_gateway):
            job = ask(octoremix_gateway, "/v1/videos/video_1/remix", BODY)
            assert ask(octoremix_gateway, "/v1/videos/" + job["id"])["status"] != "failed"
            octoremix_gateway.books.assert_charged_once(1)

        def test_books_of_its_own(octoremix_gateway):
            assert octoremix_gateway.books.accepted == 0

        def test_asyncio_run(octoremix_gateway, octoremix_session):
            async def main():
                return await octoremix_session.remix("video_1", prompt="make it snow")
            assert asyncio.run(main()).url

        @pytest.mark.octoremix_gateway(profile="grok", duration=600)
        class TestOfAClass:
            def test_its_marker(self, octoremix_gateway):
                job = ask(octoremix_gateway, "/v1/videos/video_1/remix", BODY)
                assert job["id"].startswith("grok:")
                answer = ask(octoremix_gateway, "/v1/videos/" + job["id"])
                assert answer["status"] != "completed"

            @pytest.mark.octoremix_gateway(duration=0)
            def test_adds_up(self, octoremix_gateway):
                job = ask(octoremix_gateway, "/v1/videos/video_1/remix", BODY)
                assert job["id"].startswith("grok:")
                answer = ask(octoremix_gateway, "/v1/videos/" + job["id"])
                assert answer["status"] == "completed"
        """
    )
    result = run(pytester, "-p", "no:asyncio", "-p", "no:anyio")
    result.assert_outcomes(passed=5)
    assert result.ret == 0


def test_the_example_of_the_documentation(pytester: pytest.Pytester) -> None:
    """The test of a web handler that the documentation shows passes as it stands there."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", TESTING.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    examples = [block for block in blocks if "def test_" in block]
    pytester.makepyfile("import octoremix\n" + "\n".join(examples))
    result = run(pytester, ini="asyncio_mode = auto")
    result.assert_outcomes(passed=2)


def test_loading_it_imports_nothing(pytester: pytest.Pytester) -> None:
    """A suite that does not use the fixtures does not pay for them."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "pytest_octoremix" in sys.modules
            assert not {"aiohttp", "av", "octoremix", "tenacity"} & {*sys.modules}
        """
    )
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("profil='grok'", "*no setting profil: it takes the keywords * profile, *"),
        ("'grok'", "*no setting 'grok': it takes the keywords * profile, *"),
        ("profile='groc'", "*must be one of octopus-doc, * not 'groc'"),
        ("faults=['html_5o2']", "*no fault is called 'html_5o2'; the faults are cut, *"),
        ("faults=['cut:nxt=1']", "*'nxt=1' of the fault 'cut:nxt=1' is no setting; use on, *"),
        ("duration=-1", "*duration must be seconds from 0 up, not -1"),
    ],
)
def test_a_typo_in_the_marker(pytester: pytest.Pytester, marker: str, told: str) -> None:
    """What the marker can't mean fails the test in one line that tells what exists."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.octoremix_gateway({marker})
        def test_it(octoremix_gateway): ...
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:asyncio", "--strict-markers")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"@pytest.mark.octoremix_gateway{told}"])
    result.stdout.no_fnmatch_line("*Traceback*")
