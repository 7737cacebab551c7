"""What `calc-dirty-rate` measured: `query-dirty-rate`, `info dirty_rate`, `virsh domstats --dirtyrate`.

A rate is the distinct pages found dirty, over the time they were looked at: a page written twice counts once. So
it belongs to that time. In mode `dirty-ring` QEMU empties the rings once a second, and a page counts again after
that: whatever `calc-time` was, the time is a second at most. A reply may have a curve in place of one rate
(`periods` in ms, `n-dirty-pages` of `n-sampled-pages`), and a rate for each vCPU (`vcpu-dirty-rate`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
RING_EMPTIED_S = 1.0
"""How often QEMU empties the dirty rings."""
_PAGE_BYTES = 4096

_TEXT = re.compile(
    r"^\s*(?:dirtyrate\.)?(?:"
    r"(?P<status>Status|calc_status)[:=]\s*\w+"
    r"|(?P<time>Period|Calc Time|calc_period)[:=]\s*(?P<length>\d+)(?:\s*\(?(?P<unit>ms|sec|s)\w*\)?)?"
    r"|(?P<mode>Mode|calc_mode)[:=]\s*(?P<name>[\w-]+)"
    r"|vcpu(?:\[|\.)(?P<vcpu>\d+)(?:\], Dirty rate:|\.megabytes_per_second=)\s*(?P<of_vcpu>\d+)"
    r"|(?P<whole>Dirty rate:|megabytes_per_second=)\s*(?P<rate>\d+)(?:\s*\(MB/s\))?\s*$"
    r")",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class DirtyRate:
    """So many bytes a second turned dirty, over an interval of that length; by vCPU where it was told."""

    interval_s: float
    bytes_s: float
    vcpus_bytes_s: tuple[float, ...] = ()


def rate_of(calc_time_s: float, bytes_s: float, vcpus_bytes_s: Iterable[float] = (), mode: str = "") -> DirtyRate:
    """One measurement, as its mode means it."""
    seconds = min(calc_time_s, RING_EMPTIED_S) if mode == "dirty-ring" else calc_time_s
    return DirtyRate(seconds, bytes_s, tuple(vcpus_bytes_s))


def rates_in(body: dict[str, Any]) -> Iterator[DirtyRate]:
    """What a reply of `query-dirty-rate` tells; nothing where it is none, or was not yet measured."""
    periods, counts = body.get("periods"), body.get("n-dirty-pages")
    if isinstance(periods, list) and isinstance(counts, list):
        yield from _curve(body, periods, counts)
        return
    length = _number(body.get("calc-time"))
    if length <= 0:
        return
    seconds = length / (1000 if body.get("calc-time-unit") == "millisecond" else 1)
    told = body.get("vcpu-dirty-rate")
    entries = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    vcpus = [MIB * max(0.0, _number(each.get("dirty-rate"))) for each in entries]
    rate = _number(body.get("dirty-rate"))
    if rate >= 0 or vcpus:
        yield rate_of(seconds, MIB * rate if rate >= 0 else sum(vcpus), vcpus, str(body.get("mode", "")))


def _curve(body: dict[str, Any], periods: list[Any], counts: list[Any]) -> Iterator[DirtyRate]:
    sampled, total = _number(body.get("n-sampled-pages")), _number(body.get("n-total-pages"))
    page = _number(body.get("page-size"))
    page_bytes = page if page > 0 else _PAGE_BYTES
    if sampled <= 0 or total <= 0:
        return
    for period, count in zip(periods, counts, strict=False):
        if _number(period) > 0 and _number(count) >= 0:
            seconds = _number(period) / 1000
            yield DirtyRate(seconds, _number(count) / sampled * total * page_bytes / seconds)


def rates_in_texts(lines: Iterable[str]) -> Iterator[DirtyRate]:
    """What HMP's `info dirty_rate` and libvirt's statistics tell."""
    seconds, mode = 0.0, ""
    vcpus: dict[int, float] = {}
    rate = -1.0

    def told() -> Iterator[DirtyRate]:
        if seconds > 0 and (rate >= 0 or vcpus):
            yield rate_of(seconds, rate if rate >= 0 else sum(vcpus.values()), vcpus.values(), mode)

    for line in lines:
        found = _TEXT.match(line)
        if found is None:
            continue
        if found["status"]:
            yield from told()
            seconds, mode, vcpus, rate = 0.0, "", {}, -1.0
        elif found["time"]:
            seconds = int(found["length"]) / (1000 if (found["unit"] or "").lower() == "ms" else 1)
        elif found["mode"]:
            mode = found["name"]
        elif found["vcpu"]:
            vcpus[int(found["vcpu"])] = float(MIB * int(found["of_vcpu"]))
        elif found["whole"]:
            rate = float(MIB * int(found["rate"]))
    yield from told()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
