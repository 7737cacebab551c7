"""What can be polled of any migration: `query-migrate`, `info migrate`, `virsh domjobinfo`, `query-dirty-rate`.

A file may hold JSON lines (a reply of QMP as it came, or its object, a time beside it or not) or the texts as
people paste them, one after another, with anything between. A sample's time is the migration's own (`total-time`,
`Time elapsed`); where it has none, the clock beside it. What no sample is made of is ignored: such texts have no
errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simmig.trace.compressed import DAMAGED, Unreadable, opened
from simmig.trace.qemu_dirty_rates import DirtyRate, rates_in, rates_in_texts
from simmig.trace.qemu_log import TRACE_EVENT, LogError

_MAX_BYTES = 64 << 20
_PEEK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
_UNITS = {"": 1, "b": 1, "bytes": 1, "kbytes": 1 << 10, "kib": 1 << 10, "kb": 1 << 10, "mib": 1 << 20}
_UNITS |= {
    "mbytes": 1 << 20,
    "mb": 1 << 20,
    "gib": 1 << 30,
    "gb": 1 << 30,
    "gbytes": 1 << 30,
    "tib": 1 << 40,
    "tb": 1 << 40,
}
_SIZE = r"\s*([\d.]+)\s*([A-Za-z]*)"
_BEGIN = re.compile(r"^\W*(?:\(qemu\)\s*)?(?:Migration status|Status|Job type):\s*([\w-]+)", re.IGNORECASE)

# Where texts say it: the field, and a regular expression (its first group a number, a second one a unit).
_TEXTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (field, re.compile(pattern, re.IGNORECASE))
    for field, pattern in (
        ("total_ms", r"^\s*total time:\s*(\d+)"),
        ("total_ms", r"^\s*Time elapsed:\s*(\d+)"),
        ("total_ms", r"^\s*Time \(ms\):.*\btotal=(\d+)"),
        ("setup_ms", r"^\s*setup(?: time)?:\s*(\d+)"),
        ("setup_ms", r"^\s*Time \(ms\):.*\bsetup=(\d+)"),
        ("downtime_ms", r"^\s*(?:Total )?downtime:\s*(\d+)"),
        ("downtime_ms", r"^\s*Time \(ms\):.*\bdown=(\d+)"),
        ("expected_downtime_ms", r"^\s*expected downtime:\s*(\d+)"),
        ("expected_downtime_ms", r"^\s*Time \(ms\):.*\bexp_down=(\d+)"),
        ("transferred_bytes", rf"^\s*(?:transferred ram|Memory processed):{_SIZE}"),
        ("transferred_bytes", rf"^\s*Transfers:.*\btransferred={_SIZE}"),
        ("remaining_bytes", rf"^\s*(?:remaining ram|Memory remaining):{_SIZE}"),
        ("remaining_bytes", rf"^\s*Transfers:.*\bremain={_SIZE}"),
        ("memory_bytes", rf"^\s*(?:total ram|Memory total):{_SIZE}"),
        ("memory_bytes", rf"^\s*Sizes:.*\btotal={_SIZE}"),
        ("page_bytes", rf"^\s*page size:{_SIZE}"),
        ("page_bytes", rf"^\s*Sizes:.*\bpagesize={_SIZE}"),
        ("syncs", r"^\s*(?:dirty sync count|Iteration):\s*(\d+)"),
        ("syncs", r"^\s*Others:.*\bdirty_syncs=(\d+)"),
        ("dirty_pages_s", r"^\s*(?:dirty pages rate|Dirty rate):\s*(\d+)"),
        ("dirty_pages_s", r"^\s*Page Rates.*\bdirty=(\d+)"),
        ("zero_pages", r"^\s*(?:duplicate|Constant pages):\s*(\d+)"),
        ("zero_pages", r"^\s*Page Types:.*\bzero=(\d+)"),
        ("normal_pages", r"^\s*(?:normal|Normal pages):\s*(\d+)"),
        ("normal_pages", r"^\s*Page Types:.*\bnormal=(\d+)"),
    )
)
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
_CLOCKS = ("time", "t", "timestamp", "time_s", "at")


@dataclass(slots=True)
class Sample:
    """What one poll said; -1 where it said nothing of that. `clock_s` is the time beside it, of any origin."""

    status: str = ""
    clock_s: float = -1.0
    total_ms: int = -1
    setup_ms: int = -1
    downtime_ms: int = -1
    expected_downtime_ms: int = -1
    transferred_bytes: int = -1
    remaining_bytes: int = -1
    memory_bytes: int = -1
    page_bytes: int = -1
    syncs: int = -1
    dirty_pages_s: int = -1
    zero_pages: int = -1
    normal_pages: int = -1


def read_samples(path: Path) -> tuple[list[Sample], list[DirtyRate]]:
    """All samples of a file, in order of time, and all dirty rates.

    Raises LogError when the file cannot be read or holds none.
    """
    text = _text(path, _MAX_BYTES)
    samples: list[Sample] = []
    rates: list[DirtyRate] = []
    rest = []
    documents = list(_documents(text))
    for document in documents:
        _take(document, samples, rates)
    if not documents:
        rest = text.splitlines()
        rates += rates_in_texts(rest)
    samples += _texts(rest)
    samples = [sample for sample in samples if sample.total_ms >= 0 or sample.clock_s >= 0]
    if not samples and not rates:
        raise LogError(
            path, None, "holds no sample of a migration (query-migrate, info migrate, virsh domjobinfo)"
        )
    return _in_order(samples), rates


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


def _in_order(samples: list[Sample]) -> list[Sample]:
    """Samples without a time of the migration's own take their clock's, from the first on."""
    with_both = next((each for each in samples if each.total_ms >= 0 and each.clock_s >= 0), None)
    origin_s = with_both.clock_s - with_both.total_ms / 1000 if with_both else None
    for sample in samples:
        if sample.total_ms < 0:
            origin_s = sample.clock_s if origin_s is None else origin_s
            sample.total_ms = max(0, round(1000 * (sample.clock_s - origin_s)))
    samples.sort(key=lambda each: each.total_ms)
    return samples


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects, one a line or over several, whatever stands between."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1) if text.find("\n", at) < 0 else text.find("{", text.find("\n", at))
            continue
        if isinstance(value, dict):
            yield value
        at = text.find("{", end)


def _take(document: dict[str, Any], samples: list[Sample], rates: list[DirtyRate]) -> None:
    body = document.get("return", document.get("query-migrate", document))
    if not isinstance(body, dict):
        return
    measured = list(rates_in(body))
    if measured or "calc-time" in body:
        rates += measured
        return
    ram = body.get("ram")
    if "status" not in body and not isinstance(ram, dict):
        return
    sample = Sample(str(body.get("status", "")), clock_s=_clock(document, body))
    for names, source in ((_JSON, body), (_JSON_RAM, ram if isinstance(ram, dict) else {})):
        for name, field in names.items():
            if _number(source.get(name)) >= 0:
                setattr(sample, field, int(_number(source[name])))
    samples.append(sample)


def _clock(*documents: dict[str, Any]) -> float:
    for document in documents:
        for name in _CLOCKS:
            value = document.get(name)
            if isinstance(value, dict):
                return _number(value.get("seconds")) + max(0.0, _number(value.get("microseconds"))) / 1e6
            if _number(value) >= 0:
                return _number(value)
    return -1.0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0


def _texts(lines: list[str]) -> Iterator[Sample]:
    sample: Sample | None = None
    for line in lines:
        begun = _BEGIN.match(line)
        if begun:
            if sample is not None:
                yield sample
            sample = Sample(begun[1].lower())
        elif sample is not None:
            _read_line(sample, line)
    if sample is not None:
        yield sample


def _read_line(sample: Sample, line: str) -> None:
    for field, pattern in _TEXTS:
        found = pattern.match(line)
        if found is None:
            continue
        unit = found[2].lower() if pattern.groups > 1 else ""
        try:
            value = float(found[1]) * _UNITS.get(unit, 1)
        except ValueError:
            continue
        setattr(sample, field, round(value))
