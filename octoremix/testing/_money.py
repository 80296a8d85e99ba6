"""Keys, what they have left, and what was charged and refunded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from attrs import Factory, define, field, frozen

from ._jobs import Job
from ._views import Rhythm, failed_at


def _not_one(_: object, __: object, models: object) -> None:
    if isinstance(models, str):
        raise TypeError("models must hold names, not be one: write [model]")


@frozen(kw_only=True)
class Key:
    """A key that the gateway accepts.

    Attributes:
        quota: What it has to spend, in the gateway's units; None for no limit.
        models: The models that it may use; without any it may use all. Such a key can create
            but not remix: new-api looks for the model in the wrong place.
        user: The account, whose videos all of its keys share.
    """

    quota: int | None = None
    models: Collection[str] = field(default=(), validator=_not_one)
    user: str = ""


@define(eq=False)
class Ledger:
    """What was charged to which key, and what of it is to be given back.

    Attributes:
        keys: The keys by what clients send, with their prefix.
        price: What a job costs.
        rhythm: When the gateway notices how a job ended.
    """

    keys: dict[str, Key]
    price: int
    rhythm: Rhythm
    _charged: Counter[str] = Factory(Counter)
    _doubtful: list[tuple[str, Job]] = Factory(list)

    def charge(self, key: str, job: Job) -> None:
        """Charge a job that was accepted."""
        self._charged[key] += 1
        # Only what may be given back need be looked at again.
        later = job.rendering is not None or self.rhythm.spacing
        if later or failed_at(job, self.rhythm) is not None:
            self._doubtful.append((key, job))

    def refunds(self, key: str | None = None) -> list[tuple[Job, float]]:
        """The jobs that fail, of one key or all, and when each is given back."""
        times = [
            (job, failed_at(job, self.rhythm)) for of, job in self._doubtful if key in (None, of)
        ]
        return [(job, time) for job, time in times if time is not None]

    def refunded(self, now: float, key: str | None = None) -> int:
        """How many jobs have been given back by now, of one key or all."""
        return sum(1 for _, time in self.refunds(key) if time <= now)

    def used(self, key: str, now: float) -> int:
        """The units that a key has spent."""
        return self.price * (self._charged[key] - self.refunded(now, key))

    def left(self, key: str, now: float) -> int | None:
        """The units that a key has left; None for no limit."""
        quota = self.keys[key].quota
        return None if quota is None else quota - self.used(key, now)
