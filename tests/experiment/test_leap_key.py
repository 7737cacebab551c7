"""The compiled code that answers is the code that is there: its key sees all that is frozen in it."""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
from pathlib import Path

import pytest

from simmig.experiment import leap as fast


def test_a_change_anywhere_in_what_is_frozen_is_seen(tmp_path: Path) -> None:
    """A constant of another room is in the machine code as well: a send queue of 64 instead of 512, say."""
    for room in fast.FROZEN_ROOMS:
        shutil.copytree(fast.PACKAGE / room, tmp_path / room)
    before = fast.key_of(tmp_path)
    assert before == fast.key_of(fast.PACKAGE)
    keys = {before}
    files = sorted(tmp_path.rglob("*.py"))
    for file in files:
        text = file.read_text()
        file.write_text(f"{text}\nCHANGED = 1\n")
        keys.add(fast.key_of(tmp_path))
        file.write_text(text)
    assert len(keys) == len(files) + 1
    assert fast.key_of(tmp_path) == before


def test_the_same_sources_elsewhere_are_not_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numba keeps its code for the place of each file: a second copy would compile in the middle of a run."""
    here = fast._marker()
    for room in fast.FROZEN_ROOMS:
        shutil.copytree(fast.PACKAGE / room, tmp_path / room)
    monkeypatch.setattr(fast, "PACKAGE", tmp_path)
    assert fast._marker.__wrapped__() != here


def test_versions_of_what_compiles_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {fast.key_of(fast.PACKAGE)}
    version = importlib.metadata.version
    for name in ("numba", "llvmlite", "numpy"):
        other = {name: "0.0"}
        monkeypatch.setattr(
            importlib.metadata, "version", lambda each, other=other: other.get(each) or version(each)
        )
        keys.add(fast.key_of(fast.PACKAGE))
    assert len(keys) == 4


def test_nothing_is_frozen_that_the_key_does_not_see() -> None:
    """Whatever a module with compiled functions imports of simmig lies in the rooms that the key is made of."""
    compiled = [
        path for path in (fast.PACKAGE / "experiment/leap").glob("*.py") if "@compiled" in path.read_text()
    ]
    assert len(compiled) > 8
    seen: set[Path] = set()
    todo = compiled
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += imported(path)
    outside_rooms = [
        path for path in seen if not any(path.is_relative_to(fast.PACKAGE / room) for room in fast.FROZEN_ROOMS)
    ]
    assert outside_rooms == []


def imported(path: Path) -> list[Path]:
    """Files of simmig that one imports from."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("simmig."):
            base = fast.PACKAGE.parent / str(node.module).replace(".", "/")
            candidates = [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
            found += [candidate for candidate in candidates if candidate.is_file()]
    return found
