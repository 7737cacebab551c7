"""``simmig pyverbs``: run a program that uses pyverbs, as it is, on simulated devices."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from simmig.verbs import ProfileName

if TYPE_CHECKING:
    from simmig.verbs.sim.link import LinkSpec

_CANNOT_RUN = 126
_MOST_DEVICES = 64
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_NAME = re.compile(r"[A-Za-z][\w.-]{0,62}")


@click.command(
    short_help="Run a pyverbs program on simulated devices.", context_settings={"allow_interspersed_args": False}
)
@click.option(
    "--devices", default="2", show_default=True, metavar="N|NAME,...", help="How many, or their names; all linked."
)
@click.option(
    "--profile",
    type=click.Choice(get_args(ProfileName)),
    default="ideal",
    show_default=True,
    help="How they behave: by the specification, as soft-RoCE, or as ConnectX.",
)
@click.option(
    "--link", metavar="MODEL", help="Between two of them: a link model, e.g. roce-25g.  [default: 10 Gbit/s]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides what a lossy link loses.")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def pyverbs(program: tuple[str, ...], devices: str, profile: str, link: str | None, seed: int) -> int:
    """Run PROGRAM, whose `import pyverbs` then gives simulated devices: no hardware, no kernel module, no root.

    What it starts sees the same devices, so that a server and a client can be two processes. Time is virtual: it
    passes while somebody waits, polls or sleeps.

    \b
    simmig pyverbs -- python my_program.py
    simmig pyverbs --profile rxe -- python -m pytest tests/
    simmig pyverbs --devices rocep1s0f0,rocep1s0f1 -- python one_that_names_its_devices.py
    simmig pyverbs --profile mlx5 --devices 3 --link roce-100g -- sh -c 'python server.py & python client.py; wait'

    SIGTERM and SIGHUP are passed on to PROGRAM. Exit status: the program's; 126 when it cannot be run, 2 for bad
    input.
    """
    from simmig.verbs.pyverbs.launch import served
    from simmig.verbs.pyverbs.world import DEFAULT_LINK
    from simmig.verbs.sim.profiles import PROFILES

    spec = DEFAULT_LINK if link is None else _link(link)
    with served(_devices(devices), PROFILES[profile], spec, seed) as environment:
        try:
            process = subprocess.Popen(program, env=dict(environment))
        except OSError as error:
            click.echo(f"simmig: cannot run {program[0]}: {error.strerror}", err=True)
            return _CANNOT_RUN
        with _passed_on(process):
            while True:
                try:
                    status = process.wait()
                    break
                except KeyboardInterrupt:  # the program has been told as well: it ends, or goes on
                    continue
    return status if status >= 0 else 128 - status


@contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """What asks this command to end asks the program, as long as the block lasts."""
    before = {
        number: signal.signal(number, lambda number, frame: process.send_signal(number)) for number in _ENDING
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _devices(text: str) -> int | list[str]:
    if text.isdigit():
        if not 1 <= int(text) <= _MOST_DEVICES:
            raise click.BadParameter(f"1 to {_MOST_DEVICES} of them", param_hint="--devices")
        return int(text)
    names = text.split(",")
    bad = next((name for name in names if not _NAME.fullmatch(name)), None)
    if bad is not None or len(set(names)) < len(names) or len(names) > _MOST_DEVICES:
        what = f"{bad!r} is no device's name" if bad is not None else f"up to {_MOST_DEVICES} names, each once"
        raise click.BadParameter(f"{what}; e.g. 2, or rxe0,rxe1", param_hint="--devices")
    return names


def _link(model: str) -> LinkSpec:
    from simmig.experiment.scenario.load import build_scenario
    from simmig.verbs.sim.link import LinkSpec

    table = build_scenario({"link": {"model": model}, "guest": {"memory": "1 MiB"}}, Path("--link")).link
    return LinkSpec(table.bandwidth_bit_s, table.latency_ns, table.mtu_bytes, table.header_bytes, table.loss)
