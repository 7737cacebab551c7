"""The commands of README, docs and examples, in the order in which a reader meets them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from simmig.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
_PROGRAMS = ("simmig", "make", "python", "python3", "pip", "qemu-system-x86_64", "modprobe", "rdma", ".")
_PIECE = re.compile(r"^```(\w*)\n(.*?)^```$|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
_ENDS = ("|", ">", "&", "&&", "--", "2>&1")
_HOLE = re.compile(r"\b[A-Z]{2,}\b|\.\.\.|\b[A-Z]\b")
"""Something for the reader to fill in."""


@dataclass(frozen=True)
class Piece:
    """A command, or a file that the page has the reader save."""

    page: str
    text: str
    inline: bool = False
    file: str = ""


def pieces(page: Path) -> Iterator[Piece]:
    """Commands in blocks and in the text, and Python blocks that are said to be saved as some file."""
    name, text = str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    for found in _PIECE.finditer(text):
        language, block, inline = found.groups()
        if inline is not None:
            if inline.startswith(("simmig ", "python ", "make ")):
                yield Piece(name, inline, inline=True)
        elif language == "python":
            if saved := re.match(r"\s+Saved as `([^`]+)`", text[found.end() :]):
                yield Piece(name, block, file=saved[1])
        elif not language:
            for line in block.replace("\\\n", " ").splitlines():
                command = " ".join(re.sub(r"\s+#\s.*$", "", line).split())
                if is_command(command):
                    yield Piece(name, command)


def is_command(line: str) -> bool:
    """Whether a line of a block begins with a program, settings before it apart."""
    words = [word for word in line.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    return bool(words) and (words[0] in _PROGRAMS or words[0].startswith(".venv/"))


def parts(line: str) -> list[list[str]]:
    """The arguments of each `simmig` in a line; those of what follows two dashes are another's."""
    found: list[list[str]] = []
    inside = False
    for word in shlex.split(line, comments=True):
        if Path(word).name == "simmig" and not inside:
            found.append([])
            inside = True
        elif word in _ENDS:
            inside = False
        elif inside:
            found[-1].append(word)
    return found


def check(command: click.Command, words: list[str], parent: click.Context | None = None) -> bool:
    """Whether nothing is left out; raises UsageError where a subcommand or option is not.

    An option without its value, at the end, is a mention of it.
    """
    if command.name == "lab" and words and words[0] not in vars(command)["commands"]:
        words = ["run", *words]  # which may be left out
    context = click.Context(command, info_name=command.name, parent=parent)
    try:
        values, rest, _ = command.make_parser(context).parse_args(args=list(words))
    except click.BadOptionUsage as error:
        if words[-1:] == [error.option_name]:
            return False
        raise
    if isinstance(command, click.Group):
        if not rest:
            return False
        if rest[0] not in command.commands:
            raise click.UsageError(f"no command {rest[0]}")
        return check(command.commands[rest[0]], rest[1:], context)
    given = [values.get(each.name or "") for each in command.params if isinstance(each, click.Argument)]
    return all(isinstance(each, str | tuple) and each for each in given)


def is_whole(piece: Piece) -> bool:
    """Whether it can be typed as it stands; in the text many a command only has a name or leaves something out."""
    if not piece.inline:
        return True
    if not piece.text.startswith("simmig "):
        return not _HOLE.search(piece.text)
    (words, *_) = parts(piece.text)
    return len(words) > 1 and not _HOLE.search(piece.text) and check(cli, words)
