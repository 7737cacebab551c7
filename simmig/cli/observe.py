"""``simmig observe``: what a running VM writes, as a workload for scenarios."""

from __future__ import annotations

from pathlib import Path

import click

from simmig.cli.show import require_qemu, status_line
from simmig.experiment.errors import InputError

MIN_EVERY_NS = 10_000_000


@click.command(short_help="Record what a running QEMU's VM writes, for scenarios.")
@click.option(
    "--qemu", type=click.Path(path_type=Path), metavar="QMP-SOCKET", required=True, help="Of the QEMU to watch."
)
@click.option("--for", "duration", metavar="TIME", default="5 s", show_default=True, help="How long.")
@click.option(
    "--every", metavar="TIME", default="100 ms", show_default=True, help="How often its dirty pages are read."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    required=True,
    help="The recording; never over one.",
)
def observe(qemu: Path, duration: str, every: str, out: Path) -> int:
    """Watch a running VM dirty its memory for some seconds, and record it as a workload of kind "recorded".

    Printed is the [guest] table that goes with it. The VM runs on: its threads stand still for each look, some
    milliseconds. A page that is written often counts once a look. What the VM needs is as of `simmig send --qemu`.

    \b
    simmig observe --qemu /run/vm.qmp --for '10 s' --out vm.csv
    """
    require_qemu()
    from simmig.experiment import units
    from simmig.experiment.output import write_file
    from simmig.experiment.runs import observe as observing

    times = {}
    for option, text in (("--for", duration), ("--every", every)):
        try:
            times[option] = units.time_ns(text)
        except ValueError as error:
            raise InputError(f"{option}: {error}") from None
    if times["--every"] < MIN_EVERY_NS or times["--for"] < times["--every"]:
        raise InputError("--every: at least 10 ms, and no more than --for")
    if out.exists():
        raise InputError(f"--out {out}: exists already")
    with status_line("watching") as show:
        seen = observing.observe(qemu, times["--for"], times["--every"], show)
    write_file(out, seen.csv(), "--out")
    click.echo(f"# {seen.words}\n{seen.guest_table(out)}", nl=False)
    return 0
