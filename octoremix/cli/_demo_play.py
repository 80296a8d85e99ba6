"""What the demo does, once its gateway runs."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen
from rich.text import Text
from tenacity import wait_random

from .. import OctoremixError, PollPolicy, RemixFuture, RemixRequest, Session, TaskStatus, Video
from ..errors import printable
from ._display import Display, displayed
from ._run import Run, all_of
from ._text import cut, human_size, slug

if TYPE_CHECKING:
    from ..testing import Emulator

__all__ = ["PROMPTS", "SOURCE_ID", "Demo"]

PROMPTS = (
    "make it snow like Christmas",
    "a starry night and a full moon",
    "an old film, all scratches",
    "dive deep among curious fish",
    "a volcano sets fire to the sky",
    "neon lights, a cyberpunk city",
    "a pencil sketch comes alive",
    "a video game from the eighties",
    "hold a mirror up to the street",
    "gravity turns all upside down",
    "a thunder storm and heavy rain",
    "throw a rainbow disco party",
    "golden light of an autumn day",
    "morning fog, like half a dream",
    "black and white film noir",
    "zoom in, closer and closer",
    "dance until the houses spin",
    "the negative of a photograph",
)
"""What the demo asks for: each shows another effect of the local gateway's renderer."""

SOURCE_ID = "video_source"

POLLS = PollPolicy(first_delay=1.0, wait=wait_random(0.8, 1.2))


@frozen(kw_only=True)
class _Result:
    """What became of one remix."""

    prompt: str
    polls: int = 0
    waited: float = 0.0
    file: Path | None = None


@define(eq=False, kw_only=True)
class Demo:
    """One run of the demo.

    Attributes:
        run: The command's.
        gateway: The local gateway, running.
        jobs: How many remixes to make.
        folder: Where the videos go.
        own: The user's own source, or ``None`` for the gateway's.
    """

    run: Run
    gateway: Emulator
    jobs: int
    folder: Path
    own: Path | None
    _results: dict[int, _Result] = field(init=False, factory=dict)

    async def play(self) -> None:
        """Submit, follow, download, and show what came of it."""
        output = self.run.output
        output.note(f"a local gateway at {self.gateway.url} makes {self.jobs} remixes")
        output.note("it is asked about every second here; the default is every 10 to 30 s", "dim")
        # Nothing of the environment: neither its key and address nor its proxies.
        async with Session(
            self.gateway.api_key, base_url=self.gateway.url, poll=POLLS, proxy=False
        ) as session:
            with displayed(output) as display:
                for index in range(self.jobs):
                    display.add(str(index), _prompt(index))
                if self.own is None:
                    source = Video(id=SOURCE_ID, status=TaskStatus.COMPLETED)
                    await session.download(source, self.folder / "00-source.mp4")
                await all_of(self._remix(session, display, index) for index in range(self.jobs))
            polls = session.stats.polls_sent
        self._show(polls)

    async def _remix(self, session: Session, display: Display, index: int) -> None:
        request = RemixRequest(video_id=SOURCE_ID, prompt=_prompt(index))
        future: RemixFuture | None = None
        started = time.monotonic()
        try:
            future = await self.run.submit(session, request)
            video = await self.run.follow(future, lambda video: display.change(str(index), video))
            waited = time.monotonic() - started
            file = self.folder / f"{index + 1:02d}-{slug(request.prompt, 12)}.mp4"
            await session.download(video, file)
        except (OctoremixError, OSError) as error:
            display.end(str(index), "error")
            self.run.failed(error, future.id if future else None)
            self._results[index] = _Result(prompt=request.prompt)
            return
        display.end(str(index))
        self._finish(index, video, waited, file)

    def _finish(self, index: int, video: Video, waited: float, file: Path) -> None:
        polls = self.gateway.books.polls[video.id]
        prompt = _prompt(index)
        self._results[index] = _Result(prompt=prompt, polls=polls, waited=waited, file=file)
        self.run.output.event(
            "done",
            id=video.id,
            video=video,
            file=str(file),
            prompt=prompt,
            polls=polls,
            waited=round(waited, 3),
        )

    def _show(self, polls: int) -> None:
        output = self.run.output
        done = sum(result.file is not None for result in self._results.values())
        if output.json:
            output.event(
                "demo", jobs=self.jobs, completed=done, polls=polls, folder=str(self.folder)
            )
            return
        output.show(partial(_table, self._results))
        files = "the videos and their source" if self.own is None else "the videos"
        output.write(
            f"One poller sent {polls} polls for {self.jobs} jobs, {done} of them completed.\n"
            f"In {printable(self.folder)}: {files}."
        )


def _prompt(index: int) -> str:
    return PROMPTS[index % len(PROMPTS)]


def _table(results: dict[int, _Result], width: int) -> Text:
    """Return the results as a table of so many columns; numbers keep theirs, words share the rest.

    Rich's own tables shorten the numbers too.
    """
    names = {index: _file_name(result) for index, result in results.items()}
    room = width - 31
    file_width = min(max(map(len, names.values())), max(8, room - 12))
    prompt_width = min(max(len(result.prompt) for result in results.values()), room - file_width)
    prompt_width = max(8, prompt_width)

    def line(job: str, prompt: str, polls: str, waited: str, file: str, size: str) -> str:
        words = f"{job:>3}  {cut(prompt, prompt_width):<{prompt_width}}  {polls:>5}  {waited:>6}"
        return f"{words}  {cut(file, file_width):<{file_width}}  {size:>7}\n"

    table = Text(no_wrap=True, overflow="ellipsis")
    table.append(line("job", "prompt", "polls", "waited", "file", "size"), style="bold")
    for index, result in sorted(results.items()):
        size = "" if result.file is None else human_size(result.file.stat().st_size)
        waited = f"{result.waited:.1f} s" if result.file is not None else ""
        words = str(index + 1), result.prompt, str(result.polls), waited, names[index], size
        table.append(line(*words), style="" if result.file is not None else "red")
    table.rstrip()
    return table


def _file_name(result: _Result) -> str:
    return "failed" if result.file is None else result.file.name
