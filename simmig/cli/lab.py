"""``simmig lab``: run a command where there are two soft-RoCE devices, on a machine whose kernel has none."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.lab.accelerator import Wanted
    from simmig.lab.machine import Boot, LabLink, Size

LAB_FAILED = 125
TIMED_OUT = 124
OTHER_KERNEL = "6.12"
OTHER_QEMU = "10.0"
"""What some tests ask for beside this system's own; others may be had, too."""
_MIN_MEMORY_BYTES = 1 << 30

_LINK_OPTIONS = (
    click.option("--rate", metavar="RATE", help="The link's, each way, e.g. '100 Mbit/s'; default: no limit."),
    click.option("--delay", metavar="TIME", help="The link's, each way, e.g. '2 ms'; default: none."),
    click.option("--loss", metavar="PERCENT", help="Packets lost, each way, e.g. '1 %'; default: none."),
    click.option("--cpus", type=click.IntRange(1, 64), default=2, show_default=True, help="Of the machine."),
    click.option("--memory", metavar="SIZE", default="4 GiB", show_default=True, help="Of the machine."),
    click.option(
        "--kernel",
        "series",
        metavar="SERIES",
        help="Boot that one, e.g. 6.12, from Debian or its backports; default: this system's own.",
    ),
    click.option(
        "--debian",
        "release",
        metavar="RELEASE",
        help="Let COMMAND see the user space of that Debian, e.g. 13; default: this system.",
    ),
    click.option(
        "--accel",
        type=click.Choice(["auto", "kvm", "tcg"]),
        default="auto",
        show_default=True,
        help="What runs the machine: KVM where the kernel boots under it, else emulation; or the one you name.",
    ),
)


def _with_link(function: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_LINK_OPTIONS):
        function = option(function)
    return function


class _Commands(click.Group):
    """What is no subcommand is the command to run: ``simmig lab ibv_devinfo``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put "run" where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Commands)
def lab() -> None:
    """Boot a kernel with soft-RoCE in a virtual machine, and run a command there.

    The command finds the devices rxe0 (10.9.9.1) and rxe1 (10.9.9.2), joined by a link as slow, far and lossy as
    you ask for. It sees this machine's files; what it writes below the current directory stays, all else vanishes.

    \b
    simmig lab ibv_devinfo
    simmig lab --rate '100 Mbit/s' --delay '2 ms' -- rping -s
    simmig lab shell

    Exit status: the command's; 124 when it took too long, 125 when the lab could not run it, 2 for bad input.
    """


@lab.command(context_settings={"allow_interspersed_args": False})
@_with_link
@click.option("--timeout", metavar="TIME", help="Kill the command after that long, e.g. '10 min'.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: tuple[str, ...],
    rate: str | None,
    delay: str | None,
    loss: str | None,
    cpus: int,
    memory: str,
    series: str | None,
    release: str | None,
    accel: Wanted,
    timeout: str | None,
) -> int:
    """Run COMMAND in the lab (the word `run` may be left out)."""
    from simmig.experiment import units

    timeout_s = None if timeout is None else _quantity("--timeout", units.time_ns, timeout) / 1e9
    boot = _boot(series, release, accel)
    return _run(list(command), _link(rate, delay, loss), _size(cpus, memory), timeout_s, boot)


@lab.command()
@_with_link
def shell(
    rate: str | None,
    delay: str | None,
    loss: str | None,
    cpus: int,
    memory: str,
    series: str | None,
    release: str | None,
    accel: Wanted,
) -> int:
    """A prompt in the lab, until you leave it (exit, or Ctrl-D)."""
    return _run([], _link(rate, delay, loss), _size(cpus, memory), None, _boot(series, release, accel))


@lab.command()
def check() -> int:
    """Say what the lab needs, what of it is missing, and what it will run on."""
    from simmig.lab import qemu
    from simmig.lab.accelerator import choose
    from simmig.lab.kernel import cache_dir, cached_kernel
    from simmig.lab.needs import install_commands, needs, program

    found = needs()
    width = max(len(need.what) for need in found)
    for need in found:
        mark = "found  " if need.found else "MISSING"
        click.echo(f"{mark}  {need.what:<{width}}  {need.purpose} ({need.package})")
    own = cached_kernel()
    click.echo(f"kernel   {own.release if own else 'to be downloaded'} in {cache_dir()}")
    machine = program(qemu.PROGRAM)
    if own and machine:
        click.echo(f"runs on  {choose('auto', own, machine)}")
    for line in _others():
        click.echo(line)
    missing = [need for need in found if not need.found]
    for command in install_commands(missing):
        click.echo(f"install with: {shlex.join(command)}")
    return 1 if missing else 0


def _others() -> Iterator[str]:
    """What else the lab can have, each with its place or the command that gets it."""
    from simmig.lab import qemu, userland
    from simmig.lab.kernel import cached_kernel

    kernel = cached_kernel(OTHER_KERNEL)
    for what, place, option in (
        (f"kernel {OTHER_KERNEL}", kernel and kernel.root, f"--kernel {OTHER_KERNEL}"),
        (f"QEMU {OTHER_QEMU}", qemu.find(OTHER_QEMU), f"--qemu {OTHER_QEMU}"),
        *((f"Debian {release}", userland.find(release), f"--debian {release}") for release in userland.RELEASES),
    ):
        yield f"also     {what}: {place or f'not here (simmig lab install {option})'}"


@lab.command()
@click.option("--kernel", "series", metavar="SERIES", help="That kernel, e.g. 6.12, and not this system's own.")
@click.option(
    "--qemu", "version", metavar="VERSION", help="Another QEMU, too, e.g. 10.0, beside the installed one."
)
@click.option("--debian", "release", metavar="RELEASE", help="Another Debian's user space, too, e.g. 13.")
def install(series: str | None, version: str | None, release: str | None) -> int:
    """Install what is missing, by apt-get and pip, and download the kernel.

    Kernels and QEMUs that this Debian release does not have come from its backports. They are unpacked into the
    cache and leave the system, and apt's sources, as they are.
    """
    from simmig.lab import qemu, userland
    from simmig.lab.errors import LabError
    from simmig.lab.kernel import kernel
    from simmig.lab.needs import install_commands, needs, require_all

    _check_version("--kernel", series)
    _check_version("--qemu", version)
    _check_release(release)
    for command in install_commands([need for need in needs() if not need.found]):
        click.echo(shlex.join(command), err=True)
        status = subprocess.run(command, check=False).returncode
        if status:
            click.echo(f"simmig: that failed with status {status}", err=True)
            return LAB_FAILED
    try:
        require_all()
        click.echo(f"ready: kernel {kernel(_tell, series).release}", err=True)
        if version is not None:
            click.echo(f"ready: QEMU {version}, {shlex.join(qemu.provide(version, _tell))}", err=True)
        if release is not None:
            click.echo(f"ready: Debian {release} in {userland.provide(release, _tell)}", err=True)
    except LabError as error:
        click.echo(f"simmig: {error}", err=True)
        return LAB_FAILED
    return 0


def _run(command: list[str], link: LabLink, size: Size, timeout_s: float | None, boot: Boot) -> int:
    from simmig.lab import machine
    from simmig.lab.errors import LabError

    try:
        return machine.run(command, link, size, _tell, timeout_s, boot)
    except LabError as error:
        click.echo(f"simmig: {error}", err=True)
        return LAB_FAILED
    except TimeoutError as error:
        click.echo(f"simmig: {error}", err=True)
        return TIMED_OUT


def _tell(text: str, *, urgent: bool = False) -> None:
    """Progress: for a person, so only what is urgent goes into a pipe or a file."""
    if urgent or sys.stderr.isatty():
        click.echo(f"lab: {text}", err=True)


def _boot(series: str | None, release: str | None, accel: Wanted) -> Boot:
    from simmig.lab.machine import Boot

    _check_version("--kernel", series)
    _check_release(release)
    return Boot(series, accel, release)


def _check_version(option: str, text: str | None) -> None:
    if text is not None and not re.fullmatch(r"\d+\.\d+", text):
        example = {"--kernel": "6.12", "--qemu": "10.0"}[option]
        raise InputError(f'{option}: "{text}" is not written like {example}')


def _check_release(release: str | None) -> None:
    from simmig.lab.userland import RELEASES

    if release is not None and release not in RELEASES:
        known = ", ".join(RELEASES)
        raise InputError(f'--debian: "{release}" is no release that the lab knows; it knows {known}')


def _link(rate: str | None, delay: str | None, loss: str | None) -> LabLink:
    from simmig.experiment import units
    from simmig.lab.machine import LabLink

    rate_bit_s = None if rate is None else _quantity("--rate", units.rate_bit_s, rate)
    if rate_bit_s == 0:
        raise InputError("--rate: a link that carries nothing; leave the option out for no limit")
    delay_ns = 0 if delay is None else _quantity("--delay", units.time_ns, delay)
    return LabLink(rate_bit_s, delay_ns, 0.0 if loss is None else _fraction(loss))


def _size(cpus: int, memory: str) -> Size:
    from simmig.experiment import units
    from simmig.lab.machine import Size

    memory_bytes = _quantity("--memory", units.size_bytes, memory)
    if memory_bytes < _MIN_MEMORY_BYTES:
        raise InputError(f'--memory: "{memory}" is too little to boot; it takes 1 GiB at least')
    return Size(cpus, memory_bytes)


def _fraction(loss: str) -> float:
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,6})?)\s*%\s*", loss)
    if match is None or float(match[1]) > 100:
        raise InputError(f'--loss: "{loss}" is no share of the packets; it is written like "1 %"')
    return float(match[1]) / 100


def _quantity(option: str, parse: Callable[[Any], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from error
