"""The report of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simmig.experiment.amounts import format_time
from simmig.experiment.reports.html.page import Fact, Page, Table, picture
from simmig.experiment.reports.plots import kinds, space
from simmig.experiment.reports.plots.quantities import name_of, tell
from simmig.experiment.reports.plots.results import Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MAX_ROWS = 200
_FIGURES = (
    "total_time_ns",
    "downtime_ns",
    "pending_bytes_at_stop",
    "drain_time_ns",
    "forced_drain_time_ns",
    "throughput_bit_s",
)
_TEXTS = ("sweep", "scenario")


def page_of_sweep(results: Results, drawn: dict[kinds.Kind, Figure], title: str) -> Page:
    """All there is to know of a sweep; `drawn` are its pictures."""
    frame = space.joined(results.frame)
    done = frame[space.completed(frame)]
    lost = space.why_not(frame)
    wrong = _broken(frame) or int(frame["status"].isna().sum())
    return Page(
        title=title,
        verdict=f"{len(done)} of {len(frame)} points completed" + (f"; {lost}" if lost else ""),
        good=not wrong,
        facts=_facts(frame, done),
        invariants=_invariants(frame),
        pictures=[picture(kinds.TITLES[kind], figure, kinds.TITLES[kind]) for kind, figure in drawn.items()],
        tables=[*_reasons(frame), _points(frame)],
        sources=[(str(name), _short(value)) for name, value in results.provenance.items() if name not in _TEXTS],
        files=[(name, str(results.provenance[name])) for name in _TEXTS if name in results.provenance],
    )


def _facts(frame: pd.DataFrame, done: pd.DataFrame) -> list[Fact]:
    varied = space.varied(space.prepared(frame))
    facts = [Fact("points", str(len(frame)), ", ".join(name_of(name) for name in varied[:6]))]
    if len(done):
        for name in ("downtime_ns", "total_time_ns"):
            low, middle, high = (format_time(round(done[name].quantile(at))) for at in (0, 0.5, 1))
            facts.append(Fact(f"{name_of(name)}, median", middle, f"from {low} to {high}"))
    return facts


def _broken(frame: pd.DataFrame) -> int:
    return int((frame[space.HELD] == False).sum()) if space.HELD in frame else 0  # noqa: E712  # null is no breach


def _invariants(frame: pd.DataFrame) -> list[tuple[str, str]]:
    if space.HELD not in frame:
        return [("invariants", "not recorded")]
    names = frame["invariants_broken"].dropna() if "invariants_broken" in frame else ()
    told = sorted({str(name) for name in names if name})
    broken, checked = _broken(frame), int(frame[space.HELD].notna().sum())
    if broken:
        outcome = f"BROKEN at {broken} points: {', '.join(told)}"
    elif checked == len(frame):
        outcome = "holds at every point"
    elif not len(frame.dropna(subset="status")):
        outcome = "nothing could be simulated"
    else:
        unchecked = int((frame[space.HELD].isna() & frame["status"].notna()).sum())
        told = [f"holds at {checked} of {len(frame)} points" if checked else ""]
        told.append(f"not checked at {unchecked} (compiled)" if unchecked else "")
        told.append("the others could not be simulated" if checked + unchecked < len(frame) else "")
        outcome = "; ".join(filter(None, told))
    return [("every invariant", outcome)]


def _reasons(frame: pd.DataFrame) -> list[Table]:
    lost = frame[~space.completed(frame)]
    if lost.empty:
        return []
    rows, inputs = [], _shown(frame)
    for _, row in lost.head(MAX_ROWS).iterrows():
        told = [row.get(name) for name in ("reason", "error", "invariants_broken")]
        status = row["status"] if isinstance(row["status"], str) else "not simulated"
        text = "; ".join(part for part in told if isinstance(part, str) and part)
        rows.append([_number(row), _where(inputs, row), status, text])
    note = f"The first {MAX_ROWS} of {len(lost)}." if len(lost) > MAX_ROWS else ""
    return [Table("Points that did not complete", ("point", "where", "status", "reason"), rows, note)]


def _number(row: Any) -> str:
    return str(row.get("point", row.name))


def _where(inputs: Sequence[str], row: Any) -> str:
    if not isinstance(row[space.POLICY], str):
        return "not known"
    return ", ".join(tell(name, row[name]) for name in inputs) or "the only point"


def _shown(frame: pd.DataFrame) -> list[str]:
    """The inputs that tell points apart, in few columns."""
    frame = space.prepared(frame)
    columns = [*space.circumstances(frame), *space.wire_columns(frame)]
    columns += [name for name in space.choices(frame) if name.startswith("policy.")]
    return [*columns, "seed"] if "seed" in frame and frame["seed"].nunique() > 1 else columns


def _points(frame: pd.DataFrame) -> Table:
    inputs = _shown(frame)
    figures = [name for name in _FIGURES if name in frame]
    rows = [
        [
            _number(row),
            *(tell(name, row[name]) for name in inputs),
            _status(row),
            *(tell(name, row[name]) for name in figures),
        ]
        for _, row in frame.head(MAX_ROWS).iterrows()
    ]
    more = f"The first {MAX_ROWS} of {len(frame)}; all are in the results' file." if len(frame) > MAX_ROWS else ""
    return Table("Points", ["point", *map(name_of, inputs), "status", *map(name_of, figures)], rows, more)


def _status(row: Any) -> str:
    return str(row["status"]) if isinstance(row["status"], str) else "not simulated"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
