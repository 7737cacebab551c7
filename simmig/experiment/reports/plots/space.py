"""What varies in a sweep's results: what an engineer chooses, and the circumstances that choice is made in.

Policies and the protocol's freedoms are chosen; guests, links, hosts, devices, and the limits that are set, are
circumstances: two migrations compare only when these are the same. Seeds are neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simmig.experiment.reports.plots.quantities import tell, tell_with_name
from simmig.experiment.scenario.schema import key_of

if TYPE_CHECKING:
    import pandas as pd

_TABLES = ("variant.", "guest.", "link.", "host.", "destination_host.", "device.", "migration.", "policy.")
_GIVEN = ("migration.downtime_limit_ns", "migration.max_rounds", "migration.max_bandwidth_bytes_s")
POLICY = "policy.name"
COMPLETED = "completed"
HELD = "invariants_held"


def is_input(column: str) -> bool:
    """Whether it is part of a scenario, the seed included."""
    return column == "seed" or column.startswith(_TABLES)


def prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """What can be drawn: of `joined`, the rows whose inputs are known."""
    frame = joined(frame)
    return frame[frame[POLICY].notna()]


def joined(frame: pd.DataFrame) -> pd.DataFrame:
    """With one column for a quantity and the words in its place ("unlimited"): the quantity's, words last."""
    import pandas as pd  # noqa: PLC0415  # optional, and slow to import

    for name in frame.columns:
        word = key_of(name)
        if word == name or word not in frame or not is_input(word) or word.startswith("policy."):
            continue
        if frame[word].notna().any():
            values = [value for each in (name, word) for value in sorted(frame[each].dropna().unique().tolist())]
            cells = frame[name].astype(object).where(frame[name].notna(), frame[word])
            frame = frame.assign(**{name: pd.Categorical(cells, values, ordered=True)})
        frame = frame.drop(columns=word)
    return frame


def varied(frame: pd.DataFrame) -> list[str]:
    """The inputs, but for the seed, that are not the same in all rows."""
    inputs = [column for column in frame.columns if is_input(column) and column != "seed"]
    return [column for column in inputs if frame[column].nunique(dropna=False) > 1]


def choices(frame: pd.DataFrame) -> list[str]:
    """The columns of what is chosen, as far as they vary: of a policy's parameters, those with several values."""
    found = [column for column in varied(frame) if _is_choice(frame, column)]
    return [
        column
        for column in found
        if column == POLICY or not column.startswith("policy.") or _varies_within_policy(frame, column)
    ]


def _varies_within_policy(frame: pd.DataFrame, column: str) -> bool:
    return bool((frame.groupby(POLICY)[column].nunique() > 1).any())


def circumstances(frame: pd.DataFrame) -> list[str]:
    """The columns of circumstances, as few as tell them apart."""
    found = varied(frame)
    return fewest(frame, [column for column in found if not _is_choice(frame, column)])


def fewest(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Without those columns that the others decide: names given to variants stay, later columns go first."""
    kept = list(columns)
    count = len(frame[kept].drop_duplicates()) if kept else 0
    for column in reversed(columns):
        rest = [other for other in kept if other != column]
        if rest and len(frame[rest].drop_duplicates()) == count:
            kept = rest
    return kept


def _is_choice(frame: pd.DataFrame, column: str) -> bool:
    if column.startswith("variant."):
        decided = [other for other in varied(frame) if not other.startswith("variant.")]
        decided = [other for other in decided if (frame.groupby(column)[other].nunique(dropna=False) <= 1).all()]
        return bool(decided) and all(_is_choice(frame, other) for other in decided)
    return column.startswith(("policy.", "migration.")) and column not in _GIVEN


def split(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each combination of values, in order, with a title that tells it."""
    if not columns:
        return [("", frame)]
    return [
        (", ".join(tell_with_name(column, value) for column, value in zip(columns, values, strict=True)), rows)
        for values, rows in frame.groupby(list(columns), dropna=False, sort=True, observed=True)
    ]


def policy_text(row: Any, columns: Sequence[str]) -> str:
    """A policy with those of its parameters that vary: "pending-limit 16 MiB"; of one policy, these alone."""
    parameters = [column for column in columns if column.startswith("policy.") and column != POLICY]
    told = [tell(column, row[column]) for column in parameters if row[column] == row[column]]
    if POLICY not in columns and told:
        return ", ".join(tell_with_name(column, row[column]) for column in parameters)
    return " ".join([str(row[POLICY]), *told])


def wire_columns(frame: pd.DataFrame) -> list[str]:
    """What is chosen besides the policy; where it has names, only these."""
    found = [column for column in choices(frame) if not column.startswith("policy.")]
    kept = fewest(frame, found)
    return kept if any(column.startswith("variant.") for column in kept) else found


def wire_text(row: Any, columns: Sequence[str]) -> str:
    """The rest of a choice: a variant's name, or "slice unlimited, control QP own"."""
    return ", ".join(tell_with_name(column, row[column]) for column in columns)


def completed(frame: pd.DataFrame) -> pd.Series:
    """Whether each row's migration completed, and broke nothing that must hold."""
    done = frame["status"] == COMPLETED
    return done & (frame[HELD] != False) if HELD in frame else done  # noqa: E712  # unknown is no breach


def why_not(frame: pd.DataFrame) -> str:
    """What became of rows that did not complete: "2 not-converging, 1 not simulated"."""
    told = frame.loc[~completed(frame), "status"].fillna("not simulated")
    told = told.replace(COMPLETED, "broke an invariant").value_counts()
    return ", ".join(f"{count} {status}" for status, count in sorted(told.items()))


def reason(frame: pd.DataFrame) -> str:
    """Why most of those that could not be simulated could not; empty where all could."""
    return str(next(iter(frame["error"].dropna().mode()), "")) if "error" in frame else ""
