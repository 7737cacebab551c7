"""``simmig sweep``: a grid of what-ifs, one simulation a point, all results in one table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.show import counter
from simmig.cli.words import Shipped

if TYPE_CHECKING:
    from simmig.experiment.studies.sweep.sweep import Finished

INTERRUPTED = 130


@click.command(short_help="Simulate a grid of what-ifs: links, guests, policies, seeds.")
@click.argument("sweep", type=Shipped("sweeps"))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the results go; default: out/ and SWEEP's name.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes; default: one a core.")
@click.option(
    "--dask", metavar="ADDRESS", help="Run on the Dask cluster with this scheduler, e.g. tcp://head:8786."
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write one HTML file with everything in it."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")
def sweep(
    sweep: Path, out: Path | None, jobs: int | None, dask: str | None, report: Path | None, as_json: bool
) -> int:
    """Simulate every point of the grid that SWEEP, a TOML file, describes, on all cores.

    Interrupted or killed, the same command goes on where it was. The results, a row a point, are in
    DIR/results.parquet, with every input and every figure as a column.

    \b
    simmig sweep quick
    simmig sweep drain-question --out out/drain --jobs 8
    simmig sweep drain-question --dask tcp://head:8786

    Exit status: 0 when every point was simulated, 1 when some could not be or broke an invariant, 2 bad input.
    """
    if jobs is not None and dask is not None:
        raise click.UsageError("--jobs is for processes on this machine, --dask for a cluster: give one of them.")
    _need_pyarrow()
    from simmig.experiment.studies.sweep.pool import cores, dask_cluster, processes
    from simmig.experiment.studies.sweep.spec import load_sweep
    from simmig.experiment.studies.sweep.sweep import run_sweep

    if report is not None:
        from simmig.experiment.reports.html.page import require_writable

        require_writable(report)
    loaded = load_sweep(sweep)
    out = out or Path("out") / sweep.stem
    workers = partial(dask_cluster, dask) if dask is not None else partial(processes, jobs or cores())
    try:
        with counter("simulating") as tell:
            finished = run_sweep(loaded, out, workers, lambda done, points: tell("simulating", done, points))
    except KeyboardInterrupt:
        click.echo(
            f"simmig: interrupted; what is done is kept in {out}, and the same command goes on there", err=True
        )
        return INTERRUPTED
    status = _report(finished, as_json)
    if report is not None:
        _write_report(finished, sweep, report)
    return status


def _write_report(finished: Finished, sweep: Path, report: Path) -> None:
    from simmig.experiment.reports.html.page import write
    from simmig.experiment.reports.html.sweep import page_of_sweep
    from simmig.experiment.reports.plots.kinds import pictures
    from simmig.experiment.reports.plots.results import read_results

    results = read_results(finished.results)
    write(page_of_sweep(results, pictures(results), f"Sweep {sweep.stem}"), report)


def _need_pyarrow() -> None:
    import importlib.util

    if importlib.util.find_spec("pyarrow") is None:
        raise click.ClickException("results are written as Parquet: pip install 'simmig[sweep]'")


def _report(finished: Finished, as_json: bool) -> int:
    from simmig.experiment.studies.sweep.results import tally

    counts = tally(finished.results)
    if as_json:
        from simmig.experiment.reports.report import json_document

        figures = {"results": str(finished.results), "points": finished.points, "simulated": finished.simulated}
        click.echo(json_document({**figures, **counts.figures()}), nl=False)
    else:
        there = "" if finished.simulated else "; they were there already, nothing was run"
        click.echo(f"{finished.points} points in {finished.results}{there}")
        for line in counts.lines():
            click.echo(f"  {line}")
    return 0 if counts.good else 1
