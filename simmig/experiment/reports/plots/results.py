"""A sweep's results as read from its file, the rows asked for, and the columns a user names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simmig.experiment.errors import InputError
from simmig.experiment.reports.plots import quantities
from simmig.experiment.reports.plots.space import joined
from simmig.experiment.scenario.explain import nearest
from simmig.experiment.scenario.schema import key_of

if TYPE_CHECKING:
    import pandas as pd

FILE = "results.parquet"
_NEEDED = ("status", "total_time_ns", "downtime_ns", "policy.name")


@dataclass(frozen=True)
class Results:
    """What a sweep came to.

    Attributes:
        path: the file.
        frame: a row a point; a quantity and the words in its place share a column (`space.joined`).
        provenance: what the file says of where it comes from.
    """

    path: Path
    frame: pd.DataFrame
    provenance: dict[str, Any]


def read_results(path: Path) -> Results:
    """Read the results at `path`, the file or the directory it is in; raises InputError."""
    import pyarrow.parquet as pq  # noqa: PLC0415  # optional, and slow to import
    from pyarrow.lib import ArrowInvalid  # noqa: PLC0415

    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        what = f"has no {FILE}: an unfinished sweep, or none" if path.is_dir() else "there is no such file"
        raise InputError(f"{path}: {what}")
    try:
        table = pq.read_table(file)
        provenance = json.loads((table.schema.metadata or {}).get(b"simmig", b"{}"))
    except (ArrowInvalid, ValueError):
        raise InputError(f"{file}: no results of a sweep: not a Parquet file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise InputError(f"{file}: no results of a sweep: it has no column {missing[0]!r}")
    if not table.num_rows:
        raise InputError(f"{file}: has no points")
    return Results(file, joined(table.to_pandas()), provenance)


def narrowed(results: Results, conditions: Sequence[str]) -> Results:
    """Of the results, the points in which each "key=value" holds; raises InputError, also when none is left."""
    return dataclasses.replace(results, frame=where(results.frame, conditions))


def column(frame: pd.DataFrame, key: str, option: str) -> str:
    """The column that a user calls `key`, with or without its unit. Raises InputError."""
    names = {key_of(name): name for name in frame.columns} | {name: name for name in frame.columns}
    if key not in names:
        raise InputError(f"{option} {key}: unknown key; {nearest(key, sorted(names))}")
    return str(names[key])


def where(frame: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """The rows in which each "key=value" holds; raises InputError, also when none is left."""
    for condition in conditions:
        key, equals, text = (part.strip() for part in condition.partition("="))
        option = f"--where {condition}"
        if not equals or not key:
            raise InputError(f"{option}: write key=value, e.g. --where policy.name=per-round")
        name = column(frame, key, "--where")
        kept = frame[_matches(frame[name], name, text, option)]
        if kept.empty:
            there = list(dict.fromkeys(quantities.tell(name, value) for value in frame[name].sort_values()))
            shown = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
            raise InputError(f"{option}: no point has that; {key} is {shown}")
        frame = kept
    return frame


def _matches(cells: pd.Series, name: str, text: str, option: str) -> pd.Series:
    told = cells.astype(object).map(lambda value: quantities.tell(name, value))
    if (told == text).any():
        return told == text
    if cells.dtype.kind in "iufb":
        try:
            value = quantities.parse(name, text)
            number = {"true": 1.0, "false": 0.0}.get(text) if value is text else float(value)
            return cells == (float(text) if number is None else number)
        except ValueError as error:
            raise InputError(f"{option}: {error}") from None
    try:
        return told == quantities.tell(name, quantities.parse(name, text))
    except ValueError:
        return told == text
