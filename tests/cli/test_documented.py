"""Every `simmig` command in README and docs is one: its subcommand and its options are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from simmig.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """Page and command of every line in a block without a language that begins with simmig."""
    for page in PAGES:
        for block in (found[2] for found in _BLOCK.finditer(page.read_text(encoding="utf-8")) if not found[1]):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?simmig (.+)", line):
                    yield from ((page.name, part) for part in re.split(r" -- (?:\S*/)?simmig ", match[1]))


def words_of(line: str) -> list[str]:
    """Its arguments, without what the shell takes and without the command that follows two dashes."""
    words = shlex.split(line, comments=True)
    ends = [words.index(end) for end in ("|", ">", "&", "&&", "--", "2>&1") if end in words]
    return words[: min(ends, default=len(words))]


def check(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Raises click's UsageError where there is no such subcommand or option."""
    if command.name == "lab" and words and words[0] not in vars(command)["commands"]:
        words = ["run", *words]  # which may be left out
    context = click.Context(command, info_name=command.name, parent=parent)
    _, rest, _ = command.make_parser(context).parse_args(args=list(words))
    if isinstance(command, click.Group) and rest:
        if rest[0] not in command.commands:
            raise click.UsageError(f"no command {rest[0]}")
        check(command.commands[rest[0]], rest[1:], context)


def test_there_are_some() -> None:
    assert len(list(commands())) > 25


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_a_documented_command_is_one(page: str, line: str) -> None:
    check(cli, words_of(line))


@pytest.mark.parametrize("line", ["rum quickstart", "run quickstart --polcy x", "lab instal --kernal 6.1"])
def test_what_is_none_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        check(cli, words_of(line))
