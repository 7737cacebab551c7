"""Where a sweep's rows are kept: batches as they come, each whole or not there, and one file when all have come.

While it runs, DIR has ``parts/BEGIN-END.msgpack``, a file a batch. When every point has its row they are merged,
in order and a row group at a time, into ``results.parquet``, which so does not depend on who simulated what when.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from simmig.experiment.errors import InputError
from simmig.experiment.studies.sweep.columns import Type

RESULTS = "results.parquet"
ROW_GROUP = 1024
METADATA_KEY = b"simmig"

_TYPES = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "text": pa.string()}


class Store:
    """The directory of one sweep, locked while it is open.

    Raises InputError when another sweep's results are there, a sweep is writing there, or it cannot be written.
    """

    def __init__(self, path: Path, provenance: dict[str, Any]) -> None:
        self.path = path
        self._parts = path / "parts"
        self._provenance = provenance
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        known = self.path / "sweep.json"
        try:
            if self.path.is_dir() and any(self.path.iterdir()) and not known.is_file():
                raise InputError(f"--out {self.path}: holds something else already; name another directory")
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = known.open("a+", encoding="utf-8")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert self._lock is not None
            self._lock.close()
            raise InputError(f"--out {self.path}: another sweep is writing there") from None
        except OSError as error:
            raise InputError(f"--out {self.path}: cannot be written: {error.strerror}") from None
        try:
            with self._writing():
                self._identify(self._lock)
                self._parts.mkdir(exist_ok=True)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock is not None
        self._lock.close()

    def _identify(self, known: IO[str]) -> None:
        """Write down whose points these are, or see whether they are ours."""
        known.seek(0)
        text = known.read()
        try:
            there = json.loads(text) if text else None
        except ValueError:
            there = None  # killed before it was written down whole: before there was any point
        if there is not None:
            self._compare(there)
            return
        known.truncate(0)
        known.write(json.dumps(self._provenance, indent=2) + "\n")
        known.flush()
        os.fsync(known.fileno())

    def _compare(self, there: dict[str, Any]) -> None:
        for name in self._provenance:
            if there.get(name) != self._provenance[name]:
                what = {"sweep": "another sweep file", "scenario": "another base scenario"}.get(
                    name, f"other {name}"
                )
                raise InputError(
                    f"--out {self.path}: holds points of {what}; name another directory, or remove this one"
                )

    @property
    def results(self) -> Path:
        """The file of all rows, once there are all."""
        return self.path / RESULTS

    def done(self) -> list[tuple[int, int]]:
        """Which points have their rows, as (begin, end), in order."""
        ranges = []
        for part in self._parts.glob("*-*.msgpack"):
            begin, end = part.stem.split("-")
            ranges.append((int(begin), int(end)))
        return sorted(ranges)

    def add(self, begin: int, end: int, rows: bytes) -> None:
        """Keep a batch for good. Raises InputError when it cannot be written."""
        with self._writing():
            _write(self._parts / f"{begin:08}-{end:08}.msgpack", rows)

    def merge(self, types: dict[str, Type]) -> None:
        """Make the file of all rows, which must all be there, and drop the batches. Raises InputError."""
        with self._writing():
            self._merge(types)
        self.drop_parts()

    def _merge(self, types: dict[str, Type]) -> None:
        schema = pa.schema(
            [(name, _TYPES[kind]) for name, kind in types.items()],
            metadata={METADATA_KEY: json.dumps(self._provenance).encode()},
        )
        unfinished = self.results.with_suffix(".unfinished")
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for rows in self._row_groups():
                columns = zip(*rows, strict=True)
                arrays = [pa.array(cells, field.type) for cells, field in zip(columns, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=ROW_GROUP)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(self.results)
        _sync_directory(self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            for left in (*self.path.glob("*.unfinished"), *self._parts.glob("*.unfinished")):
                left.unlink(missing_ok=True)
            raise InputError(
                f"--out {self.path}: cannot be written: {error.strerror or error}; "
                "what is done is kept, and the same command goes on there"
            ) from None

    def drop_parts(self) -> None:
        """Remove the batches: the file of all rows is there."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _row_groups(self) -> Iterator[list[list[Any]]]:
        rows: list[list[Any]] = []
        for begin, end in self.done():
            rows += msgspec.msgpack.decode((self._parts / f"{begin:08}-{end:08}.msgpack").read_bytes())
            while len(rows) >= ROW_GROUP:
                yield rows[:ROW_GROUP]
                del rows[:ROW_GROUP]
        if rows:
            yield rows


def _write(path: Path, content: bytes) -> None:
    """A file that is whole or not there, whenever the power goes."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
