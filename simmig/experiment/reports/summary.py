"""A run in words and one table: what a person reads first."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simmig.experiment.amounts import format_bytes, format_rate, format_time
from simmig.experiment.result import DeviceResult, Result
from simmig.experiment.scenario.policy_choice import make_policy, policy_text
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.api import PAGE_BYTES
from simmig.trace.metrics import Stretch

WIDTH = 120
ROUND = (
    "round",
    "began",
    "took",
    "dirty",
    "sent",
    "guest wrote",
    "policy asked",
    "channel forced",
    "pending at end",
)
"""What is told of a round, and the headings of `round_cells`."""
_WIDER, _WIDEST = 4, 400
_ROUNDS_SHOWN = 12
_LATE = 0.02
"""A share of the run: a guest that lost more has written less than its scenario says."""


def summary(result: Result, scenario: Scenario) -> RenderableType:
    """What happened, in the order in which somebody asks."""
    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="bold")
    shown.add_column(justify="right")
    shown.add_column()
    for row in facts(result, scenario.migration.downtime_limit_ns):
        shown.add_row(*row)
    parts: list[RenderableType] = [headline(result, scenario), "", Padding(shown, (0, 2))]
    if result.metrics.rounds:
        parts += ["", Padding(_rounds(result.metrics.rounds, result.metrics.began_ns), (0, 0, 0, 2))]
    return Group(*parts)


def as_text(renderable: RenderableType, width: int = WIDTH) -> str:
    """The same without colours, the same anywhere, no space at the ends of lines; wider where it must be."""
    text = _drawn(renderable, wide_enough(renderable, width))
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def wide_enough(renderable: RenderableType, width: int) -> int:
    """Columns, `width` at least, in which nothing is cut: a narrower terminal breaks the lines itself."""
    whole = _ink(renderable, _WIDEST)
    while width < _WIDEST and _ink(renderable, width) != whole:
        width += _WIDER
    return width


def _ink(renderable: RenderableType, width: int) -> list[str]:
    """The characters to be seen, sorted: the same, wherever lines are broken, unless something was cut."""
    return sorted("".join(_drawn(renderable, width).split()))


def _drawn(renderable: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable, crop=False)  # a command stays one line, to be pasted
    return capture.get()


def headline(result: Result, scenario: Scenario) -> Text:
    """What ran, and how it ended."""
    link = scenario.link
    wire = f"{scenario.migration.transport} over {link.model or 'a link'} ({format_rate(link.bandwidth_bit_s)})"
    if isinstance(result, DeviceResult):  # the link is theirs, and not the scenario's
        names = " and ".join(result.devices)
        wire = scenario.migration.transport + (f" on {names}" if names else "")
    policy = policy_text(scenario.policy.name, make_policy(scenario.policy.name, scenario.policy.parameters))
    guest = result.guest or f"{format_bytes(scenario.guest.memory_bytes)} guest, {scenario.guest.workload.kind}"
    text = Text(result.status, style="bold green" if result.good else "bold red")
    if result.reason:
        text.append(f" ({result.reason})", style="default")
    text.append(f": {guest}; {wire}; policy {policy}", style="default")
    return text


def facts(result: Result, downtime_limit_ns: int | None = None) -> Iterable[tuple[str, str, str]]:
    """The figures a person asks for: name, amount with its unit, details; a name left out is the one before it."""
    if result.metrics.began is not None:  # else it is one end's result, and that end was not the source
        yield from _figures(result, downtime_limit_ns)
    yield from _endings(result)


def _figures(result: Result, downtime_limit_ns: int | None) -> Iterable[tuple[str, str, str]]:
    metrics, counts, parts = result.metrics, result.metrics.counts, result.metrics.downtime
    yield "total time", format_time(metrics.total_time_ns), f"of which setup {format_time(metrics.setup_time_ns)}"
    if result.status == "completed":
        spent = (
            ("residual pages", parts.residual_pages_ns),
            ("drain", parts.drain_ns),
            ("device state", parts.device_state_ns),
            ("switch", parts.switch_ns),
        )
        details = ", ".join(f"{name} {format_time(spent_ns)}" for name, spent_ns in spent)
        yield "downtime", format_time(metrics.downtime_ns), details
        if downtime_limit_ns is not None and metrics.downtime_ns > downtime_limit_ns:
            over = format_time(metrics.downtime_ns - downtime_limit_ns)
            yield "", "EXCEEDS", f"the downtime limit of {format_time(downtime_limit_ns)} by {over}"
    else:
        stood = "the guest was never stopped"
        if metrics.stopped_ns is not None:
            stood = f"the guest stood still for {format_time(metrics.downtime_ns)}, and did not go over"
        yield "downtime", "none", f"it did not complete; {stood}"
    if (flat := result.flat_since_round) is not None:
        yield (
            "rounds",
            "flat",
            f"from round {flat} on they did not shrink: the guest writes as fast as they are sent"
            + ("; --stop-when-flat ends there" if result.went_on_flat else ""),
        )
    zero = f"and {format_bytes(counts.zero_pages * PAGE_BYTES)} of zero pages" if counts.zero_pages else ""
    yield "RAM sent", format_bytes(counts.posted_bytes), zero
    yield "on the wire", format_bytes(metrics.bytes_on_wire), "headers, control and retransmissions included"
    yield "throughput", format_rate(metrics.throughput_bit_s), "of RAM, from the end of the setup on"
    yield "waited", format_time(counts.drain_ns), f"because the policy asked ({counts.drains} drains)"
    yield "", format_time(counts.forced_drain_ns), "because the control channel forced it"
    yield "", format_time(counts.protocol_drain_ns), "because the protocol must (before device state)"
    yield "pending", format_bytes(metrics.max_pending_bytes), "at most"
    yield "", format_bytes(metrics.pending_bytes_at_stop), "when the guest was stopped"


def _endings(result: Result) -> Iterable[tuple[str, str, str]]:
    yield "guest runs on", _runs_on(result), ""
    yield "memory", _memory(result), ""
    if isinstance(result, DeviceResult) and result.guest_late_ns > _LATE * result.metrics.total_time_ns:
        late = format_time(result.guest_late_ns)
        yield "guest", f"{late} late", "it could not keep its workload's rate on this machine"
    if result.remark:
        yield "other end", "", result.remark
    broken = [name for name, holds in result.invariants.items() if not holds]
    held = "BROKEN" if broken else "hold" if result.invariants else "not checked"
    yield "invariants", held, ", ".join(broken or result.invariants)
    yield "seed", str(result.seed), f"trace {result.trace_sha256[:16]}" if result.trace_sha256 else "no trace"


def _runs_on(result: Result) -> str:
    figures = result.figures()
    sides = {side: figures[f"{side}_running"] for side in ("source", "destination")}
    running = " and ".join(side for side, runs in sides.items() if runs)
    unknown = " and ".join(side for side, runs in sides.items() if runs is None)
    return running or (f"not known of the {unknown}" if unknown else "neither")


def _memory(result: Result) -> str:
    compared = result.metrics.compared
    if compared is None:
        return "not compared" if result.status == "completed" else "not moved"
    if compared.different_pages:
        return f"{compared.different_pages} pages differ"
    return "identical"


def _rounds(rounds: Sequence[Stretch], began_ns: int) -> Table:
    """The passes over the bitmap, the first and the last of them where they are many; fits into 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ROUND:
        lines = heading.replace(" ", "\n", 1) if " " in heading else f"\n{heading}"
        table.add_column(lines, justify="right", no_wrap=True)
    half = _ROUNDS_SHOWN // 2
    shown = rounds if len(rounds) <= _ROUNDS_SHOWN else [*rounds[:half], None, *rounds[-half:]]
    for row in shown:
        if row is None:
            table.add_row("...")
            continue
        table.add_row(*round_cells(row, began_ns))
    return table


def round_cells(row: Stretch, began_ns: int) -> list[str]:
    """A round under the headings `ROUND`, its times from when the migration began."""
    return [
        str(row.index),
        format_time(row.began_ns - began_ns),
        format_time(row.duration_ns),
        format_bytes(row.dirty_pages * PAGE_BYTES),
        format_bytes(row.counts.posted_bytes),
        format_bytes(row.counts.guest_writes * PAGE_BYTES),
        format_time(row.counts.drain_ns),
        format_time(row.counts.forced_drain_ns),
        format_bytes(row.pending_bytes),
    ]
