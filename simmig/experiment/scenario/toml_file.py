"""Reading TOML that may be anything: some megabytes at most, nested as deep as a scenario and not deeper."""

from __future__ import annotations

import copy
import functools
import re
import tomllib
from pathlib import Path
from typing import Any

from simmig.experiment.errors import InputError

MAX_BYTES = 2 << 20
"""An axis of 100,000 values is less; what is larger is no scenario, and Python's reader takes a second a MiB."""
MAX_DEPTH = 32
"""Tables and arrays within one another: a scenario has five."""

_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"""(?<![A-Za-z0-9_"'-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_DEPTH},}}""")
"""A dotted key of more parts: the time to read one grows with the square of them."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises InputError naming the file, and the line where it is malformed."""
    text = read_text(path)
    try:
        return copy.deepcopy(_parsed(text))
    except ValueError as error:  # TOMLDecodeError, and what Python itself says of a number of 5000 digits
        raise InputError(f"{path}: malformed TOML: {error}") from None


def read_text(path: Path) -> str:
    """The text of a file of at most `MAX_BYTES`; raises InputError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES >> 20} MiB, which no scenario, sweep or model is")
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in its name
        raise InputError(f"{path}: cannot be read: {error}") from None


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> dict[str, Any]:
    """The same text's tables are asked for at every point of a sweep."""
    return parse(text)


def parse(text: str) -> dict[str, Any]:
    """The tables of a text. Raises ValueError."""
    if _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {MAX_DEPTH} parts")
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    inside: list[Any] = [tables]
    for _ in range(MAX_DEPTH):
        inside = [part for each in inside for part in _parts(each)]
        if not inside:
            return tables
    raise ValueError(f"tables or arrays nested more than {MAX_DEPTH} deep")


def _parts(value: Any) -> list[Any]:
    """What may have parts in its turn."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in inner if isinstance(each, dict | list)]
