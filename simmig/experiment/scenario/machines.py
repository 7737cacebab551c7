"""Machines that no scenario describes, on disk: kept by a destination, loaded by a source."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simmig.experiment.errors import InputError
from simmig.experiment.output import OutputDir
from simmig.experiment.scenario.load import Overrides, build_scenario
from simmig.experiment.scenario.schema import Scenario
from simmig.guest import kept
from simmig.guest.kept import KeptGuest, KeptMachineError
from simmig.guest.machine import arrange
from simmig.trace.recorder import Sink, TraceFile

_Settings = tuple[tuple[str, ...], str | None, int | None]


def scenario_for(directory: Path | None, overrides: _Settings) -> Scenario:
    """How to migrate the machine in `directory`, or whichever comes; its guest and its link say nothing.

    A destination grants pin-all to whoever asks.
    """
    raw: dict[str, Any] = {
        "guest": {"memory": "4 KiB"},
        "link": {"bandwidth": "10 Gbit/s", "latency": "2 us"},
        "migration": {"pin_all": directory is None},
    }
    settings, policy, seed = overrides
    for setting in settings:
        if not setting.strip().startswith("migration."):
            raise InputError(f"--set {setting}: without a SCENARIO only migration.KEY can be set")
    return build_scenario(raw, Path("machine"), Overrides(settings, policy, seed))


def load(directory: Path, scenario: Scenario | None) -> KeptGuest:
    """The machine kept there; InputError when there is none, or `scenario` describes other RAM blocks."""
    try:
        machine = kept.load(directory)
    except KeptMachineError as error:
        raise InputError(f"--load {error}") from None
    if scenario is not None:
        try:
            arrange(machine.blocks, scenario.guest.blocks)
        except ValueError as error:
            machine.close()
            raise InputError(f"--load {directory}: {error} (here: the machine; there: the scenario)") from None
    return machine


class Keeping:
    """Where a machine that comes is kept, if anywhere."""

    def __init__(
        self, path: Path | None, directory: OutputDir | None, expected: list[tuple[str, int]] | None
    ) -> None:
        self._path = path
        self._directory = directory
        self._trace: TraceFile | None = None
        self.machine = KeptGuest(expected, None if directory is None else self._keep)

    def _keep(self, machine: KeptGuest) -> None:
        """The machine first, in its place at once; its trace can follow."""
        assert self._directory is not None
        machine.save(self._directory.work)
        self._directory.keep()

    def both(self, sink: Sink | None) -> Sink | None:
        """A sink that also writes the trace beside the machine, if one is kept."""
        return sink if self._path is None else _Both(self, sink)

    def write(self, data: bytes) -> None:
        """Some of the trace."""
        assert self._path is not None
        if self._trace is None and self.machine.running:
            self._trace = TraceFile(self._path / "trace.jsonl.gz")
        if self._trace is not None:
            self._trace.sink.write(data)

    def close(self) -> None:
        """The trace is whole."""
        if self._trace is not None:
            self._trace.__exit__(None, None, None)


class _Both:
    def __init__(self, keeping: Keeping, other: Sink | None) -> None:
        self._keeping = keeping
        self._other = other

    def write(self, data: bytes, /) -> int:
        """To both."""
        self._keeping.write(data)
        return len(data) if self._other is None else self._other.write(data)


@contextmanager
def keeping(path: Path | None, scenario: Scenario | None) -> Iterator[Keeping]:
    """Keep the machine that comes, which must be the `scenario`'s if there is one, in `path`, if anywhere.

    Raises InputError, before anything comes, for a `path` that is taken or cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        directory = None if path is None else stack.enter_context(OutputDir(path, "--save"))
        kept_there = Keeping(path, directory, None if scenario is None else scenario.guest.blocks)
        stack.callback(kept_there.close)
        yield kept_there
