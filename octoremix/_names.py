"""Names for a batch's files: safe on every system, and no two the same on any of them."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from attrs import define, field, frozen

from .errors import ConfigurationError, printable, quoted

__all__ = ["LONGEST_NAME", "MOST_BYTES", "NameTemplate", "Names"]

LONGEST_NAME = 150
"""Characters that a name may have, with its suffix."""

MOST_BYTES = 240
"""Bytes of UTF-8 that a name may have, with its suffix; file systems take 255."""

_LONGEST_PROMPT = 40
_LONGEST_LITERALS = 80
_DIGEST = 12
_WHOLE_DIGEST = 64

_FORBIDDEN = frozenset('<>:"/\\|?*')
# What Windows keeps for itself, with any suffix.
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE
)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_INDEX_FORMAT = re.compile(r"(0[1-9][0-9]?)?d?")
_FIELDS = ("key", "id", "index", "video", "model", "prompt")
# Each of these is another one for each job.
_TELLING = frozenset({"key", "id", "index"})


@frozen
class _Part:
    """A piece of a template: a text as it stands, or the name of a field and its format."""

    text: str
    is_field: bool = False
    format: str = ""


@frozen
class NameTemplate:
    """What a batch's files are called.

    Args:
        text: A file name in which ``{key}``, ``{id}``, ``{index}``, ``{video}``, ``{model}`` and
            ``{prompt}`` stand for what belongs to the job. ``{index:05d}`` fills with zeros.

    Raises:
        ConfigurationError: It is no template of a file name; the message says what is one.
    """

    text: str
    _parts: tuple[_Part, ...] = field(init=False, repr=False, eq=False)
    _suffix: str = field(init=False, repr=False, eq=False)

    @_parts.default
    def _parse(self) -> tuple[_Part, ...]:
        return _parsed(self.text)

    @_suffix.default
    def _find_suffix(self) -> str:
        last = self._parts[-1]
        found = None if last.is_field else _SUFFIX.search(last.text)
        return found[0] if found else ""

    def name(self, fields: Mapping[str, object], key: str, *, digest: int = 0) -> str:
        """Return the name for a job: the same for the same arguments, in whichever order.

        A digest of the job's key stands before the suffix where the name would else not tell the
        job: the template has none of ``{key}``, ``{id}`` and ``{index}``, or one of their values
        can't be written as it is, or the name is too long and is cut.

        Args:
            fields: What the fields stand for; an absent one and ``None`` are empty.
            key: What the job is known by, in this run and the next.
            digest: Characters of the digest to put there in any case; at most 64.

        Returns:
            One part of a path, of at most `LONGEST_NAME` characters and `MOST_BYTES` bytes.
        """
        stem, told = self._stem(fields)
        if not stem or _RESERVED.match(stem + self._suffix):
            stem, told = f"_{stem}" if stem else "video", False
        if not told or not _fits(stem + self._suffix):
            digest = max(digest, _DIGEST)
        if not digest:
            return stem + self._suffix
        return _with_ending(stem, f"-{_digest_of(key)[:digest]}{self._suffix}")

    def _stem(self, fields: Mapping[str, object]) -> tuple[str, bool]:
        """Return all before the suffix, and whether it tells the job by itself."""
        pieces = []
        told = lost = False
        for part in self._parts:
            if not part.is_field:
                pieces.append(part.text)
                continue
            plain = _plain(fields.get(part.text), part.format)
            piece = _slug(plain) if part.text == "prompt" else _safe(plain)
            pieces.append(piece)
            if part.text in _TELLING and piece:
                told = True
                lost = lost or piece != plain or piece != _stripped(piece)
        whole = unicodedata.normalize("NFC", "".join(pieces))
        return _stripped(whole.removesuffix(self._suffix)), told and not lost


def folded(name: str) -> str:
    """Return what is the same for names that some file system takes for one.

    It is the compatible caseless form of Unicode, without the differences that upper case has not:
    rather too many names are the same than too few.
    """
    once = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", name).upper().casefold())
    return unicodedata.normalize("NFKC", once.casefold())


def _others(names: Iterable[str]) -> dict[str, str | None]:
    return dict.fromkeys(map(folded, names))


@define(eq=False, repr=False)
class Names:
    """The names of one batch's files, of which no two are the same on any system.

    Args:
        template: What they are called.
        taken: Names that are others' already, such as those of the files in the folder.
    """

    template: NameTemplate
    _owners: dict[str, str | None] = field(default=(), alias="taken", converter=_others)

    def __repr__(self) -> str:
        return f"<Names {len(self._owners)} of {self.template.text!r}>"

    def hold(self, name: str, key: str | None = None) -> str | None:
        """Keep a name for the job that had it in an earlier run; ``None``: for nobody.

        Returns:
            The job whose name it is in this run, or ``None`` if it was taken before.
        """
        return self._owners.setdefault(folded(name), key)

    def take(self, fields: Mapping[str, object], key: str) -> str:
        """Return a name that is only this job's; the same when it is asked for again.

        A job whose name is another's, but for case or the way it is encoded, has a digest of its
        key in its own, not a number, so that the next run finds the same.

        Args:
            fields: What the template's fields stand for.
            key: What the job is known by.
        """
        return next(
            name
            for name in self._candidates(fields, key)
            if self._owners.setdefault(folded(name), key) == key
        )

    def _candidates(self, fields: Mapping[str, object], key: str) -> Iterator[str]:
        yield self.template.name(fields, key)
        yield self.template.name(fields, key, digest=_DIGEST)
        salted = key
        while True:
            salted += "\0"
            yield self.template.name(fields, salted, digest=_WHOLE_DIGEST)


def _parsed(text: object) -> tuple[_Part, ...]:
    if not isinstance(text, str):
        raise _refused(text, f"must be a str, not {type(text).__name__}")
    parts: list[_Part] = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(text):
            if literal:
                parts.append(_Part(literal))
            if name is not None:
                parts.append(_field(text, name, spec or "", conversion))
    except ConfigurationError:
        raise
    except ValueError as error:
        raise _refused(text, f"is malformed ({printable(error)})") from None
    _check_literals(text, parts)
    return tuple(parts)


def _field(text: str, name: str, format: str, conversion: str | None) -> _Part:
    if name not in _FIELDS:
        raise _refused(text, f"holds {quoted(f'{{{name}}}', 60)}")
    if conversion or (format and name != "index") or not _INDEX_FORMAT.fullmatch(format):
        raise _refused(text, f"gives {{{name}}} a format that it can't have")
    return _Part(name, is_field=True, format=format)


def _check_literals(text: str, parts: list[_Part]) -> None:
    literals = [part.text for part in parts if not part.is_field]
    if not parts:
        raise _refused(text, "is empty")
    for literal in literals:
        if any(separator in literal for separator in "/\\"):
            raise _refused(text, "is a path, not a name")
        if _safe(literal) != literal:
            raise _refused(text, "holds characters that not every file system takes")
    whole = "".join("x" if part.is_field else part.text for part in parts)
    if whole != _stripped(whole):
        raise _refused(text, "begins or ends with a dot, a dash or a space")
    if sum(map(len, literals)) > _LONGEST_LITERALS:
        raise _refused(text, f"holds more than {_LONGEST_LITERALS} characters beside its fields")


def _refused(text: object, why: str) -> ConfigurationError:
    fields = ", ".join(f"{{{name}}}" for name in _FIELDS)
    return ConfigurationError(
        f"name {quoted(text, 80)} {why}: write a file name such as {{key}}-{{id}}.mp4, in which "
        f"{fields} stand for what belongs to the job, and {{index:05d}} for five digits"
    )


def _plain(value: object, format: str) -> str:
    if value is None:
        return ""
    return f"{value:{format}}" if isinstance(value, int) else str(value)


def _safe(text: str) -> str:
    return "".join(
        "_" if character in _FORBIDDEN or not character.isprintable() else character
        for character in unicodedata.normalize("NFC", text)
    )


def _slug(prompt: str) -> str:
    """Return the first words of a prompt, in any script."""
    text = unicodedata.normalize("NFC", prompt[: 4 * _LONGEST_PROMPT]).lower()
    # Letters, digits, and the marks without which many scripts have no words.
    kept = (each if unicodedata.category(each)[0] in "LNM" else " " for each in text)
    words = "".join(kept).split()
    while len(words) > 1 and len("-".join(words)) > _LONGEST_PROMPT:
        words.pop()
    return _safe("-".join(words)[:_LONGEST_PROMPT]) or "remix"


def _stripped(text: str) -> str:
    return text.lstrip(" .-").rstrip(" .")


def _fits(name: str) -> bool:
    return len(name) <= LONGEST_NAME and len(name.encode()) <= MOST_BYTES


def _with_ending(stem: str, ending: str) -> str:
    stem = stem[: LONGEST_NAME - len(ending)]
    while not _fits(stem + ending):
        stem = stem[:-1]
    return stem + ending


def _digest_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
