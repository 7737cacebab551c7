"""Migration statistics as programs print them for people, from any release.

`info migrate` (labelled lines, and grouped ones since QEMU 10.1), `virsh domjobinfo` (with --rawstats, too), and
the lines that Nova, KubeVirt and Proxmox VE log. A label counts wherever it stands in a line, so a prefix does no
harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from simmig.trace.pasted import Piece
from simmig.trace.qemu_sample import Sample

_PAGE_BYTES = 4096
_SIZES = {"": 1, "b": 1, "byte": 1, "bytes": 1}
for _power, _prefix in enumerate("kmgt", 1):
    _SIZES |= dict.fromkeys((f"{_prefix}b", f"{_prefix}ib", f"{_prefix}bytes", _prefix), 1 << 10 * _power)
_TIMES = {"": 1.0, "ms": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "secs": 1e3, "seconds": 1e3, "us": 1e-3}
_BITS = {"bps": 1, "kbps": 1e3, "mbps": 1e6, "gbps": 1e9}

_NUMBER = r"\s*(-?\d+(?:,\d{3})*(?:\.\d+)?)\s*([A-Za-z]+(?:/s)?(?![\w:=/]))?"
_LABELS = {
    "total_ms": "total time|time elapsed|time_elapsed|timeelapsed",
    "setup_ms": "setup time|setup_time|setup",
    "expected_downtime_ms": "expected downtime|expecteddowntime",
    "downtime_ms": "total downtime|downtime",
    "transferred_bytes": "transferred ram|memory processed|memory_processed|memoryprocessed",
    "remaining_bytes": "remaining ram|memory remaining|memory_remaining|memoryremaining",
    "memory_bytes": "total ram|memory total|memory_total|memorytotal",
    "page_bytes": "page size|memory_page_size",
    "syncs": "dirty sync count|iteration|memory_iteration",
    "dirty_pages_s": "dirty pages rate|dirty rate|memory_dirty_rate|dirtyrate",
    "zero_pages": "duplicate|constant pages|memory_constant|constantpages",
    "normal_pages": "normal pages|normal|memory_normal|normalpages",
    "bytes_s": "throughput|memory bandwidth|memory_bps|memorybandwidth",
}
_FIELDS = {label: field for field, labels in _LABELS.items() for label in labels.split("|")}
_ALTERNATIVES = "|".join(re.escape(label) for label in sorted(_FIELDS, key=len, reverse=True))
_LABELLED = re.compile(rf"(?<![\w-])({_ALTERNATIVES})(?: \(Mbps\))?:{_NUMBER}", re.IGNORECASE)
_LABEL_ALONE = re.compile(r"(?:expected|total)\s+$", re.IGNORECASE)
"""Before a label it makes another one of it, which stands for itself."""

_GROUP = re.compile(
    r"(Time \(ms\)|Sizes(?: \((?P<unit>KB)\))?|Transfers|Page Types|Pages|Page Rates \(pps\)|Others):",
    re.IGNORECASE,
)
_GROUPED = re.compile(rf"(\w+)={_NUMBER}")
_GROUPED_FIELDS = {
    "setup": "setup_ms",
    "exp_down": "expected_downtime_ms",
    "down": "downtime_ms",
    "pagesize": "page_bytes",
    "psize": "page_bytes",
    "transferred": "transferred_bytes",
    "remain": "remaining_bytes",
    "normal": "normal_pages",
    "zero": "zero_pages",
    "dirty": "dirty_pages_s",
    "dirty_syncs": "syncs",
}
_BEGIN = re.compile(r"(?<![\w-])(?:migration status|status|job type):\s*([A-Za-z][\w-]*)", re.IGNORECASE)
_NO_MIGRATION = ("measured", "measuring", "unstarted", "none")
_WORDS = "time|ram|memory|page|sync|dirty|duplicate|constant|normal|throughput|status|job type|setup|iteration|="
_ANY_WORD = tuple(_WORDS.split("|"))
"""A line with none of these tells nothing: most lines of a long log are passed over by that."""
_SIZE = r"([\d.]+) ([A-Za-z]+)"
_LINES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (
        re.compile(r"Migration running for (\d+) secs.*?bytes processed=(\d+), remaining=(\d+), total=(\d+)"),
        ("total_s", "transferred_bytes", "remaining_bytes", "memory_bytes"),
    ),
    (
        re.compile(r"migration status: active \(transferred (\d+), remaining (\d+)\), total (\d+)"),
        ("transferred_bytes", "remaining_bytes", "memory_bytes"),
    ),
    (
        re.compile(rf"migration active, transferred {_SIZE} of {_SIZE} VM-state"),
        ("transferred_bytes", "", "memory_bytes", ""),
    ),
)
"""Programs that tell a sample in one line: the line, and what its groups are; a size's unit follows it."""


class Texts:
    """Reads lines; a sample is over when the next begins."""

    def __init__(self) -> None:
        self._sample: Sample | None = None
        self._clock_s = -1.0
        self._group_unit: str | None = None

    def read(self, piece: Piece) -> Iterator[Sample]:
        """The samples that this line ends."""
        self._clock_s = piece.clock_s if piece.clock_s >= 0 else self._clock_s
        lowered = piece.text.lower()
        if not any(word in lowered for word in _ANY_WORD) and "transferred" not in lowered:
            self._group_unit = None
            return
        whole = _in_one_line(piece.text)
        if whole is not None:
            yield from self.end()
            whole.clock_s = piece.clock_s
            yield whole
            return
        begun = _BEGIN.search(piece.text)
        if begun:
            yield from self.end()
            self._sample = Sample(begun[1].lower(), clock_s=self._clock_s)
        for field, value in self._told(piece.text):
            if self._sample is None or getattr(self._sample, field) >= 0:
                yield from self.end()
                self._sample = Sample(clock_s=self._clock_s)
            setattr(self._sample, field, value)

    def end(self) -> Iterator[Sample]:
        """The sample that was being read."""
        if self._sample is not None and self._sample.status not in _NO_MIGRATION:
            yield self._sample
        self._sample = None
        self._group_unit = None

    def _told(self, line: str) -> Iterator[tuple[str, int]]:
        group = _GROUP.search(line)
        if group:
            self._group_unit = group["unit"] or ""
        elif "=" not in line:
            self._group_unit = None
        if self._group_unit is not None and "=" in line:
            yield from self._grouped(line, group[1] if group else "", self._group_unit)
            return
        for found in _LABELLED.finditer(line):
            if not _LABEL_ALONE.search(line[: found.start()]):
                unit = "mbps" if "(Mbps)" in found[0] else found[3]
                yield from _value(_FIELDS[found[1].lower()], found[2], unit)

    def _grouped(self, line: str, group: str, unit: str) -> Iterator[tuple[str, int]]:
        for name, number, own_unit in _GROUPED.findall(line):
            field = _GROUPED_FIELDS.get(name.lower(), "")
            if name.lower() == "total":
                field = "total_ms" if group.lower().startswith("time") else "memory_bytes"
            if field:
                yield from _value(field, number, own_unit or (unit if field.endswith("_bytes") else ""))


def _in_one_line(line: str) -> Sample | None:
    for pattern, names in _LINES:
        found = pattern.search(line)
        if found is None:
            continue
        sample = Sample("active")
        for place, name in enumerate(names, 1):
            unit = found[place + 1] if place < len(names) and not names[place] else ""
            if name:
                field = "total_ms" if name == "total_s" else name
                for _, value in _value(field, found[place], "s" if name == "total_s" else unit):
                    setattr(sample, field, value)
        return sample
    return None


def _value(field: str, number: str, unit: str | None) -> Iterator[tuple[str, int]]:
    """The field in its own unit; nothing where that is not what it is told in."""
    amount = float(number.replace(",", ""))
    unit = (unit or "").lower()
    if unit in _BITS and field in ("bytes_s", "dirty_pages_s"):
        amount *= _BITS[unit] / 8 / (1 if field == "bytes_s" else _PAGE_BYTES)
    elif field.endswith("_ms"):
        amount *= _TIMES.get(unit, 1.0)
    elif field.endswith("_bytes") or (field == "bytes_s" or unit.endswith("b/s")):
        amount *= _SIZES.get(unit.removesuffix("/s"), 1)
        amount /= _PAGE_BYTES if field == "dirty_pages_s" else 1
    if amount >= 0:
        yield field, round(amount)
