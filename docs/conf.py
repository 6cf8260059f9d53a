"""Sphinx: the documentation as HTML, its reference pages from the code.

python -m sphinx -W --keep-going -b html docs build/docs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in (".", "tools")]

import reference  # noqa: E402 - from the paths above

from rnan_plugin.version import __version__  # noqa: E402

project = "rnan_plugin"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"rnan_plugin {__version__}"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
napoleon_use_rtype = False
exclude_patterns = ["small_models/*"]


def generate(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the generated parts into a page's places for them."""
    source[0] = re.sub(r"<!-- generated: (\w+) -->", lambda place: reference.PARTS[place[1]](), source[0])


def as_restructured(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Docstrings mark code as Markdown does, with one backtick; Sphinx wants two."""
    lines[:] = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", "\n".join(lines)).split("\n")


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("source-read", generate)
    app.connect("autodoc-process-docstring", as_restructured)
