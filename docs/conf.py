"""The site of these documents: `make docs` builds it, and fails at a link or reference that leads nowhere.

The pages are written to be read in the repository. Here links to its other files lead to the repository on the web, the
commands are those of the parser, equations become MathML, so that no page fetches anything from elsewhere.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from numpydoc.xref import DEFAULT_LINKS
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import TumorQueryLib
from TumorQueryLib.base.version import __version__
from TumorQueryLib.cli import make_parser

PICTURES_OF_PANEL = ROOT / "build" / "panel"  # made by scripts/make_panel_pictures.py
WITHOUT_PICTURES = "The pictures are missing: the libraries that draw them could not be run where this site was built."
os.environ["COLUMNS"] = "84"  # of the commands' usage
REPOSITORY = "https://github.com/TumorQuery/SlicerTumorQuery"

project = "TumorQuery"
author = "TumorQuery contributors"
project_copyright = "TumorQuery contributors. Research software, not a medical device"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["conf.py"]
root_doc = "index"
nitpicky = True
nitpick_ignore = [("py:class", "collections.abc.Callable")]  # Python's own documents are elsewhere
default_role = "code"  # `name` in a docstring is code, as in Markdown
smartquotes = False  # two hyphens begin an option

# Docstrings: the types of parameters lead to the public classes.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_aliases = {name: f"TumorQueryLib.{name}" for name in TumorQueryLib.__all__ if name[0].isupper()}
numpydoc_xref_ignore = "all"
DEFAULT_LINKS.clear()  # they lead to Python's and NumPy's documents, whose tables would have to be fetched
numpydoc_attributes_as_param_list = False

# Markdown as the repository shows it; anchors of headings as there.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Tutorials are Python files, run anew at each build.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = os.environ.get("TUTORIALS", "force")
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True

html_theme = "pydata_sphinx_theme"
html_title = f"TumorQuery {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_logo = "../TumorQuery/Resources/Icons/TumorQuery.png"
html_favicon = html_logo
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_context = {"github_user": "TumorQuery", "github_repo": "SlicerTumorQuery", "doc_path": "docs"}
html_context["github_version"] = "main"
html_theme_options = {
    "github_url": REPOSITORY,
    "use_edit_page_button": True,
    "logo": {"text": "TumorQuery"},
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "footer_end": [],
}
html_sidebars = {page: [] for page in ("index", "start", "method")}


def prepared_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Fill in the commands and the panel's pictures, and lead links out of docs/ to the repository."""
    source[0] = source[0].replace("<!-- commands -->", commands_as_markdown(make_parser()))
    source[0] = with_pictures(source[0], PICTURES_OF_PANEL)
    if Path(app.env.doc2path(page)).suffix == ".md":
        source[0] = outward_links(source[0], page)


def with_pictures(text: str, folder: Path) -> str:
    """A page with the pictures of the panel that it names in comments; one sentence where they were not drawn."""
    named = r"<!-- picture (\w+) (.+?) -->"
    drawn = all((folder / f"{name}.png").exists() for name, _about in re.findall(named, text))
    path = os.path.relpath(folder, ROOT / "docs").replace(os.sep, "/")
    text = re.sub(named, rf"![\2]({path}/\1.png)" if drawn else "", text)
    return text.replace("<!-- pictures missing -->", "" if drawn else WITHOUT_PICTURES)


def outward_links(text: str, page: str) -> str:
    """A page with its links to what is no page of docs/ led to the repository on the web; pictures stay."""

    def led(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), match[2]))
        place = ROOT / target
        of_site = target.startswith("docs/") and place.suffix in (".md", ".py", ".png", ".svg")
        if match[1].startswith("!") or not place.exists() or (of_site and "/evaluation/" not in target):
            return match[0]
        return f"{match[1]}{REPOSITORY}/{'tree' if place.is_dir() else 'blob'}/main/{target}{match[3] or ''})"

    return re.sub(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()(?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?\)", led, text)


def commands_as_markdown(parser: argparse.ArgumentParser, level: int = 2) -> str:
    """The commands of a parser with their arguments, a section each."""
    lines: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                usage = command.format_usage().removeprefix("usage: ").replace("\n       ", "\n").rstrip()
                text = str(about[name])
                about_it = f"{text[0].upper()}{text[1:]}."
                lines += [f"{'#' * level} {command.prog}", "", about_it, "", "```text", usage, "```", ""]
                lines += [_arguments(command), commands_as_markdown(command, level + 1)]
    return "\n".join(lines)


def _arguments(command: argparse.ArgumentParser) -> str:
    rows = []
    for action in command._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        called = ", ".join(action.option_strings) or action.metavar or action.dest
        if action.option_strings and action.nargs != 0:
            called += f" {command._get_formatter()._format_args(action, action.dest.upper())}"
        about = f"{action.help or ''}{'; needed' if action.required and action.option_strings else ''}"
        called, about = (text.replace("|", r"\|") for text in (called, about))
        rows.append(f"| `{called}` | {about} |")
    return "\n".join(["| argument | meaning |", "|---|---|", *rows, ""]) if rows else ""


def add_mathml(writer: Any, node: nodes.math | nodes.math_block) -> None:
    """Write an equation as MathML, which browsers draw by themselves."""
    block = isinstance(node, nodes.math_block)
    mathml = convert(node.astext(), display="block" if block else "inline")
    if "<mi>\\" in mathml:
        raise ExtensionError(f"An equation holds a command that is not known: {node.astext()}")
    writer.body.append(f'<div class="equation">{mathml}</div>\n' if block else mathml)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", prepared_page)
    app.add_html_math_renderer("mathml", (add_mathml, None), (add_mathml, None))
