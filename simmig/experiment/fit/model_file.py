"""A calibrated model as a TOML file: what a scenario's `model = "FILE.toml"` reads, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from simmig.experiment.amounts import format_rate, format_time
from simmig.experiment.errors import InputError
from simmig.experiment.fit.calibrate import Model
from simmig.experiment.fit.calibrate_log import Figure
from simmig.experiment.output import write_file
from simmig.experiment.scenario.machine import Devices
from simmig.experiment.scenario.toml_file import read_toml

_TABLES = ("link", "host", "destination_host", "device")


def write_model(model: Model, path: Path) -> None:
    """Write it; raises InputError when the file exists already or cannot be written."""
    write_file(path, "".join(f"{text}\n" for text in _lines(model)), "--out")


def read_model(path: Path) -> Model:
    """The model that `write_model` wrote there, without where its figures are from; raises InputError."""
    read = read_toml(path)
    if lacking := [name for name in ("link", "host") if not isinstance(read.get(name), dict)]:
        raise InputError(f"{path}: no table [{lacking[0]}]: it must be what `simmig calibrate --out` wrote")
    tables = {name: read[name] for name in _TABLES if isinstance(read.get(name), dict)}
    measured = read.get("measured")
    told = {key: str(value) for key, value in measured.items()} if isinstance(measured, dict) else {}
    devices = Devices(told.get("source_device", ""), told.get("destination_device", ""))
    model = Model(devices, told.get("date", ""), told.get("kernel", ""), tables)
    model.scenario_tables(path)
    return model


def amount(figure: Figure) -> str:
    """A figure's value, for a person."""
    if figure.unit == "bit/s":
        return format_rate(figure.value)
    if figure.unit == "B":
        return f"{figure.value:.0f} B"
    return format_time(round(figure.value)) if figure.value >= 1000 else f"{figure.value:.3g} ns"


def _lines(model: Model) -> Iterator[str]:
    devices = model.devices
    yield f"# Measured by simmig calibrate from {devices.source} to {devices.destination}."
    yield '# Use it in a scenario: model = "THIS FILE" in [link], [host] and [destination_host].'
    yield ""
    yield "[measured]"
    for key, value in (
        ("date", model.made),
        ("kernel", model.kernel),
        ("source_device", devices.source),
        ("destination_device", devices.destination),
    ):
        yield f"{key} = {_text(value)}"
    for name, table in model.tables.items():
        yield ""
        yield f"[{name}]"
        for key, value in table.items():
            yield f"{key} = {_text(value)}"
    yield ""
    yield "[source]"
    for figure in model.figures:
        key = figure.name.replace(" ", "_")
        yield f"{key} = {_text(f'{amount(figure)}, from {figure.events} samples: {figure.source}')}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a basic string of TOML is one of JSON, but for "\\/"
