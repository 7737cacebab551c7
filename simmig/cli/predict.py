"""``simmig predict``: a recorded QEMU migration beside its simulation, as it was and as it might have been."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.show import print_shown, status_line
from simmig.cli.words import PolicyText, Setting

if TYPE_CHECKING:
    from simmig.experiment.fit.predict import Prediction
    from simmig.experiment.scenario.load import Overrides


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    type=PolicyText(),
    metavar="NAME[,KEY=VALUE]...",
    help="Drain policy to try in place of QEMU's.",
)
@click.option(
    "--set",
    "settings",
    type=Setting(),
    metavar="TABLE.KEY=VALUE",
    multiple=True,
    help="Try another value, e.g. migration.slice='200 ms' or migration.registration_batch=64; may be repeated.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write report and figures there, and the simulated run's trace, Perfetto timeline and plot.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object instead of a report.")
def predict(trace: Path, policy: str | None, settings: tuple[str, ...], out: Path | None, as_json: bool) -> int:
    """Predict the migration that TRACE, a stock QEMU's trace log, has recorded.

    TRACE is what the source, QEMU 7.2 to 10.0, printed with -msg timestamp=on and the events qemu_rdma_*, rdma_*,
    migration_*, migrate_*, savevm_state* and ram_* traced; plain or compressed with gzip, xz or zstd.

    Costs are calibrated from its setup and first round alone, the guest's dirtying is taken from its bitmap syncs,
    and the rest is simulated and printed beside what was recorded. With --policy or --set it also tells what those
    would have done to the same migration.

    TRACE may also be samples of any migration, as JSON lines or as texts, one after another: query-migrate, info
    migrate, virsh domjobinfo, query-dirty-rate. Then bandwidth, dirtying and setup come from these.

    \b
    simmig predict src.trace.gz
    simmig predict src.trace.gz --set migration.slice=round --policy pending-limit,limit='16 MiB'
    """
    from simmig.experiment.scenario.load import Overrides
    from simmig.trace.qemu_samples import holds_samples

    if holds_samples(trace):
        return _from_samples(trace, Overrides(settings, policy), out, as_json)
    prediction = _predict(trace, Overrides(settings, policy), out)
    if as_json:
        from simmig.experiment.fit.predict_report import figures
        from simmig.experiment.reports.report import json_document

        click.echo(json_document(figures(prediction)), nl=False)
    else:
        _print_report(prediction, out)
    return 0 if prediction.answer.result.good else 1


def _from_samples(path: Path, overrides: Overrides, out: Path | None, as_json: bool) -> int:
    from simmig.experiment.fit.predict_samples import predict_samples
    from simmig.experiment.fit.predict_samples_report import figures, report
    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.report import json_document

    with OutputDir(out) if out is not None else nullcontext() as directory:
        prediction = predict_samples(path, overrides)
        document = json_document(figures(prediction))
        if directory is not None:
            (directory.work / "prediction.txt").write_text(report(prediction), encoding="utf-8")
            (directory.work / "prediction.json").write_bytes(document)
    click.echo(document if as_json else report(prediction), nl=False)
    return 0 if prediction.predicted.good else 1


def _predict(trace: Path, overrides: Overrides, out: Path | None) -> Prediction:
    from simmig.experiment.fit.predict import predict as simulate
    from simmig.experiment.fit.predict_report import write_into
    from simmig.experiment.output import OutputDir

    with OutputDir(out) if out is not None else nullcontext() as directory, status_line("reading") as tell:
        prediction = simulate(trace, overrides, tell)
        if directory is not None:
            write_into(directory, prediction)
    return prediction


def _print_report(prediction: Prediction, out: Path | None) -> None:
    from simmig.experiment.fit.predict_report import report

    print_shown(report(prediction))
    if out is not None:
        click.echo(f"\n  Results are in {out}: prediction.txt and .json, and the simulated run's files.")
