"""``simmig run``: one scenario, one migration, its figures and pictures."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.show import output_options, scenario_options, show_result, status_line
from simmig.cli.words import Against
from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.experiment.result import Result
    from simmig.experiment.scenario.machine import Devices
    from simmig.experiment.scenario.schema import Scenario


@click.command(short_help="Simulate one migration, or carry it out on RDMA devices.")
@scenario_options
@click.option(
    "--backend", type=click.Choice(["sim", "rdma"]), default="sim", show_default=True, help="What carries it out."
)
@click.option(
    "--device",
    "names",
    metavar="NAME",
    multiple=True,
    help="With --backend rdma: the source's RDMA device, and again: the destination's. Default: this host's two.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write one HTML file with everything in it."
)
@click.option(
    "--against",
    type=Against(),
    metavar="WHAT",
    multiple=True,
    help="Compare with another scenario, policy or TABLE.KEY=VALUE, in one table and picture; may be given again, "
    "and several settings at once with semicolons between.",
)
@click.option(
    "--stop-when-flat",
    is_flag=True,
    help="Give up as soon as rounds have stopped to shrink (migration.stop_when_flat).",
)
@output_options
def run(
    scenario: Path,
    policy: str | None,
    settings: tuple[str, ...],
    seed: int | None,
    backend: str,
    names: tuple[str, ...],
    out: Path | None,
    report: Path | None,
    against: tuple[str, ...],
    stop_when_flat: bool,
    as_json: bool,
) -> int:
    """Simulate the migration that SCENARIO describes, or carry it out on two RDMA devices.

    SCENARIO is a TOML file, or the name of one that comes with simmig (`simmig init` lists them). `simmig explain`
    lists the keys that --set takes, `simmig explain KEY` says what one is.

    \b
    Built-in policies: final-only, at-switch, per-round, downtime-budget,
    pending-limit (limit), every-bytes (interval), per-iteration, per-chunk.
    Your own: --policy path/to/file.py:Name, or an entry point in the group simmig.policies.

    \b
    simmig run quickstart
    simmig run quickstart --policy pending-limit,limit='16 MiB' --out out/my-run
    simmig run quickstart --set migration.slice=unlimited --json
    simmig run quickstart --against migration.transport=tcp --against per-chunk --out out/compared
    simmig run quickstart --against 'link.model=roce-100g; host.model=server-2020'
    simmig run quickstart --backend rdma --device rxe0 --device rxe1
    simmig run quickstart --set guest.workload="{ kind = 'idle' }"
    """
    from simmig.experiment.scenario.load import Overrides, load_scenario

    if stop_when_flat:
        settings = (*settings, "migration.stop_when_flat=true")
    if against:
        if backend != "sim" or names or report is not None:
            raise click.UsageError(
                "--against compares simulations: without --backend, --device and --report. "
                "--out DIR leaves its table and picture."
            )
        from simmig.cli.against import run_against

        return run_against(scenario, Overrides(settings, policy, seed), against, out, as_json)
    loaded = load_scenario(scenario, Overrides(settings, policy, seed))
    if report is not None:
        from simmig.experiment.reports.html.page import require_writable

        require_writable(report)
    result = _run(loaded, out, report, _devices(backend, names))
    status = show_result(result, loaded, out, as_json)
    if report is not None:
        from simmig.experiment.reports.html.page import write
        from simmig.experiment.reports.html.runs import page_of

        write(page_of(result, loaded), report)
    return status


def _devices(backend: str, names: tuple[str, ...]) -> Devices | None:
    """The devices to run on; None for a simulation."""
    from simmig.experiment.scenario.machine import Devices

    if backend == "sim":
        if names:
            raise click.UsageError("--device goes with --backend rdma: a simulation makes its own.")
        return None
    if len(names) not in (0, 2):
        raise click.UsageError("--device is given twice, for the source and for the destination, or not at all.")
    from simmig.verbs.rdma import binding, device
    from simmig.verbs.rdma.errors import RdmaUnavailable

    try:
        return Devices(*(names or device.pair(binding.load())))
    except RdmaUnavailable as error:
        raise InputError(f"--backend rdma: {error}") from None


def _run(scenario: Scenario, out: Path | None, report: Path | None, devices: Devices | None) -> Result:
    from simmig.cli.engine import prepare
    from simmig.cli.progress import Progress
    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.report import CarryOut, run_into

    with OutputDir(out) if out is not None else nullcontext() as directory, status_line("setup") as show:
        if devices is None:
            simulate = prepare(scenario, whole=out is not None or report is not None, show=show)
            return run_into(directory, scenario, carry_out=simulate)
        from simmig.experiment.runs.run_rdma import run_rdma
        from simmig.verbs.rdma.errors import RdmaUnavailable

        carry_out: CarryOut = lambda s, readers, sink: run_rdma(s, devices, [Progress(show)], readers, sink)  # noqa: E731
        try:
            return run_into(directory, scenario, carry_out=carry_out)
        except RdmaUnavailable as error:
            raise InputError(f"--backend rdma: {error}") from None
