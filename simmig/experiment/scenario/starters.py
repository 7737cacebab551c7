"""What comes with simmig to be copied and edited: scenarios, sweeps, models, a policy, protocols, a project."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from simmig.experiment.errors import InputError
from simmig.experiment.output import OutputDir, write_file
from simmig.experiment.scenario.data import data_dir, models, shipped
from simmig.experiment.scenario.explain import nearest

_TABLES = {"links": "link", "hosts": "host", "workloads": "guest.workload"}
"""The kinds of models, and the table of a scenario that takes one."""


@dataclass(frozen=True)
class Starter:
    """A file to start from, or a directory of them.

    Attributes:
        kind: "scenario", "sweep", "link", "host", "workload", "policy", "protocol" or, a directory, "project".
        name: how `simmig init` is asked for it.
        path: where the original is.
    """

    kind: str
    name: str
    path: Path

    @property
    def file_name(self) -> str:
        """What the copy is called."""
        return self.path.name

    @property
    def purpose(self) -> str:
        """The first sentence of what it says of itself."""
        if self.kind == "project":
            paragraphs = (self.path / "README.md").read_text(encoding="utf-8").split("\n\n")
            return paragraphs[1].split(". ")[0].removesuffix(".")
        lines = takewhile(
            lambda line: line.startswith(("#", '"')), self.path.read_text(encoding="utf-8").splitlines()
        )
        return " ".join(line.strip('#" ') for line in lines).split(". ")[0].removesuffix(".")

    @property
    def content(self) -> str:
        """The file; a model's with the table's name above, as a scenario's `model = "FILE.toml"` wants it."""
        text = self.path.read_text(encoding="utf-8")
        table = {kind.removesuffix("s"): table for kind, table in _TABLES.items()}.get(self.kind)
        if table is None:
            return text
        lines = text.splitlines()
        first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
        use = f'# In a scenario: [{table}] model = "{self.file_name}"'
        return "\n".join([*lines[:first], use, f"[{table}]", *lines[first:]]) + "\n"

    def next_command(self, copy: Path) -> list[str]:
        """A command line that uses the copy."""
        if self.kind == "policy":
            return ["simmig", "run", "quickstart", "--policy", f"{copy}:MyPolicy,limit=8 MiB"]
        if self.kind == "project":
            return ["simmig", "run", "quickstart", "--policy", f"{copy / 'my_policy.py'}:HalfBudget,most=8 MiB"]
        if self.kind == "protocol":
            return ["simmig", "verify", str(copy), "--seeds", "500"]
        if self.kind in ("scenario", "sweep"):
            return ["simmig", "run" if self.kind == "scenario" else "sweep", str(copy)]
        if self.kind == "workload":  # all of it: what a scenario says of its own guest goes before a model
            return ["simmig", "run", "quickstart", "--set", f"guest.workload={{ model = '{copy}' }}"]
        table = _TABLES[f"{self.kind}s"]
        return ["simmig", "run", "quickstart", "--set", f"{table}.model={copy}"]


def starters() -> dict[str, Starter]:
    """All of them by name, in the order in which they are listed."""
    return {each.name: each for each in _starters()}


def _starters() -> Iterator[Starter]:
    for name, path in shipped().items():
        yield Starter("scenario", name, path)
    for name, path in shipped("sweeps").items():
        yield Starter("sweep", name, path)
    for kind in _TABLES:
        for name, path in models(kind).items():
            yield Starter(kind.removesuffix("s"), name, path)
    yield Starter("policy", "my_policy", data_dir("scenarios") / "my_policy.py")
    for name in ("ring_rpc", "rendezvous"):
        yield Starter("protocol", name, data_dir("examples") / f"{name}.py")
    yield Starter("project", "my-policy", data_dir("examples") / "my-policy")


def copy(name: str, directory: Path) -> tuple[Starter, Path]:
    """Copy one into the directory, which is made, never over what is there. Raises InputError."""
    known = starters()
    if name not in known:
        raise InputError(f"init: nothing that comes with simmig is called {name!r}; {nearest(name, list(known))}")
    starter = known[name]
    if starter.kind == "project":
        return starter, _copy_project(starter, directory / starter.file_name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"init: {directory}: cannot be made: {error.strerror}") from None
    path = directory / starter.file_name
    write_file(path, starter.content, "init:")
    return starter, path


def _copy_project(starter: Starter, place: Path) -> Path:
    """All of its files, or none. Raises InputError."""
    if place.exists() or place.is_symlink():
        raise InputError(f"init: {place}: exists already, and is never overwritten")
    with OutputDir(place, "init:") as copied:
        leave_out = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", "build")
        shutil.copytree(starter.path, copied.work, dirs_exist_ok=True, ignore=leave_out)
        copied.keep()
    return place
