"""Print the table of docs/published.md, published figures beside simulated ones: `python docs/published.py`.

Takes a minute or two. The scenarios are in scenarios/published; the "fit" rows chose two costs of the host and the
bandwidth of the link, the "check" rows chose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simmig.experiment.runs.run import run
from simmig.experiment.scenario.data import data_dir
from simmig.experiment.scenario.load import load_scenario

TOLERANCE = {"fit": 0.05, "check": 0.10}
"""How far from the published figure a simulated one may be and still be a hit."""


@dataclass(frozen=True)
class Figure:
    """A published figure: `key` of the JSON contract, from `low` to `high`, after dividing by `scale`."""

    key: str
    name: str
    unit: str
    scale: float
    low: float
    high: float

    def miss(self, simulated: float) -> float:
        """How far off, relative to the nearest published figure; 0 within the range."""
        nearest = min(max(simulated, self.low), self.high)
        return simulated / nearest - 1


def total_s(seconds: float) -> Figure:
    """From the start until the guest runs on the destination."""
    return Figure("total_time_ns", "total time", "s", 1e9, seconds, seconds)


def throughput_gbit_s(rate: float) -> Figure:
    """Guest memory over the time after the setup."""
    return Figure("throughput_bit_s", "throughput", "Gbit/s", 1e9, rate, rate)


def downtime_ms(low: float, high: float) -> Figure:
    """From the guest's stop until it runs again."""
    return Figure("downtime_ns", "downtime", "ms", 1e6, low, high)


ROWS: dict[str, tuple[str, tuple[Figure, ...]]] = {
    "qemu-docs-dynamic": ("fit", (total_s(7.5), throughput_gbit_s(9.5))),
    "qemu-docs-pinall": ("fit", (total_s(4.0), throughput_gbit_s(26))),
    "qemu-docs-stress": ("check", (throughput_gbit_s(26), downtime_ms(15, 100))),
    "qemu-docs-tcp": ("check", (throughput_gbit_s(8),)),
    "multichannel-2020-dynamic": ("check", (total_s(18),)),
    "multichannel-2020-pinall": ("check", (total_s(23),)),
}
"""Each scenario of scenarios/published, what it was used for, and what was published of it."""


def simulate(name: str) -> dict[str, Any]:
    """The figures of one row's scenario, as the JSON contract names them."""
    return run(load_scenario(data_dir("scenarios") / "published" / f"{name}.toml")).figures()


def table(names: Iterator[str]) -> Iterator[str]:
    """The table's lines."""
    yield "| row | use | figure | published | simulated | difference | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name in names:
        use, published = ROWS[name]
        figures = simulate(name)
        for figure in published:
            simulated = figures[figure.key] / figure.scale
            off = figure.miss(simulated)
            told = f"{figure.low:g}" if figure.low == figure.high else f"{figure.low:g} to {figure.high:g}"
            verdict = "hit" if abs(off) <= TOLERANCE[use] else "**miss**"
            difference = f"{off:+.1%}" if figure.low == figure.high or off else "within"
            yield (
                f"| {name} | {use} | {figure.name} | {told} {figure.unit} | {simulated:.3g} {figure.unit} "
                f"| {difference} | {verdict} |"
            )


if __name__ == "__main__":
    for line in table(iter(ROWS)):
        print(line, flush=True)
