"""What can be polled of any migration: `query-migrate`, `info migrate`, `virsh domjobinfo`, `query-dirty-rate`.

A file may hold replies of QMP (JSON, or as Python prints them; a time beside them or not), libvirt's job
statistics and the texts that people paste (`qemu_sample_texts`), one after another, with anything between. A
sample's time is the migration's own (`total-time`, `Time elapsed`); where it has none, the clock beside it. What
no sample is made of is ignored: such texts have no errors. A file may hold several migrations: the one that most
samples are of is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simmig.trace.compressed import DAMAGED, Unreadable, opened
from simmig.trace.pasted import Piece, clock_of, pieces
from simmig.trace.qemu_dirty_rates import DirtyRate, rates_in, rates_in_texts
from simmig.trace.qemu_log import TRACE_EVENT, LogError
from simmig.trace.qemu_sample import Sample
from simmig.trace.qemu_sample_texts import Texts

_MAX_BYTES = 64 << 20
_PEEK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
_HALF_DAY_S = 43_200
_BIT_S_OF_MBPS = 1e6

_JSON = {
    "total-time": "total_ms",
    "setup-time": "setup_ms",
    "downtime": "downtime_ms",
    "expected-downtime": "expected_downtime_ms",
}
_JSON_RAM = {
    "transferred": "transferred_bytes",
    "remaining": "remaining_bytes",
    "total": "memory_bytes",
    "page-size": "page_bytes",
    "dirty-sync-count": "syncs",
    "dirty-pages-rate": "dirty_pages_s",
    "duplicate": "zero_pages",
    "normal": "normal_pages",
}
_LIBVIRT = {
    "time_elapsed": "total_ms",
    "setup_time": "setup_ms",
    "downtime": "downtime_ms",
    "memory_processed": "transferred_bytes",
    "memory_remaining": "remaining_bytes",
    "memory_total": "memory_bytes",
    "memory_page_size": "page_bytes",
    "memory_iteration": "syncs",
    "memory_dirty_rate": "dirty_pages_s",
    "memory_constant": "zero_pages",
    "memory_normal": "normal_pages",
    "memory_bps": "bytes_s",
}
_LIBVIRT_TYPES = {1: "bounded", 2: "unbounded", 3: "completed", 4: "failed", 5: "cancelled"}
_CLOCKS = ("time", "t", "timestamp", "time_s", "at", "ts")
_WRAPPED = ("msg", "message", "MESSAGE", "log")
"""Where loggers that write JSON put the text."""


@dataclass(slots=True)
class Sampled:
    """What a file of samples tells.

    Attributes:
        samples: of one migration, those without a time first, then in order of time.
        rates: what was measured of the guest's dirtying, whenever.
        other_migrations: how many more the file tells of.
    """

    samples: list[Sample] = field(default_factory=list)
    rates: list[DirtyRate] = field(default_factory=list)
    other_migrations: int = 0


def read_samples(path: Path) -> Sampled:
    """All samples of a file. Raises LogError when the file cannot be read or holds none."""
    found = list(pieces(_text(path, _MAX_BYTES)))
    rates: list[DirtyRate] = []
    samples = [sample for sample in _samples(found, rates) if sample.tells]
    rates += rates_in_texts(piece.text for piece in found if piece.document is None)
    if not samples and not rates:
        raise LogError(
            path, None, "holds no sample of a migration (query-migrate, info migrate, virsh domjobinfo)"
        )
    migrations = _migrations(samples)
    chosen = max(enumerate(migrations), key=lambda each: (len(each[1]), each[0]), default=(0, []))[1]
    return Sampled(_in_order(chosen), rates, max(0, len(migrations) - 1))


def holds_samples(path: Path) -> bool:
    """Whether the file holds samples, and no trace event before them."""
    try:
        if TRACE_EVENT.search(_text(path, _PEEK_BYTES)):
            return False
        read_samples(path)
    except LogError:
        return False
    return True


def _text(path: Path, most_bytes: int) -> str:
    """What the file says, compressed or not, as far as it can be read."""
    data = bytearray()
    try:
        with path.open("rb") as raw, opened(raw) as stream:
            while len(data) < most_bytes and (block := stream.read1(_BLOCK_BYTES)):
                data += block
    except EOFError:
        pass  # what came before it is all there is
    except DAMAGED:
        pass  # what came before it is all there is
    except Unreadable as error:
        raise LogError(path, None, str(error)) from None
    except OSError as error:
        raise LogError(path, None, error.strerror or str(error)) from error
    return bytes(data[:most_bytes]).decode("utf-8", "replace")


def _samples(found: Sequence[Piece], rates: list[DirtyRate]) -> Iterator[Sample]:
    texts = Texts()
    for piece in found:
        if piece.document is None:
            yield from texts.read(piece)
            continue
        for name in _WRAPPED:
            if isinstance(text := piece.document.get(name), str):
                stamp = str(piece.document.get("timestamp", ""))
                yield from texts.read(Piece(text, None, clock_of(stamp)))
        told = _of_document(piece, rates)
        if told is not None:
            yield from texts.end()
            yield told
    yield from texts.end()


def _of_document(piece: Piece, rates: list[DirtyRate]) -> Sample | None:
    document = piece.document or {}
    body = document.get("return", document.get("query-migrate", document))
    if not isinstance(body, dict):
        return None
    measured = list(rates_in(body))
    if measured or "calc-time" in body:
        rates += measured
        return None
    ram = body.get("ram")
    libvirt = "memory_total" in body or "time_elapsed" in body
    if "status" not in body and not isinstance(ram, dict) and not libvirt:
        return None
    clock_s = _clock(document, body)
    sample = Sample(str(body.get("status", "")), clock_s=clock_s if clock_s >= 0 else piece.clock_s)
    if libvirt:
        sample.status = _LIBVIRT_TYPES.get(body.get("type", 2), sample.status)
    tables = ((_LIBVIRT, body),) if libvirt else ((_JSON, body), (_JSON_RAM, ram if isinstance(ram, dict) else {}))
    for names, source in tables:
        for name, attribute in names.items():
            if _number(source.get(name)) >= 0:
                setattr(sample, attribute, int(_number(source[name])))
    if isinstance(ram, dict) and _number(ram.get("mbps")) >= 0:
        sample.bytes_s = round(_number(ram["mbps"]) * _BIT_S_OF_MBPS / 8)
    return sample


def _migrations(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Told apart, in the file's order: after its end, at another memory, or where its own time goes back."""
    found: list[list[Sample]] = []
    for sample in samples:
        before = found[-1][-1] if found else None
        if before is None or _another(before, sample):
            found.append([])
        found[-1].append(sample)
    return found


def _another(before: Sample, sample: Sample) -> bool:
    sizes = (before.memory_bytes, sample.memory_bytes)
    if min(sizes) >= 0 and sizes[0] != sizes[1]:
        return True
    if before.over:
        same = ("total_ms", "downtime_ms") if sample.over else ("total_ms",)
        return any(getattr(before, name) != getattr(sample, name) for name in same)
    back = 0 <= sample.total_ms < before.total_ms
    return back and 0 <= sample.transferred_bytes < before.transferred_bytes


def _in_order(samples: Sequence[Sample]) -> list[Sample]:
    """Samples without a time of the migration's own take their clock's, from the first on."""
    last_s = -1.0
    for sample in samples:  # a time of day begins anew at midnight
        while 0 <= sample.clock_s < last_s - _HALF_DAY_S and last_s < 1000 * _HALF_DAY_S:
            sample.clock_s += 2 * _HALF_DAY_S
        last_s = max(last_s, sample.clock_s)
    with_both = next((each for each in samples if each.total_ms >= 0 and each.clock_s >= 0), None)
    origin_s = with_both.clock_s - with_both.total_ms / 1000 if with_both else None
    for sample in samples:
        if sample.total_ms < 0 <= sample.clock_s:
            origin_s = sample.clock_s if origin_s is None else origin_s
            sample.total_ms = max(0, round(1000 * (sample.clock_s - origin_s)))
    return sorted(samples, key=lambda each: each.total_ms)


def _clock(*documents: dict[str, Any]) -> float:
    for document in documents:
        for name in _CLOCKS:
            value = document.get(name)
            if isinstance(value, dict):
                return _number(value.get("seconds")) + max(0.0, _number(value.get("microseconds"))) / 1e6
            if _number(value) >= 0:
                return _number(value)
            if isinstance(value, str) and clock_of(value) >= 0:
                return clock_of(value)
    return -1.0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
