"""The demo: the whole way, with real videos."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import av
import pytest

from octoremix.cli._demo_play import PROMPTS
from octoremix.testing._effects import choose_effects

from .conftest import end

if TYPE_CHECKING:
    from pathlib import Path


Launch = "Callable[..., subprocess.Popen[str]]"
Run = "Callable[..., Ended]"

HOSTILE = {
    "OCTOPUSX_API_KEY": "not the demo's",
    "OCTOPUSX_BASE_URL": "http://192.0.2.1:9",
    "HTTP_PROXY": "http://192.0.2.1:9",
    "http_proxy": "http://192.0.2.1:9",
    "ALL_PROXY": "http://192.0.2.1:9",
    "SSL_CERT_FILE": "there/is/none.pem",
}


def frames(file: Path) -> int:
    """How many pictures a video has; all of them are decoded."""
    with av.open(str(file)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_each_prompt_shows_another_effect() -> None:
    """The prompts of the demo reach as many effects as there are prompts."""
    first = [choose_effects(prompt)[0].name for prompt in PROMPTS]
    assert len(set(first)) == len(PROMPTS)


def test_the_demo_makes_real_videos(launch: Launch, tmp_path: Path, state: Path) -> None:
    """Videos that can be played, a table and a count of the polls, whatever the environment."""
    ended = end(launch("demo", "--jobs", "2", "--out", "a/b", **HOSTILE))
    assert ended.code == 0
    names = ["00-source.mp4", "01-make-it-snow.mp4", "02-starry-night.mp4"]
    folder = tmp_path / "a/b"
    assert sorted(file.name for file in folder.iterdir()) == names
    source, *remixes = (frames(folder / name) for name in names)
    assert all(count > source for count in remixes)
    heading, *rows, summary, where = ended.out.splitlines()
    assert heading.split() == ["job", "prompt", "polls", "waited", "file", "size"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert all(name in row for name, row in zip(names[1:], rows, strict=True))
    polls = [int(re.search(r"  (\d+)  +[\d.]+ s  ", row)[1]) for row in rows]
    assert summary == f"One poller sent {sum(polls)} polls for 2 jobs, 2 of them completed."
    assert where == "In a/b: the videos and their source."
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "the default is every 10 to 30 s" in ended.err
    assert "\x1b" not in ended.err + ended.out
    assert not list(state.iterdir())  # nothing was bought, so there is nothing to record


def test_the_demo_takes_a_video_of_ones_own(
    octoremix: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the user's is the source; with --json each video is an object, then the sum."""
    monkeypatch.setattr("octoremix.cli._demo.SHORTEST", 0.5)
    with av.open(str(tmp_path / "mine.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", 24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(24):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    ended = octoremix("demo", "mine.mkv", "--jobs", "1", "--json")
    assert ended.code == 0
    done = [thing for thing in ended.objects if thing["event"] == "done"]
    assert [thing["file"] for thing in done] == ["octoremix-demo/01-make-it-snow.mp4"]
    assert frames(tmp_path / done[0]["file"]) > 24
    total = ended.objects[-1]
    assert (total["event"], total["jobs"], total["completed"]) == ("demo", 1, 1)
    assert total["polls"] == done[0]["polls"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.mp4", None, "does not exist"),
        (".", None, "is no file"),
        ("text.mp4", b"no video at all", "can't be read as a video"),
        ("empty.mp4", b"", "can't be read as a video"),
    ],
)
def test_a_bad_video_is_told_before_anything_is_made(
    octoremix: Run, tmp_path: Path, name: str, content: Any, reason: str
) -> None:
    """A file that is no video is one error line and code 2, and no folder is left."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = octoremix("demo", name)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert reason in ended.err
    assert not (tmp_path / "octoremix-demo").exists()


def test_a_folder_that_is_a_file_is_told(octoremix: Run, tmp_path: Path) -> None:
    """A folder that can't be made is a usage error."""
    (tmp_path / "there").write_text("mine")
    ended = octoremix("demo", "--out", "there")
    assert ended.code == 2
    assert "folder there can't be made" in ended.err
