"""Answers without a network: `Transport.send` replaced, all that is above it real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import unquote

from octoremix._protocol import Request, Response
from octoremix._transport import Transport


@contextmanager
def canned(answer: Callable[[Request, str], Response]) -> Iterator[None]:
    """Answer every call of every session, given the request and the id in its path."""

    async def send(_: Transport, request: Request, **__: Any) -> Response:
        await asyncio.sleep(0)  # as every answer from a network, it takes a turn of the loop
        return answer(request, unquote(request.url.raw_path.split("/")[3]))

    with mock.patch.object(Transport, "send", send):
        yield
