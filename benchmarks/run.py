"""The measurements that octoremix holds itself to, as one table: see the README beside this file.

python benchmarks/run.py [--only NAME]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

import imports
import jobs
import journal
import page
import polls
import tasks
from figures import heading, row

SUBJECTS = {
    "polls": polls,
    "tasks": tasks,
    "jobs": jobs,
    "journal": journal,
    "page": page,
    "imports": imports,
}


def main() -> int:
    """Measure, print the table, and return 1 if a figure is over its limit."""
    parser = argparse.ArgumentParser(description="Measure octoremix.")
    parser.add_argument(
        "--only", choices=SUBJECTS, action="append", help="one subject (may be repeated)"
    )
    chosen = parser.parse_args().only or SUBJECTS
    began = time.monotonic()
    over = False
    print(heading(), flush=True)
    for name, subject in SUBJECTS.items():
        if name in chosen:
            for figure in subject.measure():
                print(row(figure), flush=True)
                over |= figure.over
    print(f"\n{_machine()}; {time.monotonic() - began:.0f} s")
    return int(over)


def _machine() -> str:
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs{load}"


if __name__ == "__main__":
    sys.exit(main())
