"""Many jobs: taken from an input as there is room, and given back as they finish.

===========  ======================================================
`values`     what goes in, what comes out, what is told in between
`stops`      which errors concern not one job but all of them
`budget`     how many jobs may still be paid for
`purchases`  the jobs bought, one by one, until it stops
`saving`     the videos into a folder
`engine`     what runs a batch
`handle`     what its user holds
===========  ======================================================
"""

from .engine import Engine, Requests
from .handle import Batch, check_source
from .purchases import Limits
from .saving import Saver
from .values import BatchEvent, Outcome, RemixChain, note_step, with_source

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
    "note_step",
    "with_source",
]
