"""How often ranges contain what came out, where they could fail to: nominal against observed coverage.

    python docs/range_coverage.py  draw docs/images/coverage.png, print the table

A range for one case is made of the errors of other cases, and of none like it: a recording's of the recordings of
the other QEMU version, a cell's (docs/fidelity.md) of the cells on the eight other links. Taken from the very set
that it is judged in, a range's coverage is what it should be by construction, whatever it is worth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from simmig.experiment.fit.predict_range import Errors, known_errors, sampled_errors
from simmig.experiment.reports.plots.style import BLUE, GREY, PAGE_IN, VERMILLION, in_style, new_figure, save

HERE = Path(__file__).parent
CELLS = HERE / "fidelity.md"
PICTURE = HERE / "images" / "coverage.png"
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_TWO_SIGMA = 1.96
_FIGURES = {"total_time": "total time", "downtime": "downtime"}


class Point(NamedTuple):
    """Of `cases` ranges that should contain a `nominal` share, `observed` did; `low` to `high`: 95 % of chance."""

    nominal: float
    observed: float
    low: float
    high: float
    cases: int


class Case(NamedTuple):
    """Recorded over predicted, and what it shares its circumstances with."""

    group: str
    ratio: float


def sets(logs: Sequence[Errors], samples: Sequence[Errors]) -> Iterator[tuple[str, list[Case]]]:
    """Everything that predictions were held against, by what was predicted from what."""
    for figure, words in _FIGURES.items():
        yield f"cells, {words}", cells(figure)
    for name, errors in (("logs", logs), ("polled samples", samples)):
        for figure, words in _FIGURES.items():
            yield f"{name}, {words}", recordings(errors, figure)


def recordings(errors: Sequence[Errors], figure: str) -> list[Case]:
    """By version of QEMU."""
    return [Case(each.recording.partition("/")[0], getattr(each, figure)) for each in errors]


def cells(figure: str) -> list[Case]:
    """By link, from the page of the lab's two devices."""
    found = []
    for line in CELLS.read_text(encoding="utf-8").splitlines():
        cell = [part.strip() for part in line.split("|")[1:-1]]
        if len(cell) == 12 and re.match(r"\d+mbit-", cell[0]):
            off = cell[6 if figure == "total_time" else 10]
            found.append(Case(cell[0], 1 / (1 + float(off.removesuffix(" %")) / 100)))
    return found


def coverage(cases: Sequence[Case], level: float) -> Point:
    """Each case's range from all cases of other groups: between the quantiles that leave `level` between them.

    Of n other errors the k-th smallest and the k-th largest leave (n + 1 - 2 k) / (n + 1) between them; the level
    is what the k nearest to it gives, on average over the groups.
    """
    inside, nominal = 0, 0.0
    for case in cases:
        others = sorted(other.ratio for other in cases if other.group != case.group)
        count = len(others)
        place = min(max(1, round((count + 1) * (1 - level) / 2)), count // 2)
        nominal += (count + 1 - 2 * place) / (count + 1)
        inside += others[place - 1] <= case.ratio <= others[-place]
    return Point(nominal / len(cases), inside / len(cases), *wilson(inside, len(cases)), len(cases))


def wilson(inside: int, cases: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, weight = inside / cases, _TWO_SIGMA**2 / cases
    middle = (share + weight / 2) / (1 + weight)
    half = _TWO_SIGMA / (1 + weight) * math.sqrt(share * (1 - share) / cases + weight / (4 * cases))
    return max(0.0, middle - half), min(1.0, middle + half)


def points(cases: Sequence[Case]) -> list[Point]:
    """At all levels that so few cases can tell apart."""
    found = [coverage(cases, level) for level in LEVELS]
    return [point for place, point in enumerate(found) if point.nominal not in [p.nominal for p in found[:place]]]


def table(logs: Sequence[Errors], samples: Sequence[Errors]) -> Iterator[str]:
    """In Markdown: the shares, and whether chance explains how far they are from the nominal ones."""
    yield "| predicted from, figure | cases | nominal | observed | chance allows |  |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for name, cases in sets(logs, samples):
        for point in points(cases):
            if point.nominal >= 0.45:
                fits = "" if point.low <= point.nominal <= point.high else "**off**"
                yield (
                    f"| {name} | {point.cases} | {100 * point.nominal:.0f} % | {100 * point.observed:.0f} % | "
                    f"{100 * point.low:.0f} to {100 * point.high:.0f} % | {fits} |"
                )


def draw(logs: Sequence[Errors], samples: Sequence[Errors]) -> None:
    """The picture: what is on the diagonal is worth what it says."""
    with in_style():
        figure = new_figure(PAGE_IN, 2.7)
        panels = figure.subplots(1, 3, sharey=True)
        for axes, kind in zip(panels, ("cells", "logs", "polled samples"), strict=True):
            axes.plot([0, 1], [0, 1], color=GREY, lw=1)
            shown = [each for each in sets(logs, samples) if each[0].startswith(kind)]
            for (name, cases), offset, color, marker in zip(
                shown, (-0.006, 0.006), (BLUE, VERMILLION), "os", strict=True
            ):
                found = points(cases)
                axes.errorbar(
                    [point.nominal + offset for point in found],
                    [point.observed for point in found],
                    [
                        [point.observed - point.low for point in found],
                        [point.high - point.observed for point in found],
                    ],
                    fmt=f"{marker}-",
                    color=color,
                    capsize=2,
                    markersize=3,
                    lw=0.8,
                    label=name.split(", ")[1],
                )
            axes.set_title(f"{kind}, {found[0].cases} of each", loc="left")
            axes.set(xlabel="nominal coverage", xlim=(0, 1), ylim=(-0.02, 1.02))
            axes.grid(alpha=0.3)
        panels[0].legend(loc="upper left")
        panels[0].set_ylabel("observed coverage, 95 % of chance")
    save(figure, PICTURE)


if __name__ == "__main__":
    draw(known_errors(), sampled_errors())
    print("\n".join(table(known_errors(), sampled_errors())))
