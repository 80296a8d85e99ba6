"""Names of a batch's files: safe on every system, distinct, and the same in the next run."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from octoremix import ConfigurationError
from octoremix._names import LONGEST_NAME, MOST_BYTES, Names, NameTemplate, folded

JOB = {
    "key": "scene-7",
    "id": "video_0a1b",
    "index": 7,
    "video": "video_123",
    "model": "veo_3_1-extend",
    "prompt": "Make it snow, like Christmas!",
}
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}


DIGEST = hashlib.sha256(b"scene-7").hexdigest()[:12]


def name(template: str, **fields: Any) -> str:
    return NameTemplate(template).name(JOB | fields, "scene-7")


def key_name(key: str) -> str:
    return NameTemplate("{key}.mp4").name({"key": key}, key)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{key}-{id}.mp4", "scene-7-video_0a1b.mp4"),
        ("{index:05d}.mp4", "00007.mp4"),
        ("{index}{index:d}{index:03}", "77007"),
        ("{video} {model} {id}.webm", "video_123 veo_3_1-extend video_0a1b.webm"),
        ("{index} {prompt}.mp4", "7 make-it-snow-like-christmas.mp4"),
        ("{{{key}}}.tar.gz", "{scene-7}.tar.gz"),
    ],
)
def test_fields_stand_for_what_belongs_to_the_job(template: str, expected: str) -> None:
    """Ordinary values are written as they are, so that people recognise them."""
    assert name(template) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"key": None}, "video_0a1b.mp4"),
        ({"id": None}, "scene-7-.mp4"),
        ({"key": None, "id": None}, f"video-{DIGEST}.mp4"),
        ({"key": "a/../b"}, f"a_.._b-video_0a1b-{DIGEST}.mp4"),
        ({"key": "Ünï 雪", "id": 5}, "Ünï 雪-5.mp4"),
    ],
)
def test_a_value_that_does_not_tell_the_job_brings_a_digest(
    fields: dict[str, Any], expected: str
) -> None:
    """Where a key or id is lost in part or absent, a digest of the job's key tells the job."""
    assert name("{key}-{id}.mp4", **fields) == expected


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        (" a. ", "a"),
        ('a\\b:c*d?e"f<g>h|i', "a_b_c_d_e_f_g_h_i"),
        ("a\x00\x1b[31m\n\u202e\ud800\u2028\xa0", "a__[31m_____"),
        ("e\u0301", "é"),
        ("...", "video"),
        ("con", "_con"),
        ("NUL", "_NUL"),
        ("Com1.tar", "_Com1.tar"),
        ("lpt¹", "_lpt¹"),
        ("aux .x", "_aux .x"),
    ],
)
def test_a_name_that_some_system_refuses_is_changed(key: str, stem: str) -> None:
    """Separators, controls, what Windows keeps for itself and what looks like an option go."""
    written = key_name(key)

    assert written[: len(stem) + 1] == f"{stem}-"
    assert len(written) == len(stem) + 1 + 12 + len(".mp4")


@pytest.mark.parametrize("key", ["console", "com", "com10", "nul-1", "aux_"])
def test_a_name_that_only_begins_like_a_reserved_one_is_kept(key: str) -> None:
    """What Windows does not keep for itself is left alone."""
    assert key_name(key) == f"{key}.mp4"


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [
        ("  Make it SNOW: now ", "make-it-snow-now"),
        ("雪を降らせて", "雪を降らせて"),
        ("हिमपात करो", "हिमपात-करो"),
        ("x" * 60, "x" * 40),
        ("a" * 30 + " " + "b" * 30, "a" * 30),
        ("!?", "remix"),
        ("", "remix"),
        ("../..", "remix"),
    ],
)
def test_a_prompt_is_written_as_its_first_words(prompt: str, slug: str) -> None:
    """Words of any script, in lower case and at most 40 characters."""
    assert name("{index}-{prompt}.mp4", prompt=prompt) == f"7-{slug}.mp4"


def test_a_template_that_tells_no_job_has_a_digest_always() -> None:
    """Two jobs of one prompt have names that don't depend on which comes first."""
    template = NameTemplate("{prompt}.mp4")
    one, other = (template.name(JOB, key) for key in ("a", "b"))

    assert one != other
    assert one.startswith("make-it-snow-like-christmas-")
    assert one.endswith(".mp4")
    assert name("film.mp4") == f"film-{DIGEST}.mp4"


@pytest.mark.parametrize("key", ["k" * 200, "雪" * 100, "\U0001d54a" * 70, "k" * 147])
def test_a_long_name_is_cut_and_keeps_its_suffix(key: str) -> None:
    """It has the digest, since the cut may have taken what tells the job."""
    written = key_name(key)

    assert len(written) <= LONGEST_NAME
    assert MOST_BYTES - 4 < len(written.encode()) <= MOST_BYTES or len(written) == LONGEST_NAME
    assert written[-17] == "-"
    assert written.endswith(".mp4")
    assert key_name("k" * 146) == "k" * 146 + ".mp4"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (7, "must be a str, not int"),
        ("", "is empty"),
        ("{keys}.mp4", "holds '{keys}'"),
        ("{}.mp4", "holds '{}'"),
        ("{0}.mp4", "holds '{0}'"),
        ("{key.__class__}.mp4", "holds '{key.__class__}'"),
        ("{key[0]}.mp4", "holds '{key[0]}'"),
        ("{key!r}.mp4", "gives {key} a format"),
        ("{key:>9}.mp4", "gives {key} a format"),
        ("{key:05d}.mp4", "gives {key} a format"),
        ("{index:{key}}.mp4", "gives {index} a format"),
        ("{index:>9}.mp4", "gives {index} a format"),
        ("{index:0999999999d}.mp4", "gives {index} a format"),
        ("{index!s}.mp4", "gives {index} a format"),
        ("{key.mp4", "is malformed"),
        ("key}.mp4", "is malformed"),
        ("{model}/{key}.mp4", "is a path, not a name"),
        ("{model}\\{key}.mp4", "is a path, not a name"),
        ("{key}:{id}.mp4", "characters that not every file system takes"),
        ("{key}\n.mp4", "characters that not every file system takes"),
        ("{key}\ud800.mp4", "characters that not every file system takes"),
        (".{key}.mp4", "begins or ends with"),
        ("-{key}.mp4", "begins or ends with"),
        ("{key}.", "begins or ends with"),
        ("{key} ", "begins or ends with"),
        ("{key}" + "x" * 81, "holds more than 80 characters"),
    ],
)
def test_a_bad_template_is_refused_with_the_fields(text: Any, told: str) -> None:
    """Nothing is formatted but the closed set of fields, and the error names them."""
    with pytest.raises(ConfigurationError) as caught:
        NameTemplate(text)

    assert told in str(caught.value)
    assert "{key}, {id}, {index}, {video}, {model}, {prompt}" in str(caught.value)
    assert str(caught.value).isprintable()


def test_templates_of_one_text_are_equal() -> None:
    """A template is a value."""
    assert NameTemplate("{key}.mp4") == NameTemplate("{key}.mp4")
    assert repr(NameTemplate("{key}.mp4")) == "NameTemplate(text='{key}.mp4')"


def test_a_name_that_another_job_has_gets_a_digest() -> None:
    """Names that differ in case or encoding only are one, and the second job's is made distinct."""
    names = Names(NameTemplate("{key}.mp4"))

    def take(key: str) -> str:
        return names.take({"key": key}, key)

    assert take("Straße") == "Straße.mp4"
    second = take("STRASSE")
    assert second == f"STRASSE-{hashlib.sha256(b'STRASSE').hexdigest()[:12]}.mp4"
    assert [take("Straße"), take("STRASSE")] == ["Straße.mp4", second]
    assert take("ﬁlm") == "ﬁlm.mp4"
    assert take("film") != "film.mp4"
    assert repr(names) == "<Names 4 of '{key}.mp4'>"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("STRASSE", "straße"),
        ("\ufb01lm", "FILM"),
        ("\u0131", "I"),
        ("\u212a", "k"),
        ("e\u0301", "\u00c9"),
        ("\u1fb4", "\u03b1\u0345\u0301"),
    ],
)
def test_what_some_file_system_takes_for_one_name_is_one(one: str, other: str) -> None:
    """Case, composition and compatible forms make no difference that can be relied on."""
    assert folded(one) == folded(other)


def test_names_of_others_are_left_alone() -> None:
    """A file in the folder is never hit, not even where it has the job's own digest."""
    template = NameTemplate("{key}.mp4")
    digested = template.name({"key": "k"}, "k", digest=12)
    names = Names(template, taken=["K.MP4", digested])

    third = names.take({"key": "k"}, "k")

    assert third not in {"k.mp4", digested}
    assert len(third) == len("k-.mp4") + 64
    assert Names(template, taken=["k.mp4", digested]).take({"key": "k"}, "k") == third
    names = Names(template, taken=["k.mp4", digested, third])
    assert names.take({"key": "k"}, "k") not in {"k.mp4", digested, third}


def test_a_name_from_an_earlier_run_is_its_jobs() -> None:
    """A held name is given to the job that had it and to no other."""
    names = Names(NameTemplate("{prompt}-{index}.mp4"))
    names.hold("make-it-snow-7.mp4", "a")
    names.hold("report.html")
    fields = {"prompt": "make it snow", "index": 7}

    assert names.take(fields, "b").startswith("make-it-snow-7-")
    assert names.take(fields, "a") == "make-it-snow-7.mp4"


VALUES = st.one_of(
    st.text(st.characters(), max_size=12),
    st.text(st.sampled_from("aA. -_/\\:é雪e\u0301\u202e\ud800\u0131\u017fß\u212a"), max_size=6),
    st.sampled_from(["con", "nul", "CON.x", "..", ".", "", "x" * 400, "雪" * 200]),
)
TEMPLATES = st.builds(
    "{0}{1}.mp4".format,
    st.sampled_from(["{key}", "{id}", "{prompt}", "{index:03d}", "x", "con"]),
    st.lists(
        st.sampled_from(["{key}", "{id}", "{video}", "{model}", "-", "x", "."]), max_size=6
    ).map("".join),
)
JOBS = st.fixed_dictionaries(
    {"key": VALUES, "id": st.none() | VALUES, "index": st.integers(0, 20), "video": VALUES}
    | {"model": VALUES, "prompt": VALUES}
)


def safe(written: str) -> bool:
    return (
        written.isprintable()
        and not set(written) & set('<>:"/\\|?*')
        and written[0] not in ".- "
        and written[-1] not in ". "
        and written.partition(".")[0].strip().lower() not in RESERVED
        and len(written) <= LONGEST_NAME
        and len(written.encode()) <= MOST_BYTES
        and written == unicodedata.normalize("NFC", written)
    )


@given(
    TEMPLATES, st.lists(JOBS, min_size=1, max_size=6, unique_by=lambda job: job["key"]), st.data()
)
def test_any_jobs_have_safe_and_distinct_names(
    text: str, jobs: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Whatever the fields hold, names are safe, distinct to every system, and stay."""
    template = NameTemplate(text)
    taken = data.draw(st.lists(VALUES.map("{}.mp4".format), max_size=3))
    names = Names(template, taken)
    given_out = {job["key"]: names.take(job, job["key"]) for job in jobs}

    assert all(safe(written) and written.endswith(".mp4") for written in given_out.values())
    for normal in ("NFC", "NFKC"):
        known = {unicodedata.normalize(normal, each.casefold()) for each in given_out.values()}
        assert len(known) == len(jobs)
    assert not {folded(each) for each in given_out.values()} & {folded(each) for each in taken}
    again = Names(template, taken)
    assert {job["key"]: again.take(job, job["key"]) for job in jobs} == given_out
    assert {job["key"]: names.take(job, job["key"]) for job in jobs} == given_out


@given(VALUES, VALUES)
@example("a/b", "a_b")
@example("e\u0301", "é")
def test_names_do_not_depend_on_the_order_of_jobs(one: str, other: str) -> None:
    """Keys that differ in more than case have names of their own without knowing of each other."""
    if one != other:
        written = key_name(one), key_name(other)
        assert written[0] != written[1]
        assert folded(written[0]) != folded(written[1]) or folded(one) == folded(other)
