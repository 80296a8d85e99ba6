"""The options that commands share, and the session that follows from them."""

from __future__ import annotations

import os
import ssl
import stat
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from attrs import Factory, frozen
from tenacity import wait_fixed

from .. import ConfigurationError, Event, PollPolicy, Session, SQLiteJournal
from ..errors import printable
from ._journal import Records
from ._output import Output
from ._text import shell_command

__all__ = [
    "JSON",
    "APIKeyFile",
    "APIKeyOption",
    "BaseURL",
    "CAFile",
    "Connection",
    "Force",
    "PollEvery",
    "Proxy",
    "Timeout",
    "Verbose",
]

_PANEL = "Connection"
_LARGEST_KEY_FILE = 64 * 1024


def _no_api_key(value: str | None) -> None:
    if value is not None:
        raise typer.BadParameter(
            "a key on the command line can be read in process lists and stays in the shell's "
            "history: set OCTOPUSX_API_KEY, or name a file with --api-key-file"
        )


BaseURL = Annotated[
    str | None,
    typer.Option(
        help="The gateway. Default: OCTOPUSX_BASE_URL, else https://octopusx.ai.",
        metavar="URL",
        rich_help_panel=_PANEL,
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        help="An HTTP proxy, or 'none'. Default: that of HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
        metavar="URL",
        rich_help_panel=_PANEL,
    ),
]
CAFile = Annotated[
    Path | None,
    typer.Option(
        help="Certificates (PEM) to trust instead of the system's.",
        metavar="FILE",
        rich_help_panel=_PANEL,
    ),
]
APIKeyFile = Annotated[
    Path | None,
    typer.Option(
        help="A file that holds the key and nothing else. Default: the key in OCTOPUSX_API_KEY.",
        metavar="FILE",
        rich_help_panel=_PANEL,
    ),
]
# It is known only to say why it can't be used.
APIKeyOption = Annotated[
    str | None, typer.Option("--api-key", hidden=True, callback=_no_api_key, metavar="KEY")
]
JSON = Annotated[
    bool, typer.Option("--json", help="Write JSON objects to stdout, one a line, nothing else.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the library's log, and tracebacks.")
]
Timeout = Annotated[
    float,
    typer.Option(min=0.1, metavar="SECONDS", help="Stop waiting after this; the job goes on."),
]
PollEvery = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        metavar="SECONDS",
        help="Ask this often. Default: after 5 s, then every 10 s growing to 30 s; the gateway "
        "itself looks every 15 s.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@frozen(kw_only=True)
class Connection:
    """How to reach the gateway, and where what is bought there is recorded."""

    base_url: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    api_key_file: Path | None = None
    records: Records = Factory(Records)

    def session(
        self,
        output: Output,
        poll: PollPolicy,
        on_event: Callable[[Event], object] | None = None,
        *,
        journal: Path | SQLiteJournal | None = None,
        rate_limit: float | None = None,
    ) -> Session:
        """Make the session.

        Raises:
            ConfigurationError: A setting is missing or malformed.
        """
        key = self._key(output)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            session = Session(
                key,
                base_url=self.base_url,
                poll=poll,
                proxy=False if self.proxy == "none" else self.proxy,
                ssl=self._certificates(),
                on_event=on_event,
                journal=journal,
                rate_limit=rate_limit,
            )
        for warning in caught:
            output.warn(str(warning.message))
        return session

    def command(self, *words: str, ids: Iterable[str] = ()) -> str:
        """Return a further command for the same gateway and journal, to be pasted into a shell."""
        options = {
            "--base-url": self.base_url,
            # A proxy's address may hold a password, which is not to be repeated.
            "--proxy": None if self.proxy and "@" in self.proxy else self.proxy,
            "--ca-file": self.ca_file and str(self.ca_file),
            "--api-key-file": self.api_key_file and str(self.api_key_file),
            "--journal": self.records.file and str(self.records.file),
        }
        given = [part for name, value in options.items() if value for part in (name, value)]
        return shell_command(["octoremix", *words, *given], ids)

    def _key(self, output: Output) -> str:
        if self.api_key_file is not None:
            return _read_key(self.api_key_file, output)
        key = os.environ.get("OCTOPUSX_API_KEY", "")
        if not key.strip():
            raise ConfigurationError(
                "there is no API key: set OCTOPUSX_API_KEY to the one from the OctopusX console, "
                "or name a file that holds it with --api-key-file"
            )
        return key

    def _certificates(self) -> ssl.SSLContext | None:
        if self.ca_file is None:
            return None
        shown = printable(self.ca_file)
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError:
            raise ConfigurationError(f"--ca-file {shown} holds no PEM certificates") from None
        except OSError as error:
            raise ConfigurationError(f"--ca-file {shown}: {error.strerror}") from None


def poll_policy(
    timeout: float, poll_every: float | None, first_delay: float | None = None
) -> PollPolicy:
    """Return how to follow tasks, from a command's options.

    Args:
        timeout: Seconds after which a task is given up.
        poll_every: Seconds between two polls, or ``None`` for the default.
        first_delay: Seconds before the first, or ``None`` for the same as between two.
    """
    policy = PollPolicy(deadline=timeout)
    if poll_every is not None:
        policy = PollPolicy(deadline=timeout, first_delay=poll_every, wait=wait_fixed(poll_every))
    if first_delay is None:
        return policy
    return PollPolicy(deadline=timeout, first_delay=first_delay, wait=policy.wait)


def _read_key(file: Path, output: Output) -> str:
    shown = printable(file)
    try:
        # A pipe will do as well: --api-key-file <(pass show octopusx)
        if os.name == "posix" and file.stat().st_mode & stat.S_IROTH:
            output.warn(f"everybody on this machine can read {shown}: chmod 600 it")
        with file.open("rb") as opened:
            key = opened.read(_LARGEST_KEY_FILE).decode().strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"--api-key-file {shown} holds no text") from None
    except OSError as error:
        raise ConfigurationError(f"--api-key-file {shown}: {error.strerror}") from None
    if not key:
        raise ConfigurationError(f"--api-key-file {shown} is empty: put the key into it")
    if len(key.split()) > 1:
        raise ConfigurationError(f"--api-key-file {shown} holds more than a key: leave only that")
    return key
