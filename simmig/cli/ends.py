"""``simmig send`` and ``simmig receive``: one migration, its two ends in two processes, on two hosts or on one."""

from __future__ import annotations

import ipaddress
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.show import optional_scenario_options, output_options, require_qemu, show_result, status_line
from simmig.experiment.errors import InputError, cut

if TYPE_CHECKING:
    from simmig.experiment.reports.report import CarryOut
    from simmig.experiment.result import Result
    from simmig.experiment.runs.ends import Address
    from simmig.experiment.scenario.schema import Scenario


@click.command(short_help="Migrate a guest of this process, a kept machine or a running QEMU's VM.")
@optional_scenario_options
@click.option("--to", metavar="ADDRESS:PORT", required=True, help="Where the destination listens.")
@click.option(
    "--device", "name", metavar="NAME", help="The RDMA device to send from. Default: where the routes lead."
)
@click.option(
    "--load",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Send the machine that a `simmig receive --save DIR` has left, instead of a scenario's guest.",
)
@click.option(
    "--qemu",
    type=click.Path(path_type=Path),
    metavar="QMP-SOCKET",
    help="Send the VM of the QEMU that listens there, while it runs.",
)
@output_options
def send(
    scenario: Path | None,
    policy: str | None,
    settings: tuple[str, ...],
    seed: int | None,
    to: str,
    name: str | None,
    load: Path | None,
    qemu: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Run the guest that SCENARIO describes and migrate it to a `simmig receive` with the same scenario.

    Ctrl-C cancels, and the guest goes on running here. When all is over the two ends exchange what they saw, by
    TCP on the same port, and both show the whole migration; where that fails, each shows what it knows.

    \b
    simmig receive lab-small --device rxe1 --listen 10.9.9.2:4444 &
    simmig send lab-small --device rxe0 --to 10.9.9.2:4444 --policy per-chunk

    With --load it is a machine that was kept, to a QEMU started with the same arguments and -incoming
    rdma:ADDRESS:PORT; SCENARIO, which may then be left out, says how to migrate.

    With --qemu it is a VM that runs, to such a QEMU. Its memory must be shared (-object
    memory-backend-memfd,id=pc.ram,size=...,share=on -machine memory-backend=pc.ram); what else is needed is said
    before anything is stopped. Whatever fails, it runs on.

    \b
    simmig send --qemu /run/vm.qmp --to 10.9.9.2:4444 --policy per-chunk --set migration.pin_all=true
    """
    from simmig.cli.progress import Progress
    from simmig.experiment.runs import ends
    from simmig.experiment.scenario import machines

    destination = address("--to", to)
    if scenario is None and load is None and qemu is None:
        raise InputError("name a SCENARIO, or the machine to send: --load DIR, or --qemu QMP-SOCKET")
    if load is not None and qemu is not None:
        raise InputError("--load and --qemu: one machine a migration")
    overrides = (settings, policy, seed)
    loaded = machines.scenario_for(load or qemu, overrides) if scenario is None else _loaded(scenario, overrides)
    if qemu is not None:
        return _send_qemu(loaded, qemu, destination, name, out, as_json)
    machine = None if load is None else machines.load(load, loaded if scenario is not None else None)
    with status_line("setup") as show:
        live = [Progress(show)]
        carry_out: CarryOut = lambda s, readers, sink: ends.send(  # noqa: E731
            s, destination, name, live, readers, sink, machine
        )
        result = _carry_out(loaded, out, carry_out)
    return show_result(result, loaded, out, as_json)


def _send_qemu(
    scenario: Scenario, qmp: Path, to: Address, name: str | None, out: Path | None, as_json: bool
) -> int:
    require_qemu()
    from simmig.cli.progress import Progress
    from simmig.experiment.runs import ends_qemu

    with status_line("setup") as show:
        live = [Progress(show)]
        carry_out: CarryOut = lambda s, readers, sink: ends_qemu.send_qemu(s, qmp, to, name, live, readers, sink)  # noqa: E731
        result = _carry_out(scenario, out, carry_out)
    return show_result(result, scenario, out, as_json)


@click.command(short_help="Take over the guest that a `simmig send` or a QEMU migrates.")
@optional_scenario_options
@click.option(
    "--device", "name", metavar="NAME", help="The RDMA device to listen on. Default: this host's only one."
)
@click.option(
    "--listen", metavar="ADDRESS:PORT", help="Where to listen instead. Default: the device's address, port 4444."
)
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the machine there, whatever machine it is: memory, state, trace.",
)
@output_options
def receive(
    scenario: Path | None,
    policy: str | None,
    settings: tuple[str, ...],
    seed: int | None,
    name: str | None,
    listen: str | None,
    save: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Wait for one `simmig send` and take its guest over; SCENARIO must describe the same guest.

    Without SCENARIO, or with --save, it may be any machine, and of a stock QEMU (migrate rdma:ADDRESS:PORT): it
    does not run here, and `simmig send --load` sends it on. Without --save nothing of it stays.

    Ctrl-C ends the wait, or cancels the migration: the guest then goes on running at the source.
    """
    from simmig.cli.progress import Received
    from simmig.experiment.runs import ends
    from simmig.experiment.scenario import machines

    overrides = (settings, policy, seed)
    loaded = machines.scenario_for(None, overrides) if scenario is None else _loaded(scenario, overrides)
    at = None if listen is None else address("--listen", listen)
    with status_line("starting") as show:
        live = [Received(show)]

        def listening(address: Address) -> None:
            waiting = f"waiting for a source on {address}"
            if sys.stderr.isatty():
                show(waiting)
            else:  # whoever started this from a script waits for the line
                click.echo(waiting, err=True)

        with machines.keeping(save, loaded if scenario is not None else None) as keeping:
            machine = keeping.machine if scenario is None or save is not None else None
            carry_out: CarryOut = lambda s, readers, sink: ends.receive(  # noqa: E731
                s, at, name, listening, live, readers, keeping.both(sink), machine
            )
            result = _carry_out(loaded, out, carry_out)
    status = show_result(result, loaded, out, as_json)
    if machine is not None and result.status == "completed":
        click.echo(_where_it_is(save), err=True)
    return status


def _where_it_is(save: Path | None) -> str:
    if save is None:
        return "without --save nothing of the machine is kept: `cont` at a QEMU source lets it run on there"
    return f"the machine is in {save}: simmig send --load {save} --to ADDRESS:PORT sends it on"


def _loaded(scenario: Path, overrides: tuple[tuple[str, ...], str | None, int | None]) -> Scenario:
    from simmig.experiment.scenario.load import Overrides, load_scenario

    return load_scenario(scenario, Overrides(*overrides))


def _carry_out(scenario: Scenario, out: Path | None, carry_out: CarryOut) -> Result:
    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.report import run_into
    from simmig.verbs.rdma.errors import RdmaUnavailable

    with OutputDir(out) if out is not None else nullcontext() as directory:
        try:
            return run_into(directory, scenario, carry_out=carry_out)
        except RdmaUnavailable as error:
            raise InputError(str(error)) from None


def address(option: str, text: str) -> Address:
    """The first IP address of a host, and a port."""
    from simmig.experiment.runs.ends import Address

    host, colon, port = text.rpartition(":")
    if "://" in text or text.startswith(("rdma:", "tcp:")):
        raise InputError(
            f"{option} {cut(text)}: write it without the scheme, {_without_scheme(text)}: "
            "the scenario's migration.transport says rdma or tcp"
        )
    meant = [f"[{host}]:{port}"] if _is_ipv6(host) else []
    meant += [f"[{text}]:4444"] if _is_ipv6(text) else []
    if meant:
        raise InputError(f"{option} {text}: an IPv6 address has brackets before its port: {' or '.join(meant)}")
    if not colon or not host or not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 1 << 16:
        raise InputError(f"{option} {cut(text)}: write ADDRESS:PORT, e.g. 192.0.2.7:4444 or [2001:db8::7]:4444")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter: a name's part is longer than 63 characters
        raise InputError(f"{option} {cut(text)}: {getattr(error, 'strerror', None) or error}") from None
    return Address(str(found[0][4][0]), int(port))


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _without_scheme(text: str) -> str:
    address = text.rpartition("://")[2] if "://" in text else text.partition(":")[2]
    return cut(address) or "ADDRESS:PORT"
