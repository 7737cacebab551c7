"""How Sphinx makes the documentation's site: `make docs`.

The pages are the Markdown files as a code host shows them. What stands elsewhere in the repository (the README,
the changes, the example project) are put in when the site is built, so that nothing is written twice.
"""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import simmig  # noqa: E402  # the one of this tree

project = "simmig"
author = "The simmig authors"
version = release = simmig.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_*"]
myst_heading_anchors = 3

smartquotes = False  # "2 MiB" is to be pasted
highlight_language = "text"  # of blocks that name no language: commands and charts

html_theme = "furo"
html_title = "simmig"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__init__"}  # a class's own docstring speaks for it
napoleon_use_ivar = True
default_role = "code"  # what docstrings have in single backticks

BORROWED = {"index": "README.md", "changes": "CHANGELOG.md", "my-policy": "examples/my-policy/README.md"}
"""Pages whose text stands elsewhere; what is in the page's own file comes after it."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:]+)(#[^)]*)?\)")


def _put_in(app: Sphinx, name: str, source: list[str]) -> None:
    """The page's text, with links that hold from docs/."""
    page = DOCS / f"{name}.md"
    place, text = page.parent, source[0]
    if name in BORROWED:
        borrowed = ROOT / BORROWED[name]
        app.env.note_dependency(str(borrowed))
        place, text = borrowed.parent, borrowed.read_text(encoding="utf-8")
        text += source[0].partition("-->")[2]
    source[0] = _LINK.sub(lambda link: _placed(link, place, page), text)


def _placed(link: re.Match[str], place: Path, page: Path) -> str:
    image, words, path, anchor = link.groups()
    target = (place / path).resolve()
    pages = {(ROOT / text).resolve(): DOCS / f"{name}.md" for name, text in BORROWED.items()}
    if target.is_dir():  # which a site does not show: its README's page, or no link
        if target / "README.md" not in pages:
            return words
        target /= "README.md"
    target = pages.get(target, target)
    return f"{image}[{words}]({os.path.relpath(target, page.parent)}{anchor or ''})"


def _told_whole(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """A warning, which is an error here, where napoleon would take what stands before a colon for a type."""
    if what in ("attribute", "data", "property") and re.match(r"[^`\"]*\w: ", lines[0] if lines else ""):
        logging.getLogger(__name__).warning("%s: a colon in its first line would be read as TYPE: TEXT", name)


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _told_whole, priority=100)
    app.connect("source-read", _put_in)
