"""Where the files that come with simmig are: models and scenarios, in a source tree or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import simmig

_PACKAGE = Path(simmig.__file__).parent


def data_dir(name: str) -> Path:
    """The directory "models" or "scenarios": beside the package in a source tree, inside it when installed."""
    beside = _PACKAGE.parent / name
    return beside if (_PACKAGE.parent / "pyproject.toml").is_file() else _PACKAGE / name


def models(kind: str) -> dict[str, Path]:
    """The models of a kind ("links", "hosts", "workloads") by name, in order of name."""
    return {path.stem: path for path in sorted((data_dir("models") / kind).glob("*.toml"))}
