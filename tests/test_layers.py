"""The layers: which module may import which, held against every import in the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

import octoremix

PACKAGE = Path(octoremix.__file__).parent

# The first row is the lowest. A module imports from lower rows only.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "_version"}),
    frozenset({"models", "policies", "_addresses", "_credentials", "_environment"}),
    frozenset(
        {
            *("_alarm", "_wire", "_schedule", "_strategy", "_timetable", "_pace", "records"),
            "_names",
        }
    ),
    frozenset({"_guard", "_permits", "_protocol", "_translation", "futures"}),
    frozenset({"_transport", "_poller", "_journal", "_download"}),
    frozenset({"_submit", "_queries", "_evidence"}),
    frozenset({"_recovery", "_batch"}),
    frozenset({"_buying"}),
    frozenset({"session"}),
    frozenset({"__init__"}),
    frozenset({"testing", "cli"}),
)
ROWS = {module: row for row, modules in enumerate(LAYERS) for module in modules}

SIDEWAYS = {("_schedule", "_strategy"), ("_schedule", "_timetable")}

# These stand where a user stands: they see what users see.
USERS = frozenset({"testing", "cli"})
PUBLIC_MODULES = frozenset({"errors", "testing"})


@frozen
class Import:
    """One name that is imported from the package.

    Attributes:
        line: Where.
        path: The module below the package, in parts; empty for the package itself.
        name: The name that is taken from it; ``None`` where a module is imported as a whole.
    """

    line: int
    path: tuple[str, ...]
    name: str | None


def imports(source: str, file: str) -> Iterator[Import]:
    """Find the imports from the package that a file makes when it runs, in functions too.

    Args:
        source: Its code.
        file: Its path below the package, for example ``"cli/_app.py"``.
    """
    folder = ("octoremix", *file.split("/")[:-1])
    for node in running(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root, *path = alias.name.split(".")
                if root == "octoremix":
                    yield Import(node.lineno, tuple(path), None)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            path = (*base, *(node.module.split(".") if node.module else ()))
            if path[0] == "octoremix":
                for alias in node.names:
                    yield Import(node.lineno, path[1:], alias.name)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the code, but for what only type checkers read."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.If) and child in node.body and is_type_checking(node.test):
            continue
        yield from running(child)


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def violations(source: str, file: str) -> list[str]:
    """Tell what a file imports against the table."""
    module = file.removesuffix(".py").split("/")[0]
    if module not in ROWS:
        return [f"{file}: {module} has no place in the table of layers"]
    check = against_public if module in USERS else against_table
    found = []
    for each in imports(source, file):
        why = check(module, each)
        if why:
            found.append(f"{file}:{each.line}: {why}")
    return found


def against_table(module: str, each: Import) -> str | None:
    """Say why a module of the library must not import that, or return ``None``."""
    target = each.path[0] if each.path else each.name
    if target == module:
        return None  # inside one package
    if not each.path and target not in ROWS:
        return "imports from the package root"
    if target not in ROWS:
        return f"imports from {target}, which has no place in the table of layers"
    if (module, target) in SIDEWAYS:
        return None
    if ROWS[target] < ROWS[module]:
        return None
    direction = "sideways" if ROWS[target] == ROWS[module] else "upwards"
    return f"imports {direction}: {module} (row {ROWS[module]}) from {target} (row {ROWS[target]})"


def against_public(module: str, each: Import) -> str | None:
    """Say why something that stands where users stand must not import that, or return ``None``."""
    path = each.path
    if path and path[0] == module:
        return None
    if any(part.startswith("_") for part in path) or (path and path[0] not in PUBLIC_MODULES):
        return f"imports from {'.'.join(path)}, which is not public"
    if each.name is None:
        return None
    if path:
        return f"imports {each.name}, which is not public" if each.name[0] in "_*" else None
    if each.name in octoremix.__all__ or each.name in PUBLIC_MODULES or each.name == module:
        return None
    return f"imports {each.name}, which is not public"


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_a_module_imports_from_lower_layers_only(file: str) -> None:
    """No import of the package goes up, sideways or through the root, unless the table says so."""
    assert violations((PACKAGE / file).read_text(encoding="utf-8"), file) == []


def test_the_table_names_each_module_once() -> None:
    """A module has one row, and the modules that are at the heart of the library are there."""
    assert sum(map(len, LAYERS)) == len(ROWS)
    assert {"errors.py", "_schedule.py", "session/__init__.py", "__init__.py", "cli/_app.py"} <= {
        *FILES
    }


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("_schedule.py", "from ._timetable import Timetable"),
        ("_schedule.py", "from .policies import PollPolicy\nfrom .errors import APIError"),
        ("models.py", "import json\nfrom pathlib import Path\nfrom .errors import APIError"),
        ("errors.py", "if TYPE_CHECKING:\n    from .models import Video"),
        ("errors.py", "import typing\nif typing.TYPE_CHECKING:\n    from .session import Session"),
        ("_protocol/answers.py", "from .requests import API\nfrom ..errors import APIError"),
        ("_protocol/__init__.py", "from .answers import Response"),
        ("_journal/writer.py", "from .schema import x\nfrom .._protocol import y"),
        ("session.py", "import octoremix._poller\nfrom octoremix._submit import Submitter"),
        ("__init__.py", "from .session import Session\nfrom ._version import __version__"),
        ("testing/__init__.py", "from ._emulator import Emulator"),
        ("testing/_gateway.py", "from . import _calls\nfrom ..errors import APIError"),
        ("testing/_jobs.py", "from .. import TaskStatus, testing\nimport octoremix"),
        ("cli/_app.py", "from .. import Session, __version__, errors\nfrom . import _text"),
        (
            "cli/_demo.py",
            "def play():\n    from ..testing import Emulator\nimport octoremix.testing",
        ),
        ("cli/_app.py", "from octoremixtools import x\nfrom octoremix.cli._text import y"),
    ],
)
def test_what_the_table_allows_passes(file: str, source: str) -> None:
    """Imports downwards, inside one package, in annotations and of public names are no fault."""
    assert violations(source, file) == []


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        # Upwards.
        ("errors.py", "from .models import Video", "upwards: errors (row 0) from models (row 1)"),
        ("models.py", "from ._wire import Reading", "upwards"),
        ("_schedule.py", "import octoremix.session", "upwards"),
        ("_schedule.py", "from octoremix._poller import Poller", "upwards"),
        ("_poller.py", "def late():\n    from .session import Session", "upwards"),
        ("_protocol/answers.py", "from .._transport import Transport", "upwards"),
        ("session.py", "from .cli import main", "upwards"),
        ("__init__.py", "from .testing import Emulator", "upwards"),
        (
            "_pace.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from .session import Session",
            "upwards",
        ),
        ("_pace.py", "if not TYPE_CHECKING:\n    from .session import Session", "upwards"),
        (
            "_pace.py",
            "try:\n    from .session import Session\nexcept ImportError:\n    pass",
            "upwards",
        ),
        # Sideways.
        ("models.py", "from .policies import PollPolicy", "sideways"),
        ("_timetable.py", "from ._schedule import Schedule", "sideways"),
        ("_poller.py", "from ._transport import Transport", "sideways"),
        ("_journal/writer.py", "from .._poller import Poller", "sideways"),
        ("futures.py", "from ._protocol.answers import Response", "sideways"),
        # Through the root.
        ("_poller.py", "from . import Session", "root"),
        ("_poller.py", "import octoremix", "root"),
        ("_poller.py", "from octoremix import PollPolicy", "root"),
        ("_protocol/requests.py", "from .. import RemixRequest", "root"),
        ("_poller.py", "from . import _submit", "upwards"),
        # From outside the public face.
        ("cli/_app.py", "from .._poller import Poller", "_poller, which is not public"),
        ("cli/_app.py", "from ..session import Session", "session, which is not public"),
        ("cli/_app.py", "import octoremix._wire", "_wire, which is not public"),
        ("cli/_app.py", "from .. import _wire", "_wire, which is not public"),
        ("cli/_app.py", "from .. import session", "session, which is not public"),
        ("cli/_app.py", "from .. import *", "*, which is not public"),
        ("cli/_app.py", "from ..errors import *", "*, which is not public"),
        ("cli/_demo.py", "from ..testing._jobs import Job", "testing._jobs, which is not public"),
        ("cli/_demo.py", "from ..testing import _jobs", "_jobs, which is not public"),
        ("testing/_jobs.py", "from ..errors import _TaskError", "_TaskError, which is not public"),
        ("testing/_jobs.py", "from ..models import Video", "models, which is not public"),
        ("testing/_jobs.py", "from ..cli import main", "cli, which is not public"),
        # A module that nobody gave a place.
        ("_poller.py", "from ._new import x", "_new, which has no place in the table"),
        ("_new.py", "", "_new has no place in the table"),
        ("_new/part.py", "", "_new has no place in the table"),
    ],
)
def test_what_the_table_forbids_is_found(file: str, source: str, told: str) -> None:
    """Each kind of import that breaks the layers is told, with the file and the reason."""
    found = violations(source, file)

    assert len(found) == 1
    assert found[0].startswith(file)
    assert told in found[0]
