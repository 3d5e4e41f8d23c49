"""Sphinx: the pages of this folder as a site, with the Python API out of the docstrings (``nox -s docs``)."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils.nodes import TextElement
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "Rowcast"
author = "The Rowcast authors"
copyright = f"{author}, Apache-2.0"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["data"]
templates_path = ["templates"]
nitpicky = True
nitpick_ignore = [("py:class", "dict[str")]  # half of an annotation that Sphinx cannot read

html_theme = "furo"
html_title = f"Rowcast {release}"

highlight_language = "none"  # indented blocks are commands and drawings
smartquotes = False  # of options, it makes dashes
copybutton_prompt_text = "$ "
myst_heading_anchors = 4

autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "Points"}  # Points: an alias
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # autodoc shows them


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            item: object = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for part in parts[split:]:
            if not hasattr(item, part) and part not in getattr(item, "__annotations__", ()):
                return False
            item = getattr(item, part, None)
        return True
    return False


def without_page(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: TextElement
) -> TextElement | None:
    """Leave a reference to code that exists, of this project or another, but has no page here, without a link.

    Others are warnings, and so errors.
    """
    if node.get("refdomain") != "py":
        return None
    target, module, owner = (node.get(key) or "" for key in ("reftarget", "py:module", "py:class"))
    places = (target, f"{module}.{target}", f"{module}.{owner}.{target}", f"builtins.{target}", f"typing.{target}")
    return content if any(exists(place) for place in places) else None


def setup(app: Sphinx) -> None:
    """Connect what is above; forget pages of modules that an earlier build had."""
    shutil.rmtree(Path(app.srcdir) / "generated", ignore_errors=True)
    app.connect("missing-reference", without_page)
