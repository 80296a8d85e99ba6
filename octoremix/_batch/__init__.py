"""Many jobs: taken from an input as there is room, and given back as they finish.

========  =========================================================
`values`  what goes in, what comes out, what is told in between
`stops`   which errors concern not one job but all of them
`saving`  the videos into a folder
`engine`  what runs a batch
`handle`  what its user holds
========  =========================================================
"""

from .engine import Engine, Limits, Requests
from .handle import Batch, check_source
from .saving import Saver
from .values import BatchEvent, Outcome, RemixChain, steps_of, with_source

__all__ = [
    "Batch",
    "BatchEvent",
    "Engine",
    "Limits",
    "Outcome",
    "RemixChain",
    "Requests",
    "Saver",
    "check_source",
    "steps_of",
    "with_source",
]
