"""The file of all rows: the same bytes however the rows came, and never a part of one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.experiment.studies.sweep.columns import Type
from simmig.experiment.studies.sweep.store import ROW_GROUP, Store

TYPES: dict[str, Type] = {
    "point": "int",
    "downtime_ns": "int",
    "link.loss": "float",
    "held": "bool",
    "error": "text",
}
POINTS = 2 * ROW_GROUP + 300


def row(point: int) -> list[object]:
    if point % 7 == 0:
        return [point, None, None, None, "it failed"]
    return [point, point * 10**9, point / 8, point % 2 == 0, None]


def stored(directory: Path, cuts: list[int], order: list[int]) -> bytes:
    """The file from batches cut there, kept in that order, the directory left and entered again after each."""
    batches = list(zip([0, *cuts], [*cuts, POINTS], strict=True))
    for index in order:
        begin, end = batches[index]
        with Store(directory, {"points": POINTS}) as store:
            store.add(begin, end, msgspec.msgpack.encode([row(point) for point in range(begin, end)]))
    (directory / "parts" / "00000000-00000001.unfinished").write_bytes(b"half a batch, when it was kil")
    with Store(directory, {"points": POINTS}) as store:
        assert store.done() == batches
        store.merge(TYPES)
        return store.results.read_bytes()


@settings(max_examples=10)
@given(st.data())
def test_the_file_does_not_depend_on_how_its_rows_came(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, POINTS - 1), max_size=6)))
    order = data.draw(st.permutations(range(len(cuts) + 1)))
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        content = stored(Path(first), cuts, list(order))
        assert content == stored(Path(second), [], [0])
        table = pq.ParquetFile(Path(first) / "results.parquet")
        assert table.num_row_groups == 3
        assert table.read().to_pylist() == [dict(zip(TYPES, row(p), strict=True)) for p in range(POINTS)]
        table.close()
