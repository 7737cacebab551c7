"""``simmig calibrate``: what two devices, their hosts and their link can do, as a model to simulate on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.show import status_line
from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.experiment.scenario.machine import Devices

device_option = click.option(
    "--device",
    "names",
    metavar="NAME",
    multiple=True,
    help="The source's RDMA device, and again: the destination's. Default: this host's two.",
)


@click.command(short_help="Measure two RDMA devices and write a model of them.")
@device_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Write the model there; never over another.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object instead of a table.")
def calibrate(names: tuple[str, ...], out: Path | None, as_json: bool) -> int:
    """Measure two RDMA devices of this host, and the link between them, by some seconds of work.

    That work is writes, registrations and the migration of a guest of 4 MiB.

    \b
    simmig lab --rate '100 Mbit/s' --delay '2 ms' -- simmig calibrate --out lab.toml
    simmig run quickstart --set link.model=lab.toml --set host.model=lab.toml
    """
    from simmig.experiment.fit.calibrate import calibrate_devices as measure
    from simmig.experiment.fit.model_file import write_model
    from simmig.experiment.output import require_new_file
    from simmig.experiment.reports.summary import as_text
    from simmig.experiment.runs.pair import PeerFailed
    from simmig.verbs.rdma.errors import RdmaUnavailable

    if out is not None:
        require_new_file(out, "--out")
    devices = devices_of(names)
    try:
        with status_line("starting") as show:
            model = measure(devices, show)
    except RdmaUnavailable as error:
        raise InputError(str(error)) from None
    except (PeerFailed, OSError) as error:
        click.echo(f"simmig: {error}", err=True)
        return 1
    if out is not None:
        write_model(model, out)
    if as_json:
        from simmig.experiment.reports.report import json_document

        click.echo(json_document(model.document()), nl=False)
    else:
        from simmig.experiment.fit.compare_report import calibrated

        click.echo(as_text(calibrated(model)), nl=False)
    return 0


def devices_of(names: tuple[str, ...]) -> Devices:
    """The two named, or this host's two."""
    from simmig.experiment.scenario.machine import Devices
    from simmig.verbs.rdma import binding, device
    from simmig.verbs.rdma.errors import RdmaUnavailable

    if len(names) not in (0, 2):
        raise click.UsageError("--device is given twice, for the source and for the destination, or not at all.")
    try:
        found = Devices(*(names or device.pair(binding.load())))
        for name in (found.source, found.destination):
            device.check(binding.load(), name)
    except RdmaUnavailable as error:
        raise InputError(str(error)) from None
    return found
