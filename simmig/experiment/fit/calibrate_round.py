"""Does a calibration reproduce the round that it comes from? If not, what it lacks is found and charged.

A log names what it prints. Between its lines a source looks at clocks, takes locks, prints and is scheduled away,
in every slice and with every write. The first round is therefore simulated with what was calibrated, and what it
lacks against the recorded one is charged where it belongs: what a slice lacks beside its writes (from the last
write's completion to the next slice) to its messages; what is lacking still to its writes, or to the link where
writes were on their way for nearly all of the round. What cannot be mended so (a cost would have to be negative)
stays, and is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from simmig.experiment.fit.calibrate_log import Calibration, Figure
from simmig.trace import events as ev

REPRODUCTION_AIM = 0.02
"""How near the simulated first round must come to the recorded one."""
_STEPS = 4
_MESSAGES_A_SLICE = 4
_GOOD_ENOUGH = 0.005
_MIN_BYTE_NS = 0.001
_LINK_BOUND = 0.8
"""A round with writes in flight for so much of its time is as long as the link makes it."""

Simulate = Callable[[Calibration], "FirstRound"]


class FirstRound:
    """A reader of traces: how long the first round took, and what its slices took beside their writes."""

    def __init__(self) -> None:
        self.duration_ns = 0
        self.beside_ns = 0
        self.slices = 0
        self.writes = 0
        self.bytes = 0
        self.in_flight_ns = 0
        self._in_flight = 0
        self._busy_since_ns = 0
        self._began_ns: int | None = None
        self._idle_ns = 0
        self._between = False
        self._over = False

    def __call__(self, event: ev.AnyEvent) -> None:
        """The next event, in order of time."""
        if self._over or getattr(event, "side", "source") != "source":
            return
        match event:
            case ev.RoundBegan() if self._began_ns is None:
                self._began_ns = event.t_ns
            case ev.RoundEnded() if self._began_ns is not None:
                self.duration_ns = event.t_ns - self._began_ns
                self._over = True
            case ev.SliceBegan():
                self._close(event.t_ns)
                self.slices += 1
                self._idle_ns = event.t_ns
                self._between = False
            case ev.WorkPosted(opcode="write"):
                self.writes += 1
                self.bytes += event.length_bytes
                self._busy_since_ns = self._busy_since_ns if self._in_flight else event.t_ns
                self._in_flight += 1
            case ev.WorkCompleted(opcode="write"):
                self._idle_ns = event.t_ns
                self._in_flight -= 1
                if not self._in_flight:
                    self.in_flight_ns += event.t_ns - self._busy_since_ns
            case ev.SliceEnded():
                self._between = True

    @property
    def link_bound(self) -> bool:
        """Whether the link is what makes it last."""
        return self.in_flight_ns > _LINK_BOUND * self.duration_ns

    def _close(self, t_ns: int) -> None:
        if self._between:
            self.beside_ns += t_ns - self._idle_ns


@dataclass(frozen=True, slots=True)
class Lacking:
    """What the calibration lacked, and how near it comes to its own round with that.

    Attributes:
        message_ns, write_ns: a message, a write.
        link_byte_ns: a byte on the link.
        recorded_ns: the first round; 0 where the log does not have all of it: nothing can be said then.
        simulated_ns: the same, simulated.
    """

    message_ns: float = 0.0
    write_ns: float = 0.0
    link_byte_ns: float = 0.0
    recorded_ns: int = 0
    simulated_ns: int = 0

    @property
    def error(self) -> float:
        """By how much the simulated first round is off."""
        return self.simulated_ns / self.recorded_ns - 1 if self.recorded_ns else 0.0

    @property
    def off_ns(self) -> int:
        """How much too long it is."""
        return self.simulated_ns - self.recorded_ns

    @property
    def good(self) -> bool:
        """Whether that is near enough."""
        return abs(self.error) <= REPRODUCTION_AIM

    def charged(self, calibration: Calibration) -> Calibration:
        """The calibration with it."""
        source = dict(calibration.source)
        source["message_ns"] = max(0.0, source["message_ns"] + self.message_ns)
        source["write_ns"] = max(0.0, source["write_ns"] + self.write_ns)
        byte_ns = max(_MIN_BYTE_NS, 8e9 / calibration.bandwidth_bit_s + self.link_byte_ns)
        figures = [*calibration.figures, *self._figures()]
        return replace(calibration, source=source, bandwidth_bit_s=round(8e9 / byte_ns), figures=figures)

    def _figures(self) -> list[Figure]:
        how = "what the first round takes beyond all of these, in {}"
        return [
            Figure("lacking_message_ns", self.message_ns, "ns", 1, how.format("messages")),
            Figure("lacking_write_ns", self.write_ns, "ns", 1, how.format("writes")),
            Figure("lacking_link_byte_ns", self.link_byte_ns, "ns", 1, how.format("bytes on the link")),
        ]


def settle(recorded: FirstRound, calibration: Calibration, simulate: Simulate) -> Lacking:
    """Find what `calibration` lacks to reproduce the recorded first round: the best of a few steps."""
    if not recorded.duration_ns or not recorded.slices:
        return Lacking()
    tried: list[Lacking] = []

    def attempt(lacking: Lacking) -> FirstRound:
        simulated = simulate(lacking.charged(calibration))
        tried.append(replace(lacking, simulated_ns=simulated.duration_ns))
        return simulated

    simulated = attempt(Lacking(recorded_ns=recorded.duration_ns))
    if abs(tried[-1].error) > _GOOD_ENOUGH and simulated.slices:
        unmended = tried[-1]
        messages = _messages(unmended, calibration, recorded, simulated)
        units = attempt(messages)
        link = recorded.link_bound
        rest = _Search("link_byte_ns" if link else "write_ns", messages, units.bytes if link else units.writes)
        rest.run(calibration, tried, attempt)
        if not min(tried, key=lambda each: abs(each.error)).good:  # messages alone, then, and less of them
            part = _Search("message_ns", unmended, _MESSAGES_A_SLICE * simulated.slices)
            part.points = [(each.message_ns, float(each.off_ns)) for each in tried[:2]]
            part.run(calibration, tried, attempt)
    return min(tried, key=lambda each: abs(each.error))


def _messages(lacking: Lacking, calibration: Calibration, recorded: FirstRound, simulated: FirstRound) -> Lacking:
    slice_ns = recorded.beside_ns / recorded.slices - simulated.beside_ns / simulated.slices
    return replace(lacking, message_ns=max(slice_ns / _MESSAGES_A_SLICE, -calibration.source["message_ns"]))


class _Search:
    """Looks for the amount of one cost that is lacking, by the secant method within the bracket found so far."""

    def __init__(self, cost: str, beside: Lacking, units: int) -> None:
        self._cost = cost
        self._beside = beside
        self._units = max(1, units)
        self.points: list[tuple[float, float]] = []

    def run(
        self, calibration: Calibration, tried: list[Lacking], attempt: Callable[[Lacking], FirstRound]
    ) -> None:
        """A few steps, each into `tried`; no cost becomes negative."""
        self.points = self.points or [(0.0, float(tried[-1].off_ns))]
        floor = _MIN_BYTE_NS - 8e9 / calibration.bandwidth_bit_s
        if self._cost != "link_byte_ns":
            floor = -calibration.source[self._cost]
        for _ in range(_STEPS):
            alone = len(self.points) == 1
            value = -self.points[0][1] / self._units if alone else _next(self.points)
            value = max(value, floor)
            if abs(tried[-1].error) <= _GOOD_ENOUGH or any(value == before for before, _ in self.points):
                return
            attempt(self._with(value))
            self.points.append((value, float(tried[-1].off_ns)))

    def _with(self, value: float) -> Lacking:
        match self._cost:
            case "link_byte_ns":
                return replace(self._beside, link_byte_ns=value)
            case "write_ns":
                return replace(self._beside, write_ns=value)
            case _:
                return replace(self._beside, message_ns=value)


def _next(points: list[tuple[float, float]]) -> float:
    """Where the line through the nearest points on either side of zero, or else the last two, meets it."""
    below = max((point for point in points if point[1] <= 0), key=lambda point: point[1], default=None)
    above = min((point for point in points if point[1] > 0), key=lambda point: point[1], default=None)
    (x0, y0), (x1, y1) = (below, above) if below is not None and above is not None else points[-2:]
    return x1 if y0 == y1 else x0 - y0 * (x1 - x0) / (y1 - y0)
