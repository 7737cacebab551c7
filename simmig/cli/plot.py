"""``simmig plot``: pictures of a sweep's results, or of runs side by side."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.html.page import Page

_KINDS = ("tradeoff", "parameter", "winner", "downtime", "timelines")


@click.command(name="plot", short_help="Draw a sweep's results, or runs side by side.")
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--kind", "kinds", type=click.Choice(_KINDS), multiple=True, help="Default: all that the data carry."
)
@click.option("--x", metavar="KEY", help="Across: the parameter, or one axis of the winners' map.")
@click.option("--y", metavar="KEY", help="Up: the figure drawn against the parameter, or the map's other axis.")
@click.option(
    "--where", "conditions", metavar="KEY=VALUE", multiple=True, help="Only these points; may be given again."
)
@click.option("--format", "formats", default="png", show_default=True, help="png, svg, pdf, or several: png,pdf.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the pictures go, never over others; default: out/plots, or nowhere with --report.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write one HTML file with everything in it."
)
def plot(
    results: tuple[Path, ...],
    kinds: tuple[str, ...],
    x: str | None,
    y: str | None,
    conditions: tuple[str, ...],
    formats: str,
    out: Path | None,
    report: Path | None,
) -> int:
    """Draw RESULTS: what `simmig sweep` left, or directories that `simmig run --out` made.

    \b
    tradeoff   downtime against total time, with the Pareto front
    parameter  a figure (--y) against a parameter (--x), with the spread over seeds
    winner     which policy has the least downtime, over two axes (--x, --y)
    downtime   what the downtime is made of
    timelines  pending writes over time, of several runs

    \b
    simmig plot out/sweep
    simmig plot out/sweep --kind parameter --x policy.limit --where link.bandwidth='25 Gbit/s' --out out/limits
    simmig plot out/a out/b --kind timelines --format pdf --out out/for-the-paper
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException("there is no matplotlib to draw with: pip install 'simmig[plot]'")
    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.html.page import require_writable, write

    endings = _endings(formats)
    if report is not None:
        require_writable(report)
    if out is None and report is None:
        out = Path("out/plots")
    with OutputDir(out) if out is not None else nullcontext() as directory:
        drawn, page = _draw(results, kinds, x, y, conditions)
        if report is not None:
            write(page(), report)
            click.echo(str(report))
        if directory is not None and out is not None:
            _save(drawn, endings, directory, out)
    return 0


def _save(drawn: dict[str, Figure], endings: list[str], directory: OutputDir, out: Path) -> None:
    from simmig.experiment.reports.plots.style import save

    for kind, figure in drawn.items():
        for ending in endings:
            save(figure, directory.work / f"{kind}.{ending}")
    directory.keep()
    for kind in drawn:
        click.echo("  ".join(str(out / f"{kind}.{ending}") for ending in endings))


def _draw(
    results: tuple[Path, ...], kinds: tuple[str, ...], x: str | None, y: str | None, conditions: tuple[str, ...]
) -> tuple[dict[str, Figure], Callable[[], Page]]:
    """The pictures, and what makes the report that has them."""
    from simmig.experiment.reports.html.runs import page_of_runs
    from simmig.experiment.reports.html.sweep import page_of_sweep
    from simmig.experiment.reports.plots import kinds as known
    from simmig.experiment.reports.plots import space, timelines
    from simmig.experiment.reports.plots.results import narrowed, read_results

    runs = known.runs_of(results)
    if runs:
        if set(kinds) - {"timelines"}:
            raise InputError(f"--kind: {results[0]}: a run; runs are drawn as timelines")
        if x or y or conditions:
            raise InputError("--x, --y and --where go with the results of a sweep, not with runs")
        return {"timelines": timelines.figure(runs)}, lambda: page_of_runs(runs)
    if len(results) > 1:
        raise InputError(f"{results[1]}: the results of one sweep at a time, or directories of runs")
    taken = narrowed(read_results(results[0]), conditions)
    drawn = known.pictures(taken, kinds, x, y)  # type: ignore[arg-type]
    aside = len(taken.frame) - len(space.prepared(taken.frame))
    if aside:
        click.echo(
            f"simmig: {aside} of {len(taken.frame)} points are in no picture: their inputs are not known", err=True
        )
    title = f"Sweep {results[0]}" + (f", only {' and '.join(conditions)}" if conditions else "")
    return {str(kind): figure for kind, figure in drawn.items()}, lambda: page_of_sweep(taken, drawn, title)


def _endings(formats: str) -> list[str]:
    from simmig.experiment.reports.plots.style import FORMATS
    from simmig.experiment.scenario.explain import nearest

    endings = list(dict.fromkeys(ending.strip() for ending in formats.split(",")))
    for ending in endings:
        if ending not in FORMATS:
            raise InputError(f"--format {formats}: {ending!r} is unknown; {nearest(ending, FORMATS)}")
    return endings
