"""``simmig compare --qemu``: a running VM's migration, predicted under some policies and carried out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.calibrate import devices_of
from simmig.cli.ends import address
from simmig.cli.show import print_shown, require_qemu, status_line
from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.experiment.fit.compare_vm import VmComparison
    from simmig.experiment.output import OutputDir

_LEAST_NS = 1_000_000_000


def compare_vm(
    policies: tuple[str, ...],
    settings: tuple[str, ...],
    names: tuple[str, ...],
    repeats: int,
    out: Path | None,
    as_json: bool,
    *,
    qemu: Path,
    to: str | None,
    destination_qemu: Path | None,
    duration: str | None,
    model: Path | None,
    fresh: str | None,
) -> int:
    """Carry it out and show it; the arguments are the command's options."""
    from simmig.experiment.output import OutputDir
    from simmig.experiment.runs.pair import PeerFailed
    from simmig.verbs.rdma.errors import RdmaUnavailable

    require_qemu()
    if to is None:
        raise InputError("--qemu: say where its destination listens, --to ADDRESS:PORT")
    if repeats > 1 and fresh is None:
        raise InputError(
            "--repeats: a VM that has moved is not here again: name a --fresh COMMAND that starts another"
        )
    if model is not None and len(names) > 1:
        raise InputError("--device: with --model, once at most: the device to send from")
    from simmig.experiment.fit import compare_vm as comparing
    from simmig.experiment.fit import model_file

    asked = comparing.Asked(
        qmp=qemu,
        to=address("--to", to),
        destination_qmp=destination_qemu,
        watch_ns=None if duration is None else _watch_ns(duration),
        policies=comparing.scenarios(qemu, policies, settings),
        model=None if model is None else model_file.read_model(model),
        devices=None if model is not None else devices_of(names),
        name=names[0] if names else None,
        fresh=fresh,
        repeats=repeats,
    )
    with OutputDir(out) if out is not None else nullcontext() as directory:
        try:
            with status_line("starting") as show:
                comparison = comparing.compare(asked, show)
        except RdmaUnavailable as error:
            raise InputError(str(error)) from None
        except (PeerFailed, OSError) as error:
            click.echo(f"simmig: {error}", err=True)
            return 1
        if directory is not None:
            _write(directory, comparison)
    _show(comparison, out, as_json)
    return 0 if comparison.good else 1


def _watch_ns(text: str) -> int:
    from simmig.experiment import units

    try:
        duration_ns = units.time_ns(text)
    except ValueError as error:
        raise InputError(f"--for: {error}") from None
    if duration_ns < _LEAST_NS:
        raise InputError(f"--for {text}: at least 1 s, to see how the VM writes")
    return duration_ns


def _write(directory: OutputDir, comparison: VmComparison) -> None:
    from simmig.experiment.fit.compare_vm_report import vm_report
    from simmig.experiment.fit.model_file import write_model
    from simmig.experiment.reports.report import json_document
    from simmig.experiment.reports.summary import as_text

    (directory.work / "comparison.txt").write_text(as_text(vm_report(comparison)), encoding="utf-8")
    (directory.work / "comparison.json").write_bytes(json_document(comparison.document()))
    (directory.work / "vm.csv").write_text(comparison.watched.seen.csv(), encoding="utf-8")
    write_model(comparison.model, directory.work / "model.toml")
    directory.keep()


def _show(comparison: VmComparison, out: Path | None, as_json: bool) -> None:
    from simmig.experiment.fit.compare_vm_report import vm_report
    from simmig.experiment.reports.report import json_document

    if as_json:
        click.echo(json_document(comparison.document()), nl=False)
        return
    print_shown(vm_report(comparison))
    if out is not None:
        click.echo(
            f"\n  Results are in {out}: comparison.txt and .json, the model, and vm.csv, a recorded workload."
        )
