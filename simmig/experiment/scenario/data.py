"""Where the files that come with simmig are: models and scenarios, in a source tree or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import simmig
from simmig.experiment.errors import InputError, shown
from simmig.experiment.scenario.explain import nearest

_PACKAGE = Path(simmig.__file__).parent


def data_dir(name: str) -> Path:
    """The directory "models", "scenarios" or "examples": beside the package, or inside it when installed."""
    beside = _PACKAGE.parent / name
    return beside if (_PACKAGE.parent / "pyproject.toml").is_file() else _PACKAGE / name


def models(kind: str) -> dict[str, Path]:
    """The models of a kind ("links", "hosts", "workloads") by name, in order of name."""
    return {path.stem: path for path in sorted((data_dir("models") / kind).glob("*.toml"))}


def shipped(folder: str = "") -> dict[str, Path]:
    """The shipped scenarios by name; sweeps, which are no scenarios, are those of the folder "sweeps"."""
    root = data_dir("scenarios")
    if folder:
        return {path.stem: path for path in sorted((root / folder).glob("*.toml"))}
    return {path.stem: path for each in (root, root / "published") for path in sorted(each.glob("*.toml"))}


def find(given: Path, folder: str = "") -> Path:
    """A file as somebody names it: itself where there is one, else the shipped one of that name, without ".toml".

    Raises InputError, with the nearest name, for a bare word that is neither.
    """
    if given.exists() and not given.is_dir():
        return given
    known = shipped(folder)
    bare = given.suffix == "" and given.name == str(given)
    if not bare:
        return given  # who reads it says what is wrong with it
    if str(given) in known:
        return known[str(given)]
    kind = folder.removesuffix("s") or "scenario"
    near = nearest(str(given), list(known))
    raise InputError(
        f"{shown(str(given))} is neither a file nor a shipped {kind}; {near} (`simmig init` lists them)"
    )


def spelled(path: Path, folder: str = "") -> str:
    """How `find` finds the file: its name when it is a shipped one, else the path as it is."""
    return path.stem if shipped(folder).get(path.stem) == path else str(path)
