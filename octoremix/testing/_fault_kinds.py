"""The table of faults: where each can happen, and the details it has unless told otherwise."""

from __future__ import annotations

from attrs import frozen

_ANY = ("query", "remix", "create", "legacy", "content", "cdn")
_JSON = ("query", "remix", "create", "legacy")
_GATEWAY = (*_JSON, "content")
_SUBMIT = ("remix", "create")
_REMIX = ("remix",)
_QUERY = ("query",)
_CONTENT = ("content", "cdn")
_ARTIFACTS = ("artifacts",)


@frozen
class Kind:
    """One kind of fault.

    Attributes:
        about: What happens, in a few words.
        places: The calls on which it can happen.
        seconds: See `Fault`, as for the rest.
    """

    about: str
    places: tuple[str, ...]
    seconds: float = 0.0
    times: int = 1
    word: str = ""
    status: int = 0
    accepted: bool = False

    @property
    def on(self) -> str:
        """Where it happens unless told otherwise."""
        return "submit" if self.places == _SUBMIT else self.places[0]


KINDS: dict[str, Kind] = {
    "cut": Kind("the connection is reset without an answer", _ANY),
    "hung": Kind("no answer, and a reset in the end", _ANY, seconds=600.0),
    "slow": Kind("the right answer, late", _ANY, seconds=5.0),
    "empty": Kind("200 with nothing", _ANY),
    "html": Kind("200 with a page", _ANY),
    "truncated": Kind("half of the JSON", _JSON),
    "wrong_length": Kind("the connection ends before the announced length", _JSON),
    "gzip": Kind("the right answer, compressed", _JSON),
    "html_502": Kind("502 with a page", _ANY, status=502),
    "html_503": Kind("503 with a page", _ANY, status=503),
    "html_504": Kind("504 with a page", _ANY, status=504),
    "html_524": Kind("524 with a page", _ANY, status=524),
    "panic": Kind("500, the gateway's own code broke", _GATEWAY),
    "database_error": Kind("500, the gateway's database broke", _GATEWAY),
    "upstream_error": Kind("500, with an error of the upstream's as a text", _JSON),
    "rate_limited": Kind("429, the upstream has too much to do", _JSON),
    "rate_limited_empty": Kind("429 without a body", _GATEWAY),
    "rate_limited_edge": Kind("429 with a page and Retry-After", _ANY, seconds=5.0),
    "key_exhausted": Kind("401, the key has nothing left", _GATEWAY),
    "model_limited_key": Kind("403, the key may not use the model", _GATEWAY),
    # Submits.
    "lost_answer": Kind("charged, then reset", _SUBMIT, accepted=True),
    "hung_submit": Kind("no answer, charged in the end", _SUBMIT, seconds=120.0, accepted=True),
    "error_in_202": Kind("202 with an error as a body", _SUBMIT),
    "insert_lost": Kind("charged and answered, but the id never exists", _SUBMIT),
    "late_visible": Kind("the id does not exist yet", _SUBMIT, times=3),
    "id_echo": Kind("the answer names the source's id", _REMIX),
    "remix_bug": Kind("the upstream does not know the source", _REMIX),
    "source_channel_disabled": Kind("400, the source's channel is disabled", _REMIX),
    "source_unfinished": Kind("400, the source is not finished", _REMIX),
    "quota_exceeded": Kind("403, the account has too little left", _SUBMIT),
    # Polls.
    "unknown": Kind("the status is unknown", _QUERY, word="unknown"),
    "odd_status": Kind("the status is a word that nobody knows", _QUERY, word="moderating"),
    "status_flap": Kind("back to queued", _QUERY, word="queued"),
    "progress_regress": Kind("back to progress 1", _QUERY),
    "task_id_mismatch": Kind("a task_id that is not the id", _QUERY),
    "ms_timestamps": Kind("times in milliseconds", _QUERY),
    "numeric_seconds": Kind("seconds as a number", _QUERY),
    "early_completed_at": Kind("completed_at is set from the start", _QUERY),
    "not_found": Kind("400, no such task", ("query", "legacy")),
    "not_implemented": Kind("501, this channel can't tell", _QUERY),
    "restart": Kind("the gateway forgets all unfinished jobs", _QUERY),
    # Jobs, chosen at their submit.
    "stuck": Kind("it does not go on", _SUBMIT),
    "odd_end": Kind("it ends with a word that the gateway takes for a failure", _SUBMIT, word="done"),
    "error_without_status": Kind("it ends as an error without a status", _SUBMIT),
    "failure_text_as_url": Kind("it fails, with the reason in the link's place", _SUBMIT),
    "failure_as_error": Kind("it fails, with an HTTP error", _SUBMIT, status=500),
    "no_url": Kind("it completes without a link", _SUBMIT),
    "url_expired": Kind("its link has expired", _SUBMIT, status=403),
    # Content.
    "content_502": Kind("502, the upstream's link can't be fetched", _CONTENT, status=502),
    "content_truncated": Kind("half of the bytes", _CONTENT),
    "content_timeout": Kind("half of the bytes, slowly, then cut", _CONTENT, seconds=60.0),
    "content_no_range": Kind("the whole, though a part was asked for", _CONTENT),
    "content_json": Kind("an error's JSON as video/mp4", _CONTENT),
    "content_blocked": Kind("403, the gateway refuses the result's host", _CONTENT, status=403),
    "content_no_length": Kind("without Content-Length", _CONTENT),
    "artifact_unavailable": Kind("503, the plugin of the task is gone", _ARTIFACTS, status=503),
}  # fmt: skip

JOB_FAULTS = frozenset({
    "insert_lost", "late_visible", "id_echo", "stuck", "odd_end", "error_without_status",
    "failure_text_as_url", "failure_as_error", "no_url", "url_expired",
})  # fmt: skip
"""Those that stay with a job from its submit on."""

FAULTS: dict[str, str] = {name: kind.about for name, kind in KINDS.items()}
"""Every fault by its name, with what happens."""

POLL_FAULTS: tuple[str, ...] = (
    "cut", "slow", "empty", "html", "truncated", "wrong_length", "gzip",
    "html_502", "html_503", "html_504", "html_524", "panic", "database_error", "upstream_error",
    "rate_limited", "rate_limited_empty", "rate_limited_edge",
    "unknown", "odd_status", "status_flap", "progress_regress", "task_id_mismatch",
    "ms_timestamps", "numeric_seconds", "early_completed_at", "not_implemented",
)  # fmt: skip
"""Those that a poll meets and a wait survives, as long as they pass."""
