"""The project's sessions: `nox --list` names them, `nox -s NAME` runs one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["tests", "lint", "typing", "docs"]
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
# One backend for everybody: the same packages whether or not a faster installer is at hand.
nox.options.default_venv_backend = "virtualenv"

_AT_ONCE = ("-n", str(min(8, 2 * (os.cpu_count() or 1))), "--dist", "worksteal")
"""Twice as many tests at once as there are processors: many wait for a process of their own."""

_COVERING = (
    *("--ignore=tests/cli", "--ignore=tests/crash", "--ignore=tests/test_render.py"),
    *(
        "--ignore=tests/test_chaos.py",
        "--ignore=tests/test_fuzz.py",
        "--ignore=tests/test_nginx.py",
    ),
)
"""All but what takes long and runs only lines that others run too."""

PYPROJECT = nox.project.load_toml("pyproject.toml")


def _group(name: str) -> list[str]:
    """The requirements of a dependency group; read here, since older pips know no groups."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def _lowest_pins() -> list[str]:
    """Every direct runtime requirement, those of the extras too, at its lower bound."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *(line for extra in extras for line in extra)]
    requirements = [Requirement(line) for line in declared]
    return [
        f"{requirement.name}=={specifier.version}"
        for requirement in requirements
        for specifier in requirement.specifier
        if specifier.operator == ">="
    ]


@nox.session
def demo(session: nox.Session) -> None:
    """Remix a video against the local gateway and leave the results in a folder."""
    session.install(".[demo]")
    session.run("octoremix", "demo", *(session.posargs or ("--out", "demo-videos")))


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on the interpreter that runs nox."""
    session.install("-e", ".[demo]", *_group("tests"))
    # The crash test at its full length; elsewhere it plays fewer rounds.
    rounds = {"OCTOREMIX_CRASH_ROUNDS": os.environ.get("OCTOREMIX_CRASH_ROUNDS", "50")}
    session.run("pytest", *_AT_ONCE, *session.posargs, env=rounds)


@nox.session(python="3.13")
def coverage(session: nox.Session) -> None:
    """The library's and the emulator's tests, which run every line and branch of both."""
    session.install("-e", ".[demo]", *_group("tests"))
    # A chosen part of the suite covers a part of the package: report it, ask nothing of it.
    chosen = ("--cov-fail-under=0", *session.posargs) if session.posargs else _COVERING
    session.run("pytest", *_AT_ONCE, "--cov", *chosen)


@nox.session
def browser(session: nox.Session) -> None:
    """The report page in the system's Chromium: playing, filters, accessibility, no other host."""
    session.install("-e", ".[demo]", *_group("tests"), *_group("browser"))
    session.run("pytest", *(session.posargs or ("tests/browser",)))


@nox.session(python=["3.12", "3.13"])
def tests_on(session: nox.Session) -> None:
    """The suite on another interpreter."""
    session.install("-e", ".[demo]", *_group("tests"))
    session.run("pytest", *_AT_ONCE, *session.posargs)


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """The suite with every direct dependency at the lowest version that is declared."""
    session.install("-e", ".[demo]", *_lowest_pins(), *_group("tests"))
    session.run("pytest", *_AT_ONCE, *session.posargs)


@nox.session
def crash(session: nox.Session) -> None:
    """Processes killed while they buy and wait, 500 times over, and a batch of 3,000 killed twice."""
    session.install("-e", ".[demo]", *_group("tests"))
    sizes = {
        "OCTOREMIX_CRASH_ROUNDS": os.environ.get("OCTOREMIX_CRASH_ROUNDS", "500"),
        "OCTOREMIX_BATCH_JOBS": os.environ.get("OCTOREMIX_BATCH_JOBS", "3000"),
    }
    files = ("tests/crash/test_kill.py", "tests/cli/test_batch_proof.py")
    session.run("pytest", "-s", *(session.posargs or files), env=sizes)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes."""
    session.install(*_group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Types of the package, of the public face as users call it, and of this file."""
    session.install("-e", ".[demo]", *_group("typing"))
    callers = [*sorted(Path("tests").glob("typing_*.py")), *Path("tests").glob("typing/")]
    checked = ["octoremix", "pytest_octoremix.py", "noxfile.py", *map(str, callers)]
    session.run("mypy", *session.posargs, *checked)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, every warning an error."""
    session.install("-e", ".", *_group("docs"))
    shutil.rmtree("docs/_build", ignore_errors=True)
    session.run(
        "sphinx-build",
        *("-b", "html", "-T", "-E", "-W", "--keep-going", "-n"),
        *("-d", "docs/_build/doctrees"),
        *session.posargs,
        *("docs", "docs/_build/html"),
    )


@nox.session
def bench(session: nox.Session) -> None:
    """The measurements that the project holds itself to, as one table."""
    session.install("-e", ".[cli]", *_group("browser"))
    session.run("python", "benchmarks/run.py", *session.posargs)
