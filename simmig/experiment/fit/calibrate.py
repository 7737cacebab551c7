"""A model of two devices, their hosts and the link between them, from some seconds of work on them.

What can be timed by itself is (`probe.py`); medians, for a machine does other things, too, and of samples taken
at several times, for it may do so for a minute. The rest are costs of whole stretches of the migration's code, in
which this language's interpreter has a large share: connecting, dealing with a control message, with a small
write, stopping a guest and letting it run. For those a small guest of our own is migrated, its stretches are timed
in the trace, and the cost is what a simulation of the very same migration lacks. The migration that somebody wants
predicted plays no part in any of it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from simmig.experiment.fit.calibrate_log import Figure
from simmig.experiment.fit.probe import MESSAGE_BYTES, Samples, probe
from simmig.experiment.runs.pair import run_pair
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import build_scenario
from simmig.experiment.scenario.machine import Devices
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.api import PAGE_BYTES
from simmig.trace import events as ev
from simmig.trace.metrics import Metrics

VISITS = 3
"""How many times all is measured, one after the other."""
IDLE_REPEATS, SCATTERED_REPEATS = 4, 2
"""Migrations of each of the two small guests, each time. What a setup takes differs most from one to the next."""
_ROCE_HEADER_BYTES = 58
_CHANGE_NS = 1_000_000.0
_STEPS = 2
"""Stretches grow evenly with a cost, but for a leap where one thing comes to be waited for instead of another."""
_ANY_LINK = {"bandwidth": "1 Gbit/s", "latency": "0 s"}
"""A scenario has a link; devices have their own."""
_GUEST = {"memory": "4 MiB", "device_state": "64 KiB"}
_ONE_SLICE = {"pin_all": True, "slice": "unlimited", "downtime_limit": "1 s"}
_ROUNDS = {"pin_all": True, "slice": "round", "downtime_limit": "1 us", "max_rounds": 6}
IDLE: dict[str, Any] = {"guest": _GUEST, "migration": _ONE_SLICE, "policy": {"name": "final-only"}}
"""Setup, stop, device state and switch, with nothing else going on."""
SCATTERED: dict[str, Any] = {
    "guest": _GUEST | {"workload": {"kind": "uniform", "working_set": "4 MiB", "rate": "256 KiB/s"}},
    "migration": _ROUNDS,
    "policy": {"name": "final-only"},
}
"""Rounds of single pages."""

Tell = Callable[[str], None]
Run = tuple[Metrics, list[ev.AnyEvent]]
"""A migration to calibrate with: its figures and its trace, of both ends."""


@dataclass
class Model:
    """What was calibrated: the tables of a scenario, as written in TOML, and where each figure comes from."""

    devices: Devices
    made: str
    kernel: str
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "made": self.made,
            "kernel": self.kernel,
            "devices": [self.devices.source, self.devices.destination],
            "tables": self.tables,
            "figures": {
                each.name.replace(" ", "_"): {
                    "value": each.value,
                    "unit": each.unit,
                    "samples": each.events,
                    "source": each.source,
                }
                for each in self.figures
            },
        }

    def applied_to(self, scenario: Scenario) -> Scenario:
        """The scenario on these devices and hosts."""
        return scenario.model_copy(update=self.scenario_tables(Path("the calibration")))

    def scenario_tables(self, path: Path) -> dict[str, Any]:
        """The tables as a scenario has them; raises InputError, with `path` in it, for what none can have."""
        tables = {name: dict(table) for name, table in self.tables.items()}
        model = build_scenario(tables | {"guest": {"memory": "4 KiB"}}, path)
        return {name: getattr(model, name) for name in ("link", "host", "destination_host", "device")}


def calibrate_devices(devices: Devices, tell: Tell) -> Model:
    """Measure two devices of this host and their link. Raises RdmaUnavailable, PeerFailed or OSError."""
    model = Model(devices, datetime.now(UTC).isoformat(timespec="seconds"), platform.release())
    _Fit(model).run(_measure(devices, tell))
    return model


@dataclass
class _Measured:
    samples: Samples = field(default_factory=Samples)
    idle: list[Run] = field(default_factory=list)
    scattered: list[Run] = field(default_factory=list)


def _measure(devices: Devices, tell: Tell) -> _Measured:
    measured = _Measured()

    def migrate(tables: dict[str, Any], count: int, what: str) -> list[Run]:
        made = []
        for number in range(1, count + 1):
            tell(f"{visit} of {VISITS}: migrating {what}, {number} of {count}")
            made.append(_migrate(tables, devices))
        return made

    for visit in range(1, VISITS + 1):
        tell(f"{visit} of {VISITS}: writing and registering")
        measured.samples.add(probe(devices))
        # The first of all takes longer: caches are cold, modules not loaded.
        cold = visit == 1
        measured.idle += migrate(IDLE, cold + IDLE_REPEATS, "a small idle guest")[cold:]
        measured.scattered += migrate(SCATTERED, SCATTERED_REPEATS, "a small guest that writes")
    return measured


def _migrate(tables: dict[str, Any], devices: Devices) -> Run:
    trace: list[ev.AnyEvent] = []
    result = run_pair(_scenario(tables | {"link": _ANY_LINK}), devices, readers=(trace.append,))
    if result.status not in ("completed", "not-converging"):
        raise OSError(f"a migration to calibrate with {result.status}: {result.reason}")
    return result.metrics, trace


def _scenario(tables: dict[str, Any]) -> Scenario:
    return build_scenario({name: dict(table) for name, table in tables.items()}, Path("the calibration"))


class _Fit:
    """The costs, one after the other: each can lean on those before it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._link: dict[str, str] = {}
        self._host: dict[str, float] = {}
        self._destination: dict[str, float] = {}

    def run(self, measured: _Measured) -> None:
        """All of them."""
        self._work(measured.samples)
        self._path(measured.samples)
        idle, scattered = measured.idle, measured.scattered
        there = self._destination
        self._stretch("message", idle, IDLE, _answer_ns, "a READY until the next message")
        self._stretch("message", idle, IDLE, _device_state_ns, "the device state's messages", there)
        self._stretch("resume", idle, IDLE, _switch_ns, "the switch")
        self._stretch("stop", idle, IDLE, _stop_ns, "the last live round's end until the guest stands")
        self._stretch("connect", idle, IDLE, _setup_ns, "the setup")
        self._stretch("write", scattered, SCATTERED, _single_write_ns, "one single page's write after the other")
        self._model.tables.update(self._tables())

    def _work(self, samples: Samples) -> None:
        for key, pairs, costs, what in (
            ("register", samples.register, self._host, "memory registered that was written to"),
            ("register", samples.register_fresh, self._destination, "memory registered that was not touched yet"),
            ("deregister", samples.deregister, self._host, "memory deregistered"),
        ):
            page_ns, fixed_ns = line(pairs)
            side = "destination " if costs is self._destination else ""
            self._set(costs, key, fixed_ns, len(pairs), what, side)
            self._set(costs, f"{key}_page", page_ns, len(pairs), f"{what}, per page", side)
        small_ns = median(samples.small_post)
        post_byte_ns = max(0.0, (median(samples.large_post) - small_ns) / MESSAGE_BYTES)
        empty_ns = median(samples.empty_poll or [0])
        for key, value, count, what in (
            ("post", small_ns, len(samples.small_post), "posting 8 bytes"),
            ("post_byte", post_byte_ns, len(samples.large_post), "posting 1 MiB on an idle queue, beyond that"),
            ("poll", empty_ns, len(samples.empty_poll), "polls that found nothing"),
            (
                "poll_cqe",
                median(samples.full_poll) - empty_ns,
                len(samples.full_poll),
                "polls that found one",
            ),
            (
                "wake",
                median(samples.awaited_ping) - _ping_ns(samples),
                len(samples.awaited_ping),
                "small writes waited for by their channel, beyond those polled for",
            ),
            ("scan_page", median(samples.scan), len(samples.scan), "a bitmap walked, per page"),
            ("sync_page", median(samples.sync), len(samples.sync), "a dirty log merged into a bitmap, per page"),
            ("zero_test_page", median(samples.zero_test), len(samples.zero_test), "1 MiB of zeros read, per page"),
        ):
            self._set(self._host, key, value, count, what)

    def _path(self, samples: Samples) -> None:
        header_bytes = _ROCE_HEADER_BYTES
        counted = "of RoCE v2: Ethernet 14, IPv4 20, UDP 8, BTH 12, ICRC 4 bytes (nobody counted)"
        if samples.packet_bytes:
            header_bytes = round(median(samples.packet_bytes)) - samples.mtu_bytes
            counted = "what the interface counted, per packet, beside the payload"
        packets = MESSAGE_BYTES // samples.mtu_bytes
        wire_bytes = MESSAGE_BYTES + packets * header_bytes
        bandwidth = wire_bytes * 8e9 / median(samples.interval)
        small_wire_ns = (8 + header_bytes) * 8e9 / bandwidth
        host = self._host
        spent_ns = host["post"] + host["poll"] + host["poll_cqe"] + small_wire_ns
        latency_ns = max(0.0, (_ping_ns(samples) - spent_ns) / 2)
        self._link = {
            "bandwidth": f"{bandwidth:.0f} bit/s",
            "latency": f"{latency_ns:.0f} ns",
            "mtu": f"{samples.mtu_bytes} B",
            "header": f"{header_bytes} B",
        }
        note = self._model.figures.append
        note(Figure("bandwidth", bandwidth, "bit/s", len(samples.interval), "between completions of 1 MiB writes"))
        note(
            Figure(
                "latency", latency_ns, "ns", len(samples.polled_ping), "half a small write, less the host's part"
            )
        )
        note(Figure("header", header_bytes, "B", packets, counted))

    def _stretch(
        self,
        key: str,
        measured: Sequence[Run],
        tables: dict[str, Any],
        of: Callable[[Run], float],
        what: str,
        there: dict[str, float] | None = None,
    ) -> None:
        """Set a cost, the source's or in `there`, so that the simulated stretch is the measured ones' median."""
        costs = self._host if there is None else there

        def simulated(cost_ns: float) -> float:
            trace: list[ev.AnyEvent] = []
            costs[key] = cost_ns
            return of((run(_scenario(tables | self._tables()), (trace.append,)).metrics, trace))

        found = [value for each in measured if (value := of(each)) > 0]
        cost_ns = 0.0
        for _ in range(_STEPS if found else 0):
            so_far_ns = simulated(cost_ns)
            slope = (simulated(cost_ns + _CHANGE_NS) - so_far_ns) / _CHANGE_NS
            if slope > 0:
                cost_ns = max(0.0, cost_ns + (median(found) - so_far_ns) / slope)
        side = "" if there is None else "destination "
        self._set(costs, key, cost_ns, len(found), f"what a simulation lacks of {what}", side)

    def _set(
        self, costs: dict[str, float], key: str, value: float, events: int, what: str, side: str = ""
    ) -> None:
        costs[key] = max(0.0, value)
        self._model.figures.append(Figure(f"{side}{key}", costs[key], "ns", events, what))

    def _tables(self) -> dict[str, dict[str, str]]:
        host = {key: f"{value:.6g} ns" if value < 1e6 else f"{value:.0f} ns" for key, value in self._host.items()}
        fresh = {key: f"{value:.6g} ns" for key, value in self._destination.items()}
        profile = {"profile": profile_of(self._model.devices.source)}
        return {"link": self._link, "host": host, "destination_host": host | fresh, "device": profile}


def line(pairs: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Slope and intercept, neither negative: the medians of all slopes between sizes, and of what is left.

    Theil and Sen's, through the median of each size: several of the samples may be anything. A slope counts by the
    difference in size it is from: those of large ones, which matter most, are the least noisy.
    """
    pairs = [(size, median(ns for each, ns in pairs if each == size)) for size in dict(pairs)]
    slopes = sorted(((b - a) / (y - x), y - x) for x, a in pairs for y, b in pairs if y > x)
    slope = 0.0
    left = sum(weight for _, weight in slopes) / 2
    for each, weight in slopes:
        if left > 0:
            slope = max(0.0, each)
        left -= weight
    return slope, max(0.0, median([value - slope * size for size, value in pairs]))


def _ping_ns(samples: Samples) -> float:
    """A small write until it is known to have landed, where nobody has to be woken.

    Polling that takes longer than being woken has kept a processor from a device that is software.
    """
    return min(median(samples.polled_ping), median(samples.awaited_ping))


def profile_of(name: str) -> str:
    """The profile (`verbs/sim/profiles.py`) of a device: what drives it."""
    home = Path("/sys/class/infiniband") / name
    if (home / "device" / "driver").resolve().name.startswith("mlx5"):
        return "mlx5"
    try:
        return "rxe" if (home / "node_desc").read_text().startswith("rxe") else "ideal"
    except OSError:
        return "ideal"


def _answer_ns(made: Run) -> float:
    """While the guest stands, from when the destination has posted a READY until the source has its next message.

    What the source does, beside the way there. The median: at one of them it takes the device state.
    """
    found: list[int] = []
    ready_ns: int | None = None
    for event in made[1]:
        if isinstance(event, ev.VmStopped):
            found, ready_ns = [], None
        elif isinstance(event, ev.ControlSent) and event.side == "destination":
            ready_ns = event.t_ns
        elif isinstance(event, ev.ControlSent) and ready_ns is not None:
            found.append(event.t_ns - ready_ns)
            ready_ns = None
    return float(median(found)) if found else 0.0


def _device_state_ns(made: Run) -> float:
    return float(made[0].downtime.device_state_ns)


def _switch_ns(made: Run) -> float:
    return float(made[0].downtime.switch_ns)


def _setup_ns(made: Run) -> float:
    return float(made[0].setup_time_ns)


def _stop_ns(made: Run) -> float:
    metrics = made[0]
    if metrics.stopped_ns is None or len(metrics.rounds) < 2:
        return 0.0
    return float(metrics.stopped_ns - metrics.rounds[-2].ended_ns)


def _single_write_ns(made: Run) -> float:
    """Between the posts of two single pages of one round, the median; 0 where there are none."""
    found: list[int] = []
    last: ev.WorkPosted | None = None
    for event in made[1]:
        if isinstance(event, ev.RoundBegan | ev.SliceBegan):
            last = None
        elif isinstance(event, ev.WorkPosted) and event.opcode == "write":
            single = event.length_bytes == PAGE_BYTES
            if single and last is not None and last.length_bytes == PAGE_BYTES:
                found.append(event.t_ns - last.t_ns)
            last = event
    return float(median(found)) if found else 0.0
