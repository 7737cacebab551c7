"""One page: figures, pictures, tables and where they come from, in a file of its own."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simmig.experiment.errors import InputError
from simmig.experiment.output import require_new_file, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Fact:
    """A figure with its unit, as text, and what is to be said of it."""

    name: str
    amount: str
    details: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, its title, and what somebody who does not see it reads."""

    title: str
    uri: str
    text: str
    wide: bool


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; `note` says what is not in it."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All of a report.

    Attributes:
        title: what it is about.
        verdict: how it ended, in a few words.
        good: whether that is as it should be.
        facts: the headline figures.
        invariants: each one's name, and how it came out.
        pictures, tables: in order.
        sources: where the figures come from: names and short texts.
        files: names and whole texts, such as the scenario.
    """

    title: str
    verdict: str
    good: bool
    facts: Sequence[Fact]
    invariants: Sequence[tuple[str, str]]
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    sources: Sequence[tuple[str, str]] = ()
    files: Sequence[tuple[str, str]] = field(default=())


def picture(title: str, figure: Figure, text: str) -> Picture:
    """A figure as a picture of the page: SVG, sharp at any size."""
    from simmig.experiment.reports.plots.style import PAGE_IN, in_style  # noqa: PLC0415  # needs matplotlib

    drawn = io.BytesIO()
    with in_style():
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    uri = "data:image/svg+xml;base64," + base64.b64encode(drawn.getvalue()).decode("ascii")
    return Picture(title, uri, text, figure.get_figwidth() >= PAGE_IN)


def require_writable(path: Path) -> None:
    """Before anything takes time: raises InputError when no report can be written at `path`."""
    for module in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"--report {path}: there is no {module}: pip install 'simmig[report]'")
    require_new_file(path, "--report")


def write(page: Page, path: Path) -> None:
    """Write the page; raises InputError where there is a file already or none can be made."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # optional

    loader = PackageLoader("simmig.experiment.reports.html", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = environment.get_template("page.html").render(page=page)
    write_file(path, text, "--report")
