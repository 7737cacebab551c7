"""Every `simmig` command in README and docs is one: its subcommand and its options are there."""

from __future__ import annotations

import click
import pytest

from simmig.cli.main import cli
from tests.cli.documented import PAGES, check, parts, pieces

COMMANDS = [
    (piece.page, " ".join(words), words)
    for page in PAGES
    for piece in pieces(page)
    if not piece.file
    for words in parts(piece.text)
]


def test_there_are_some() -> None:
    assert len(COMMANDS) > 80


@pytest.mark.parametrize(("page", "line", "words"), COMMANDS)
def test_a_documented_command_is_one(page: str, line: str, words: list[str]) -> None:
    check(cli, words)


@pytest.mark.parametrize("line", ["rum quickstart", "run quickstart --polcy x", "lab instal --kernal 6.1"])
def test_what_is_none_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        check(cli, line.split())
