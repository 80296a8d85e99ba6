"""The command line: ``octoremix``, or ``python -m octoremix.cli``.

It needs the extra ``octoremix[cli]``; without it `main` says so, and nothing else here is imported.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = frozenset({"typer", "rich", "click", "platformdirs"})


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        try:
            from ._app import run  # noqa: PLC0415 - the extra may be missing
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            print(
                "error: the command line needs Typer, Rich and platformdirs, which are not all "
                'installed: pip install "octoremix[cli]"',
                file=sys.stderr,
            )
            sys.exit(2)
        run()
    except KeyboardInterrupt:  # while nothing was under way yet, or nothing any more
        sys.exit(130)
