"""The mutants as files, and copies of the package with one of them in it."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KINDS = ("protocol", "device")


class MutantError(ValueError):
    """A mutant that cannot be read or no longer fits; the message names its file and says what to do."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A replacement of text in one file of the package (a path below `simmig/`)."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug. `kind` is the directory it is in, `equivalent` why nothing can notice it (or empty)."""

    name: str
    kind: str
    about: str
    source: str
    equivalent: str
    edits: tuple[Edit, ...]

    def digest(self) -> str:
        """Tells whether a result was measured with these very edits."""
        return hashlib.sha256(repr(self.edits).encode()).hexdigest()[:12]

    def mutated(self, package: Path) -> dict[Path, str]:
        """The new text of each file changed, by its path; raises MutantError where it does not fit."""
        texts: dict[Path, str] = {}
        for edit in self.edits:
            path = package / edit.file
            text = texts.get(path) or path.read_text()
            count = text.count(edit.before)
            if count != 1:
                raise MutantError(
                    f"{self.kind}/{self.name}.toml: its `before` is {count} times in simmig/{edit.file}, "
                    "not once. The code has moved: write the edit anew. "
                    f"It begins {edit.before.strip().splitlines()[0]!r}"
                )
            texts[path] = text.replace(edit.before, edit.after)
        return texts


def read(path: Path) -> Mutant:
    """One mutant; raises MutantError."""
    try:
        table = tomllib.loads(path.read_text())
        edits = tuple(Edit(each["file"], each["before"], each["after"]) for each in table["edit"])
        equivalent = " ".join(table.get("equivalent", "").split())
        return Mutant(path.stem, path.parent.name, table["about"], table["source"], equivalent, edits)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise MutantError(
            f"{path.parent.name}/{path.name}: cannot be read ({type(error).__name__}: {error})"
        ) from error


def catalogue() -> list[Mutant]:
    """All of them, the protocol's first, each kind by name."""
    return [read(path) for kind in KINDS for path in sorted((HERE / kind).glob("*.toml"))]


def copy_package(target: Path, mutant: Mutant | None) -> None:
    """Make `target` a working tree of its own: the package with the mutant in it, its data and its tests."""
    shutil.copytree(ROOT / "simmig", target / "simmig")
    for name in ("models", "scenarios", "pyproject.toml"):
        (target / name).symlink_to(ROOT / name)
    tests = target / "tests"
    tests.mkdir()
    for name in ("__init__.py", "conftest.py"):
        shutil.copy2(ROOT / "tests" / name, tests)
    for name in ("device", "verbs"):
        shutil.copytree(ROOT / "tests" / name, tests / name)
    for path, text in ({} if mutant is None else mutant.mutated(target / "simmig")).items():
        path.write_text(text)
