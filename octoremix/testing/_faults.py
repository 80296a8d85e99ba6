"""What goes wrong, and when: faults and the plan that chooses the calls they hit.

Whether a call is hit follows from the plan and from the call's number alone, never from the
time: the same calls meet the same faults in every run.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from attrs import Factory, converters, define, field, frozen

from ._fault_kinds import KINDS, POLL_FAULTS, Kind
from ._fault_text import MIX_SETTINGS, is_mix, split


def _kind(name: object) -> Kind:
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"no fault is called {name!r}; the faults are {', '.join(KINDS)}")
    return KINDS[name]


def _of_kind(setting: str) -> Any:
    """The default that the kind of the fault has for a setting."""
    return Factory(lambda fault: getattr(_kind(fault.name), setting), takes_self=True)


def _count(_: Any, attribute: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more, not {value!r}")


def _share(_: Any, attribute: Any, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} must be from 0 to 1, not {value!r}")


def _time(_: Any, attribute: Any, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{attribute.name} must be seconds from 0 up, not {value!r}")


def _status(_: Any, attribute: Any, value: int) -> None:
    if value and not 200 <= value <= 599:
        raise ValueError(f"{attribute.name} must be an HTTP status from 200 to 599, not {value!r}")


def _place(fault: Fault, _: Any, on: str) -> None:
    places = _kind(fault.name).places
    if on not in places and not (on == "submit" and "remix" in places):
        raise ValueError(f"{fault.name} happens on {', '.join(places)}, not on {on!r}")


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong, and the calls that it hits.

    Without a condition it hits every call of its kind; with several it hits the calls that
    fulfil each of them.

    Attributes:
        name: One of `FAULTS`.
        on: Which calls: ``"remix"``, ``"create"``, ``"submit"`` (these two), ``"query"``,
            ``"legacy"``, ``"content"``, ``"cdn"`` or ``"artifacts"``.
        next: Only so many calls, of those that fulfil the other conditions.
        call: Only the call of that number on its route, counted from 1 and from the start.
        task: Only calls about that task: its id, or its number from 0. For a submit: the id
            of its source, or the number that the job will have.
        first: Only the first so many calls about each task, counted from when it was added.
        rate: The share of the calls that is hit.
        seed: Chooses which these are.
        seconds: How long something takes.
        times: How often something is repeated.
        word: A status.
        status: An HTTP status.
        accepted: Whether a submit is taken on and charged before it goes wrong.

    Raises:
        ValueError: if there is no such fault, or a setting makes no sense.
    """

    name: str = field(kw_only=False)
    on: str = field(default=_of_kind("on"), validator=_place)
    next: int | None = field(default=None, validator=_count)
    call: int | None = field(default=None, validator=_count)
    task: str | int | None = None
    first: int | None = field(default=None, validator=_count)
    rate: float | None = field(default=None, validator=_share)
    seed: int = 0
    seconds: float = field(default=_of_kind("seconds"), converter=float, validator=_time)
    times: int = field(default=_of_kind("times"), validator=_count)
    word: str = field(default=_of_kind("word"))
    status: int = field(default=_of_kind("status"), validator=_status)
    accepted: bool = field(default=_of_kind("accepted"), converter=converters.to_bool)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``"name"`` or ``"name:setting=value,setting=value"``.

        Raises:
            ValueError: if it is no fault.
        """
        name, settings = split(text)
        return cls(name, **settings)


class Subject(Protocol):
    """What a call is about."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def index(self) -> int:
        """The number of the job, -1 for a video from before."""


@define(eq=False)
class _Entry:
    """One line of the plan: a fault, or one of several with the same conditions."""

    faults: tuple[Fault, ...]
    left: int | None
    _calls: Counter[tuple[str, str]] = Factory(Counter)

    def choose(self, on: str, call: int, subject: Subject, about: tuple[str, str]) -> Fault | None:
        """The fault that hits a call, which is counted, or None.

        Args:
            on: Which call it is.
            call: Its number on its route.
            subject: What it is about.
            about: The same as a key.
        """
        fault = self.faults[0]
        number = 0
        if fault.first is not None or fault.rate is not None:
            self._calls[about] += 1
            number = self._calls[about]
        if fault.rate is not None:
            drawn = self._draw(f"{about}/{number}", fault)
            if drawn is None:
                return None
            fault = drawn
        fits = (
            (fault.on == on or (fault.on == "submit" and on in {"remix", "create"}))
            and (fault.call is None or fault.call == call)
            and (fault.task is None or fault.task in (subject.id, subject.index))
            and (fault.first is None or number <= fault.first)
        )
        if not fits or self.left == 0:
            return None
        if self.left is not None:
            self.left -= 1
        return fault

    def _draw(self, call: str, first: Fault) -> Fault | None:
        """One of the faults, or None, by chance but always the same for the same call."""
        rate = first.rate or 0.0
        names = ",".join(fault.name for fault in self.faults)
        key = f"{first.seed}/{names}/{call}".encode("utf-8", "surrogateescape")
        draw = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
        return self.faults[int(draw / rate * len(self.faults))] if draw < rate else None


@define(eq=False)
class Faults:
    """The plan: which calls go wrong, and how.

    Attributes:
        hits: How often each fault struck, by its name.
    """

    hits: Counter[str] = Factory(Counter)
    _plan: list[_Entry] = Factory(list)
    _calls: Counter[str] = Factory(Counter)

    @classmethod
    def of(cls, faults: Iterable[str | Fault]) -> Faults:
        """A plan of these faults; of texts, ``"mix:rate=0.3"`` is a mix.

        Args:
            faults: Faults, or texts that `Fault.parse` reads, or ``"mix:"`` with the settings of
                `mix`, its names with ``+`` between them.

        Raises:
            ValueError, TypeError: if one is neither.
        """
        if isinstance(faults, str):
            raise TypeError("faults must hold faults, not be one: write [fault]")
        plan = cls()
        for fault in faults:
            if isinstance(fault, str) and is_mix(fault):
                _, settings = split(fault, MIX_SETTINGS)
                if "rate" not in settings:
                    raise ValueError(f"{fault!r} needs a rate, as in mix:rate=0.3")
                plan.mix(**settings)
            else:
                plan.add(fault)
        return plan

    def add(self, name: str | Fault, **settings: Any) -> Fault:
        """Let a fault happen.

        Args:
            name: One of `FAULTS`, in the form that `Fault.parse` reads, or a `Fault`.
            **settings: Those of `Fault`.

        Returns:
            The fault, which `remove` takes.

        Raises:
            ValueError, TypeError: if there is no such fault or setting.
        """
        if settings and (isinstance(name, Fault) or ":" in name):
            raise TypeError("settings belong into the fault itself, or beside its bare name")
        if isinstance(name, str) and is_mix(name):
            raise ValueError("a mix is more than one fault: use mix()")
        if isinstance(name, Fault):
            fault = name
        else:
            fault = Fault(name, **settings) if settings else Fault.parse(name)
        self._plan.append(_Entry((fault,), fault.next))
        return fault

    def mix(
        self, names: Iterable[str] = POLL_FAULTS, *, rate: float, seed: int = 0, **settings: Any
    ) -> None:
        """Let a share of the calls go wrong, each with one of several faults.

        Args:
            names: The faults; those that a poll can survive, unless told otherwise.
            rate: The share of the calls.
            seed: Chooses which go wrong, and how.
            **settings: Those of `Fault`, for each of them.
        """
        faults = tuple(Fault(name, rate=rate, seed=seed, **settings) for name in names)
        if not faults:
            raise ValueError("a mix of no faults")
        self._plan.append(_Entry(faults, faults[0].next))

    def remove(self, fault: Fault) -> None:
        """Let it happen no more.

        Raises:
            ValueError: if it is not there.
        """
        for entry in self._plan:
            if entry.faults == (fault,):
                self._plan.remove(entry)
                return
        raise ValueError(f"{fault!r} is not in the plan")

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._plan.clear()

    def choose(self, on: str, subject: Subject, *, submit: bool = False) -> list[Fault]:
        """The faults that hit one call, which is counted; not for users.

        Args:
            on: Which call it is.
            subject: What it is about: the task, or for a submit its source with the number
                that the job will have.
            submit: Whether it is a submit.
        """
        self._calls[on] += 1
        call = self._calls[on]
        # Jobs are known by their numbers here, for their ids differ from run to run.
        name = str(subject.index) if subject.index >= 0 else subject.id
        about = on, str(call) if submit else name
        chosen = [entry.choose(on, call, subject, about) for entry in self._plan]
        faults = [fault for fault in chosen if fault is not None]
        self.hits.update(fault.name for fault in faults)
        return faults
