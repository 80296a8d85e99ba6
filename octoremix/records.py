"""What the journal tells: values, frozen and keyword-only."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from .models import RemixRequest, Video, without_query

__all__ = ["PROCESS_ENDED", "InDoubt", "JournalEntry"]

PROCESS_ENDED = "its process ended before the outcome was kept"
"""The reason of a doubt that tells nothing of the gateway."""


def _shown_request(request: RemixRequest | None) -> str:
    return "None" if request is None else f"RemixRequest(video_id={request.video_id!r}, …)"


@frozen(kw_only=True)
class JournalEntry:
    """One job as the journal has it.

    Attributes:
        key: The caller's name for the job, or a random one.
        id: The task, or ``None`` where none is known.
        status: ``"intent"`` (about to be sent, or out), ``"submitted"``, ``"completed"``,
            ``"failed"``, ``"cancelled"``, ``"expired"``, ``"downloaded"``; aside ``"refused"``
            (nothing was bought), ``"in_doubt"`` (it may have been charged), ``"abandoned"``
            (a doubt that was given up).
        request: What was submitted, or ``None`` in a journal that stores no prompts.
        video_id: The source.
        model: The model.
        base_url: The gateway.
        attempt: Which attempt this is, from 1.
        purchases: How often it was bought, or may have been, with all its attempts.
        video: The final snapshot, or ``None``.
        path: Where the video was downloaded to, or ``None``.
        request_id: The gateway's name for the request, or ``None``.
        reason: Why it was refused or is in doubt, or an empty text.
        created_at: When the key was first used (aware, UTC).
        sent_at: When the last attempt was about to be sent.
        submitted_at: When it was accepted, or ``None``.
        settled_at: When its end was known, or ``None``.
        downloaded_at: When it was downloaded, or ``None``.
    """

    key: str
    id: str | None = None
    status: str
    request: RemixRequest | None = field(default=None, repr=_shown_request)
    video_id: str
    model: str
    base_url: str
    attempt: int = 1
    purchases: int = 1
    video: Video | None = field(default=None, repr=False)
    path: str | None = None
    request_id: str | None = None
    reason: str = ""
    created_at: datetime
    sent_at: datetime
    submitted_at: datetime | None = None
    settled_at: datetime | None = None
    downloaded_at: datetime | None = None

    @property
    def interrupted(self) -> bool:
        """Whether it is in doubt because its process ended, not because of an answer."""
        return self.status == "in_doubt" and self.reason == PROCESS_ENDED

    @property
    def url(self) -> str | None:
        """The link to the result without its query, which may be a permission."""
        return None if self.video is None else without_query(self.video.url)


@frozen(kw_only=True)
class InDoubt:
    """A job that may exist and may have been charged, although nobody knows its task.

    Attributes:
        key: The caller's name for the job, or a random one.
        request: What was submitted, or ``None`` in a journal that stores no prompts.
        video_id: The source.
        model: The model.
        attempt: Which attempt is in doubt, from 1.
        sent_at: When it was sent, or was about to be (aware, UTC).
        request_id: The gateway's name for the request, or ``None``.
        reason: What became of the answer.
        evidence: What the key's own log tells: ``"charged"``, ``"not seen"`` or
            ``"unavailable"``; ``None`` where it was not asked. A log may lag: it proves no refusal.
    """

    key: str
    request: RemixRequest | None = field(default=None, repr=_shown_request)
    video_id: str
    model: str
    attempt: int
    sent_at: datetime
    request_id: str | None = None
    reason: str = ""
    evidence: str | None = None

    @property
    def interrupted(self) -> bool:
        """Whether it is in doubt because its process ended, not because of an answer."""
        return self.reason == PROCESS_ENDED
