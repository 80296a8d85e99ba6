"""How Sphinx builds the documentation."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

import octoremix

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


project = "octoremix"
author = "the octoremix authors"
project_copyright = f"2026, {author}"
release = octoremix.__version__
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# The build is nitpicky and makes no network requests, so no inventory of another project is
# read: names of other packages stay plain text. A name of our own that leads nowhere is an error.
_BUILTIN = "|".join(name for name in dir(builtins) if not name.startswith("_"))
_FOREIGN = (
    "aiohttp|asyncio|attr|attrs|cattrs|collections|concurrent|contextvars|datetime|enum|os|"
    "pathlib|ssl|tenacity|types|typing|yarl"
)
nitpick_ignore_regex = [
    ("py:.*", rf"({_BUILTIN})"),
    ("py:.*", rf"({_FOREIGN})(\..*)?"),
    ("py:class", r"octoremix\..*\._\w+"),  # private bases, shown but not documented
    ("py:class", r"dict\[str"),  # half of an annotation that was split at its comma
]

html_theme = "furo"
html_title = f"octoremix {release}"


def _public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.reference | None:
    """Lead a name from the module that defines it to the package, where it is documented."""
    target = node.get("reftarget", "")
    name = target.rpartition(".")[2]
    # Annotations name the defining module, docstrings often nothing but the name.
    if target not in {name, f"octoremix.{name}"} and not target.startswith("octoremix."):
        return None
    if name not in octoremix.__all__:
        return None
    domain = env.domains.python_domain
    for public in (f"octoremix.{name}", f"octoremix.errors.{name}"):
        found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, contnode)
        if found is not None:
            return found
    return None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", _public_name)
