"""Sample: what the disk takes for an append that is synced, in a folder, without any database."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from statistics import median

from workload import report

FRAME = bytes(4096 + 24)
"""One page of SQLite's write-ahead log with its header."""

TIMES = 200

sync = getattr(os, "fdatasync", os.fsync)


def _main(folder: str) -> None:
    taken = []
    with Path(folder, "disk").open("wb", buffering=0) as file:
        for _ in range(TIMES):
            file.write(FRAME)
            began = time.perf_counter()
            sync(file.fileno())
            taken.append(time.perf_counter() - began)
    report(sync=median(taken) * 1000)


if __name__ == "__main__":
    _main(sys.argv[1])
