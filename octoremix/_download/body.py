"""The bytes of one place: verified as they come, and resumed after a cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING

from yarl import URL

from ..errors import (
    DownloadError,
    IncompleteDownloadError,
    NotAVideoError,
    OctoremixError,
    TooLargeError,
)
from ..policies import RetryPolicy, Sleep, pause_after
from .failures import is_passing, wait_after
from .links import about, shown
from .ranges import Validator, announced_length, continued_total, validator_of

if TYPE_CHECKING:
    from .answer import Stream

__all__ = ["Body"]

LEAST_PROGRESS = 64 * 2**10
"""Bytes that an attempt must bring a body forward by, or it counts as one in vain."""

_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"})
_SIGNATURE_END = 8


class Body:
    """What lies at one place.

    Args:
        task_id: The task, for errors.
        open_answer: Opens the place; it is given the headers that ask for a range, or none.
        policy: How many attempts in a row may be in vain.
        max_size: The most bytes, or ``None``.
        restart: Makes what was read so far undone, or ``None`` where that can't be.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        task_id: str,
        open_answer: Callable[[Mapping[str, str]], AbstractAsyncContextManager[Stream]],
        policy: RetryPolicy,
        *,
        max_size: int | None,
        restart: Callable[[], Awaitable[None]] | None,
        sleep: Sleep,
    ) -> None:
        self.id = task_id
        self.url: str | None = None
        self.length: int | None = None
        self.content_type = ""
        self._open_answer = open_answer
        self._policy = policy
        self._max_size = max_size
        self._restart = restart
        self._sleep = sleep
        self._opened = AsyncExitStack()
        self._answer: Stream | None = None
        self._address = URL()
        self._validator: Validator | None = None
        self._offset = 0
        self._beginning = b""
        self._ahead = b""
        self._given = False
        self._furthest = 0
        self._failures = 0
        self._is_stuck = False

    @property
    def begun(self) -> bool:
        """Whether there was a good answer."""
        return self.url is not None

    async def start(self) -> None:
        """Read as much as shows that it is a video.

        Raises:
            DownloadError: It is none, or could not be had.
            APIConnectionError: There was no answer, or it was cut off too often.
            APIError: The gateway refused.
        """
        await self._take_whole(await self._open({}))
        self._ahead = await self._read()

    async def read(self) -> bytes:
        """Return the next bytes; none after the last, when it is sure that all have come.

        Raises:
            DownloadError: It is not whole, too large, or not what began.
            APIConnectionError: It was cut off too often.
            APIError: The gateway refused to go on.
        """
        chunk, self._ahead = self._ahead or await self._read(), b""
        self._given = True
        return chunk

    async def aclose(self) -> None:
        """Close the connection, if it is in use."""
        self._answer = None
        await self._opened.aclose()

    async def _read(self) -> bytes:
        while True:
            assert self._answer is not None
            try:
                chunk = await self._answer.read()
                if not chunk:
                    self._check_end()
                    return b""
            except OctoremixError as error:
                await self._recover(error)
                continue
            self._offset += len(chunk)
            self._check_size(self._offset)
            if len(self._beginning) >= _SIGNATURE_END:
                return chunk
            self._beginning += chunk
            if len(self._beginning) >= _SIGNATURE_END:
                chunk, self._beginning = self._beginning, self._beginning[:_SIGNATURE_END]
                if not _is_video(self._beginning):
                    raise self._error(NotAVideoError, "has no video's signature")
                return chunk

    def _check_end(self) -> None:
        whole = self.length is None or self.length == self._offset
        if not whole or self._offset < _SIGNATURE_END:
            announced = "an unknown number of" if self.length is None else self.length
            what = f"brought {self._offset} of {announced} bytes"
            raise self._error(IncompleteDownloadError, what)

    def _check_size(self, size: int) -> None:
        if self._max_size is not None and size > self._max_size:
            what = f"has more than max_size={self._max_size} bytes"
            raise self._error(TooLargeError, what)

    async def _recover(self, error: OctoremixError) -> None:
        """Go on after a failure, unless too many in a row were in vain."""
        if self._offset - self._furthest >= LEAST_PROGRESS:
            self._failures = 0
        self._furthest = max(self._furthest, self._offset)
        while True:
            self._failures += 1
            if not is_passing(error) or self._failures >= self._policy.attempts:
                raise error
            await self.aclose()
            wait = wait_after(self._policy, error)
            await self._sleep(pause_after(wait, self._failures, error))
            try:
                return await self._go_on()
            except OctoremixError as again:
                if self._is_stuck:
                    raise
                error = again

    async def _go_on(self) -> None:
        if self._validator is not None and 0 < self._offset != self.length:
            answer = await self._open(self._validator.from_byte(self._offset))
            if answer.status == HTTPStatus.OK:
                await self._take_whole(answer)
                return
            if answer.status == HTTPStatus.PARTIAL_CONTENT and self._take_rest(answer):
                return
            await self.aclose()
        else:
            self._check_restart()
        await self._take_whole(await self._open({}))

    async def _open(self, headers: Mapping[str, str]) -> Stream:
        return await self._opened.enter_async_context(self._open_answer(headers))

    async def _take_whole(self, answer: Stream) -> None:
        """Begin, or begin anew, with an answer that holds everything."""
        if self._given:
            self._check_restart()
            assert self._restart is not None
            await self._restart()
        self._address, self.url = answer.url, shown(answer.url)
        self._offset, self._beginning = 0, b""
        self.length = announced_length(answer.headers)
        self.content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self._validator = validator_of(answer.headers)
        self._check_size(self.length or 0)
        self._answer = answer

    def _take_rest(self, answer: Stream) -> bool:
        assert self._validator is not None
        total = continued_total(
            answer.headers, offset=self._offset, total=self.length, validator=self._validator
        )
        if total is None:
            return False
        self.length = total
        self._check_size(total)
        self._answer = answer
        return True

    def _check_restart(self) -> None:
        if self._given and self._restart is None:
            self._is_stuck = True
            what = (
                f"was cut off after {self._offset} bytes, and its server does not go on from there"
            )
            raise self._error(IncompleteDownloadError, what)

    def _error(self, kind: type[DownloadError], what: str) -> DownloadError:
        return kind(f"{about(self.id, self._address)} {what}", id=self.id, url=self.url)


def _is_video(beginning: bytes) -> bool:
    """Whether a file begins like MP4 or QuickTime (a box's type after its size) or WebM."""
    return beginning[4:8] in _FIRST_BOXES or beginning[:4] == b"\x1a\x45\xdf\xa3"
