"""A real nginx on loopback, in front of a gateway of the tests'."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from attrs import define, field, frozen

from .programs import find_program

PATIENCE = 30.0
"""Seconds of real time that a start or a stop may take before it counts as failed."""

READY = "/-/ready"

# The worker is the user who runs the tests, whose temporary folders nobody else may enter.
USER = "user root root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""

CONFIG = """
daemon off;
worker_processes 1;
{user}
pid nginx.pid;
error_log error.log info;

events {{
    worker_connections 512;
}}

http {{
    log_format calls escape=json '{{"method": "$request_method", "path": "$request_uri",'
        ' "status": $status, "encoding": "$sent_http_content_encoding",'
        ' "connection": $connection, "nth": $connection_requests}}';
    access_log access.log calls;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;

    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    upstream gateway {{
        server {upstream};
    }}
    {http}

    server {{
        listen 127.0.0.1:{port};
        {server}
        location / {{
            proxy_pass http://gateway;
        }}
        location = {ready} {{
            access_log off;
            return 204;
        }}
    }}
}}
"""


@frozen
class Logged:
    """One request as nginx logged it.

    Attributes:
        method: Its method.
        path: Its path with its query, as it came.
        status: The status that the client got.
        encoding: The answer's content coding, or `""`.
        connection: The number of the connection that it came over.
        nth: How many requests had come over that, this one included.
    """

    method: str
    path: str
    status: int
    encoding: str
    connection: int
    nth: int


@define(eq=False)
class Nginx:
    """Runs while its context is open; afterwards its log is complete and can be read.

    Args:
        folder: Where its configuration, its logs and all that it writes go.
        upstream: The address of the gateway; in `server`, `proxy_pass http://gateway;` goes there.
        server: Further directives for its one server.
        http: Further directives for all of HTTP.
    """

    folder: Path
    upstream: str
    server: str = field(default="", kw_only=True)
    http: str = field(default="", kw_only=True)
    url: str = field(default="", init=False)
    _process: asyncio.subprocess.Process = field(init=False)

    async def __aenter__(self) -> Self:
        program = find_program("nginx")
        assert program is not None, "the test is not marked to need nginx"
        # Nobody can take the port away between here and there: nginx is handed the listening
        # socket itself, in the way in which it hands its own to its successor in an upgrade.
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            port = listener.getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            self._configure(port)
            with (self.folder / "stderr.log").open("wb") as stderr:
                self._process = await asyncio.create_subprocess_exec(
                    *(program, "-p", str(self.folder), "-c", "nginx.conf"),
                    env={"NGINX": f"{listener.fileno()};"},
                    pass_fds=[listener.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    start_new_session=True,
                )
        try:
            await self._answers(port)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    @property
    def log(self) -> list[Logged]:
        """What it was asked, in the order in which it was answered."""
        assert self._process.returncode is not None, "the log is not complete while nginx runs"
        lines = (self.folder / "access.log").read_text().splitlines()
        return [Logged(**json.loads(line)) for line in lines]

    def _configure(self, port: int) -> None:
        config = CONFIG.format(
            user=USER,
            upstream=urlsplit(self.upstream).netloc,
            http=self.http,
            port=port,
            server=self.server,
            ready=READY,
        )
        (self.folder / "nginx.conf").write_text(config)

    async def _answers(self, port: int) -> None:
        """Return when it answers; raise with what it said when it ends instead."""
        asking = asyncio.create_task(_ask(port))
        ending = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait(
                [asking, ending], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
            )
            answer = asking.result() if asking.done() and not asking.exception() else b""
        finally:
            asking.cancel()
            ending.cancel()
            await asyncio.wait([asking, ending])
        if not answer.startswith(b"HTTP/1.1 204 "):
            said = [(self.folder / name) for name in ("stderr.log", "error.log")]
            texts = [path.read_text(errors="replace") for path in said if path.exists()]
            raise AssertionError("nginx does not answer:\n" + "\n".join(texts))

    async def _stop(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), PATIENCE)
            except BaseException:
                # Its worker too, which would stay behind.
                os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
                raise


async def _ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET %b HTTP/1.0\r\n\r\n" % READY.encode())
        return await reader.read()
    finally:
        writer.close()
