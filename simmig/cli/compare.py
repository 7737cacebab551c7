"""``simmig compare``: a migration predicted by simulation, and carried out on the devices it was predicted for."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simmig.cli.calibrate import device_option, devices_of
from simmig.cli.show import output_options, print_shown, settings_options, status_line
from simmig.cli.words import PolicyText, Shipped
from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.experiment.fit.compare import Comparison
    from simmig.experiment.output import OutputDir


@click.command(short_help="Predict a migration, carry it out on RDMA devices, show both.")
@click.argument("scenario", type=Shipped(), required=False)
@click.option(
    "--policy",
    "policies",
    type=PolicyText(),
    metavar="NAME[,KEY=VALUE]...",
    multiple=True,
    help="Drain policy; replaces the scenario's. With --qemu it may be given again.",
)
@settings_options
@device_option
@click.option("--repeats", type=click.IntRange(1, 100), default=1, show_default=True, help="Real migrations.")
@click.option(
    "--qemu",
    type=click.Path(path_type=Path),
    metavar="QMP-SOCKET",
    help="Predict and migrate the VM of the QEMU that listens there, instead of a scenario's guest.",
)
@click.option("--to", metavar="ADDRESS:PORT", help="With --qemu: where its destination listens.")
@click.option(
    "--destination-qemu",
    type=click.Path(path_type=Path),
    metavar="QMP-SOCKET",
    help="With --qemu: of the destination, on this host, to tell the downtime by QEMU's own clock.",
)
@click.option(
    "--for",
    "duration",
    metavar="TIME",
    help="With --qemu: how long the VM is watched. Default: as long as its memory takes, once.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="With --qemu: what `simmig calibrate` has written. Default: the two devices are calibrated now.",
)
@click.option(
    "--fresh",
    metavar="COMMAND",
    help="With --qemu: starts VM and destination anew, at the same sockets and address; run before each migration "
    "but the first.",
)
@output_options
def compare(
    scenario: Path | None,
    policies: tuple[str, ...],
    settings: tuple[str, ...],
    seed: int | None,
    names: tuple[str, ...],
    repeats: int,
    out: Path | None,
    as_json: bool,
    **of_vm: Any,
) -> int:
    """Measure two RDMA devices of this host, simulate SCENARIO with that, carry it out, and show both.

    The scenario's own link, hosts and device are put aside. A prediction hits when the total time is within 5 %
    and the downtime within 15 % or 20 ms of the median measured. Exit status 0 when both hit.

    \b
    simmig lab --rate '100 Mbit/s' --delay '2 ms' -- simmig compare lab-small --out out/compared

    With --qemu it is a VM that runs (what it needs is as of `simmig send --qemu`). It is watched for some seconds
    and stopped for a moment, each --policy is predicted, and the first is carried out: the VM is then at the
    destination. All are, where --fresh starts another VM like it. Hits are within 25 % or 50 ms.

    \b
    simmig compare --qemu /run/vm.qmp --to 10.9.9.2:4444 --policy per-chunk --policy at-switch --model link.toml
    """
    if of_vm["qemu"] is not None:
        from simmig.cli.compare_vm import compare_vm

        if scenario is not None or seed is not None:
            raise InputError("--qemu: the guest is the VM, without a SCENARIO and a --seed")
        return compare_vm(policies, settings, names, repeats, out, as_json, **of_vm)
    if scenario is None:
        raise InputError("name a SCENARIO, or the VM of a running QEMU: --qemu QMP-SOCKET")
    if only := next((option for option, value in of_vm.items() if value is not None), None):
        raise InputError(f"--{'for' if only == 'duration' else only.replace('_', '-')}: goes with --qemu only")
    if len(policies) > 1:
        raise InputError("--policy: one, but with --qemu")
    from simmig.experiment.fit import compare as comparing
    from simmig.experiment.output import OutputDir
    from simmig.experiment.runs.pair import PeerFailed
    from simmig.experiment.scenario.load import Overrides, load_scenario
    from simmig.verbs.rdma.errors import RdmaUnavailable

    loaded = load_scenario(scenario, Overrides(settings, policies[0] if policies else None, seed))
    devices = devices_of(names)
    with OutputDir(out) if out is not None else nullcontext() as directory:
        try:
            with status_line("starting") as show:
                comparison = comparing.compare(loaded, devices, repeats, show)
        except RdmaUnavailable as error:
            raise InputError(str(error)) from None
        except (PeerFailed, OSError) as error:
            click.echo(f"simmig: {error}", err=True)
            return 1
        if directory is not None:
            _write(directory, comparison)
    _show(comparison, out, as_json)
    return 0 if comparison.good else 1


def _write(directory: OutputDir, comparison: Comparison) -> None:
    from simmig.experiment.fit.compare_report import report
    from simmig.experiment.fit.model_file import write_model
    from simmig.experiment.reports.report import can_plot, json_document
    from simmig.experiment.reports.summary import as_text, headline

    (directory.work / "comparison.txt").write_text(as_text(report(comparison)), encoding="utf-8")
    (directory.work / "comparison.json").write_bytes(json_document(comparison.document()))
    write_model(comparison.model, directory.work / "model.toml")
    if can_plot():
        from simmig.experiment.reports.plots.compare import plot_compare

        measured = comparison.typical()
        title = headline(measured, comparison.scenario).plain
        plot_compare(comparison.predicted.metrics, measured.metrics, title, directory.work / "comparison.png")
    directory.keep()


def _show(comparison: Comparison, out: Path | None, as_json: bool) -> None:
    from simmig.experiment.fit.compare_report import report
    from simmig.experiment.reports.report import json_document

    if as_json:
        click.echo(json_document(comparison.document()), nl=False)
        return
    print_shown(report(comparison))
    if out is not None:
        click.echo(f"\n  Results are in {out}: comparison.txt, .json and .png, and the model as model.toml.")
