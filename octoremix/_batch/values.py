"""What goes into a batch and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from ..errors import ConfigurationError, OctoremixError, quoted
from ..futures import RemixFuture
from ..models import DEFAULT_MODEL, RemixRequest, Video

__all__ = [
    "BatchEvent",
    "Item",
    "Outcome",
    "RemixChain",
    "item_of",
    "note_step",
    "steps_of",
    "with_source",
]


def _prompts(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ConfigurationError("prompts must be a list of texts, one for each remix of the chain")
    return tuple(value)


@frozen(kw_only=True)
class RemixChain:
    """Remixes of which each has the one before as its source; with an extend model, one long video.

    Attributes:
        video_id: The source of the first.
        prompts: What each remix should change, in their order.
        model: The remix model of all.
        extra: Further fields of the bodies.
        key: The caller's own name for the chain; its jobs have the keys ``"KEY/1"``, ``"KEY/2"``…
        metadata: Anything of the caller's, never sent.

    Raises:
        ConfigurationError: A field is missing or malformed; the message names the fix.
    """

    video_id: str
    prompts: tuple[str, ...] = field(converter=_prompts)
    model: str = DEFAULT_MODEL
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    key: str | None = field(default=None, eq=False)
    metadata: Any = field(default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.prompts:
            raise ConfigurationError("prompts is empty: a chain has at least one remix")
        for _ in self.steps():  # each is checked as it is made
            pass

    def steps(self) -> Iterator[RemixRequest]:
        """Yield the remixes; of all but the first the source is still to be set."""
        for number, prompt in enumerate(self.prompts, 1):
            yield RemixRequest(
                video_id=self.video_id,
                prompt=prompt,
                model=self.model,
                extra=self.extra,
                key=None if self.key is None else f"{self.key}/{number}",
                metadata=self.metadata,
            )


Item = RemixRequest | RemixChain


def steps_of(item: Item) -> Iterator[RemixRequest]:
    """Yield the remixes that make an item up."""
    if isinstance(item, RemixChain):
        yield from item.steps()
    else:
        yield item


def item_of(given: object) -> Item:
    """Return what was given to a batch as a value.

    Raises:
        ConfigurationError: It is none; the message names the fix.
    """
    if isinstance(given, (RemixRequest, RemixChain)):
        return given
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"a batch takes RemixRequest, RemixChain or a dict, not {type(given).__name__}: for "
            "example {'video': 'video_123', 'prompt': 'make it snow'}"
        )
    fields = dict(given)
    if "video" in fields and "video_id" not in fields:
        fields["video_id"] = _source_id(fields.pop("video"))
    kind = RemixChain if "prompts" in fields else RemixRequest
    try:
        return kind(**fields)
    except TypeError as error:
        known = ", ".join(attribute.name for attribute in kind.__attrs_attrs__)
        raise ConfigurationError(
            f"an item of the batch is malformed ({str(error).partition('()')[2].strip()}): its "
            f"fields are {known}, and further ones of the body belong into extra"
        ) from None


def _source_id(video: object) -> object:
    if isinstance(video, RemixFuture) and not video.done():
        raise ConfigurationError(
            f"video {quoted(video.id)} is still in work: await it first, or give the batch a "
            "RemixChain"
        )
    return video.id if isinstance(video, (Video, RemixFuture)) else video


def with_source(request: RemixRequest, source: Video | None) -> RemixRequest:
    """Return a step of a chain with the video that it is to remix."""
    return request if source is None else evolve(request, video_id=source.id)


def note_step(error: BaseException, item: Item, number: int) -> None:
    """Write on an error which remix of a chain it is about."""
    if isinstance(item, RemixChain):
        note = f"it was remix {number} of {len(item.prompts)} of a chain"
        if note not in getattr(error, "__notes__", ()):  # an error may have several waiters
            error.add_note(note)


@frozen(kw_only=True)
class Outcome:
    """What became of one item of a batch.

    Attributes:
        index: Its place in the input, from 0.
        request: What was asked for, as it was given where it is malformed.
        id: The task, of a chain the last one that was accepted; ``None`` where none was. A note on
            the error tells which remix of a chain it is about.
        video: The finished video, or the last snapshot of one that failed, or ``None``.
        error: Why there is no video, or why it was not downloaded; ``None`` if all went well.
        path: Where the video was downloaded to, or ``None``.
    """

    index: int
    request: Any
    id: str | None = None
    video: Video | None = None
    error: OctoremixError | None = None
    path: Path | None = None


@frozen(kw_only=True)
class BatchEvent:
    """A step of one item, handed to a batch's ``on_progress`` before its outcome.

    Attributes:
        kind: ``"submitted"`` (the gateway accepted it, now or in an earlier run) or ``"finished"``
            (there is a video, which is about to be downloaded).
        index: The item's place in the input, from 0.
        request: The remix; of a chain the one that it has come to.
        id: The task.
        bought: Whether it was paid for just now.
        video: The finished video, or ``None``.
    """

    kind: str
    index: int
    request: RemixRequest
    id: str
    bought: bool = False
    video: Video | None = None
