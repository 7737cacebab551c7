"""Links and pictures in the Markdown of the repository lead somewhere, as a code host shows it.

The site made of the same files (`make docs`) has errors for its own: this is what a reader without it sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for place in (ROOT, ROOT / "docs", ROOT / "docs/api", ROOT / "examples/my-policy")
    for page in place.glob("*.md")
)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links(text: str) -> Iterator[str]:
    """Of a page, those that lead into the repository; code has none."""
    text = re.sub(r"\[`([^`\n]*)`\]", r"[\1]", text)
    yield from (link for link in _LINK.findall(_CODE.sub("", text)) if not re.match(r"[a-z]+:", link))


def anchors(page: Path) -> set[str]:
    """The names of its headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not broken(page, page.read_text(encoding="utf-8"))


def test_a_broken_link_is_found() -> None:
    text = "[a](docs/nothing.md) [`b`](README.md#none) ![c](x.png) [d](README.md#install) `[e](f)` [g](https://h)"
    assert broken(ROOT / "README.md", text) == ["docs/nothing.md", "README.md#none", "x.png"]


def test_there_are_some() -> None:
    assert len(PAGES) > 20
    assert sum(len(list(links(page.read_text(encoding="utf-8")))) for page in PAGES) > 50
