"""From a migration's trace to the steps of a story: routine in few words and incidents in full.

A step is one thing that a person has to take in: a message, a batch of writes, a drain, a fault. Stretches of
steps in which nothing is out of the ordinary become one step; what led up to a violation does not.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

from simmig.trace import events as ev
from simmig.verify.story import Kind, Step, Story, size_text, time_text

DETAIL = 4
"""Steps shown in full before a violation."""
FEW = 12
"""A story of no more steps is told in full."""
_ANSWERS = {
    "RAM_BLOCKS_RESULT": "RAM_BLOCKS_REQUEST",
    "REGISTER_RESULT": "REGISTER_REQUEST",
    "UNREGISTER_FINISHED": "UNREGISTER_REQUEST",
}


def steps_of(events: Sequence[ev.AnyEvent], until: int | None = None) -> list[Step]:
    """The steps of a trace; those that led up to event number `until`, a violation's, in full."""
    told = _Teller(events, until).tell()
    if len(told) <= FEW:
        return told
    return _condense(told, until)


class _Teller:
    """Reads the events one by one."""

    def __init__(self, events: Sequence[ev.AnyEvent], until: int | None) -> None:
        self._events = events
        self._until = len(events) if until is None else until
        self._steps: list[Step] = []
        self._phase = "setup"
        self._arrivals = _arrivals(events)
        self._completions = _completions(events)
        self._last_sent = {event.side: at for at, event in enumerate(events) if isinstance(event, ev.ControlSent)}
        self._zero_pages = 0
        self._drains: dict[ev.AskedBy, Step] = {}

    def tell(self) -> list[Step]:
        """All steps."""
        for index, event in enumerate(self._events):
            self._take(index, event)
        return self._steps

    def _take(self, index: int, event: ev.AnyEvent) -> None:  # noqa: PLR0912  (one case a type of events)
        match event:
            case ev.SetupEnded():
                self._phase = "live"
            case ev.SliceBegan() if self._phase != "last pages":
                self._phase = f"slice {event.index}"
            case ev.RoundBegan() if event.index > 1:
                pages = event.dirty_pages
                self._add(index, event, "note", f"round {event.index}: {pages} dirty page{_s(pages)}")
            case ev.WorkPosted(opcode="write"):
                self._write(index, event)
            case ev.PagesSaved(how="zero"):
                self._zero_pages += event.count
            case ev.ControlSent():
                self._message(index, event)
            case ev.DrainBegan():
                self._drain_began(index, event)
            case ev.DrainEnded() if event.asked_by in self._drains:
                step = self._drains.pop(event.asked_by)
                left = f" to {size_text(event.pending_bytes)}" if event.pending_bytes else ""
                step.text += f"{left}, {time_text(event.t_ns - step.t_ns)}"
                if event.t_ns == step.t_ns and self._steps[-1] is step and step.event != self._until:
                    self._steps.pop()  # nothing came of it
            case ev.MemoryRegistered():
                self._count(index, event, "registered")
            case ev.MemoryDeregistered() if index == self._until or index < self._last_sent.get(event.side, 0):
                self._count(index, event, "deregistered")  # and not in tidying up
            case ev.DeviceStateSent():
                self._add(index, event, "note", f"device state sent ({size_text(event.length_bytes)})")
            case _:
                self._incident(index, event)

    def _incident(self, index: int, event: ev.AnyEvent) -> None:
        """What a story is about."""
        match event:
            case ev.VmStopped():
                self._phase = "last pages"
                self._add(index, event, "guest", "guest stops")
            case ev.VmResumed():
                self._phase = "clearing up"
                self._add(index, event, "guest", "guest resumes")
            case ev.MemoryCompared() if event.different_pages:
                self._add(index, event, "error", f"{event.different_pages} of {event.pages} pages differ")
            case ev.WorkFailed():
                self._failed(index, event)
            case ev.FaultInjected():
                self._add(index, event, "fault", event.what)
            case ev.HostDied():
                self._add(index, event, "fault", "its host is dead")
            case ev.Stalled():
                self._add(index, event, "error", "waits for what never comes")
            case ev.MigrationEnded():
                self._phase = "clearing up"
                text = event.status + (f": {event.reason}" if event.reason else "")
                self._add(index, event, "end", text)

    def _add(self, index: int, event: ev.Event, kind: Kind, text: str) -> Step:
        step = Step(event.t_ns, index, kind, text, event.side, phase=self._phase)
        self._steps.append(step)
        return step

    def _last(self, kind: Kind, side: ev.Side) -> Step | None:
        """The last step if it is of that kind and side."""
        last = self._steps[-1] if self._steps else None
        return last if last is not None and (last.kind, last.side) == (kind, side) else None

    def _write(self, index: int, event: ev.WorkPosted) -> None:
        lost = self._completions.get(index, len(self._events)) > self._until and index <= self._until
        step = self._last("writes", event.side)
        apart = step is not None and (index == self._until or step.event <= self._until < index)
        if step is None or apart or step.tally["uncompleted"] != lost * step.count:
            step = self._add(index, event, "writes", "")
            step.arrow, step.count = "over", 0
        step.count += 1
        step.bytes += event.length_bytes
        step.tally["uncompleted"] += lost
        step.tally["writes"] += 1
        step.tally["bytes"] += event.length_bytes
        step.text = f"{step.count} write{_s(step.count)}, {size_text(step.bytes)}"
        if lost:
            step.text += ", not completed" if self._until == len(self._events) else ", not completed by then"

    def _message(self, index: int, event: ev.ControlSent) -> None:
        arrived = index in self._arrivals
        if event.type == "READY" and arrived:
            return  # credit, as it should be
        request = _ANSWERS.get(event.type)
        if request is not None and arrived:
            asked = next((s for s in reversed(self._steps) if s.kind == "message"), None)
            if asked is not None and asked.text.startswith(request) and not asked.lost:
                asked.arrow = "both"
                asked.text += ", answered"
                return
        error = event.type == "ERROR"
        step = self._add(index, event, "error" if error else "message", event.type)
        step.arrow, step.lost = "over", not arrived
        step.tally["message"] += 1
        if event.type == "COMPRESS":
            step.text += f" ({self._zero_pages} zero page{_s(self._zero_pages)})"
            step.tally["zero page"] += self._zero_pages
            self._zero_pages = 0
        elif event.type == "QEMU_FILE":
            step.text += f" ({event.length_bytes} B)"

    def _count(self, index: int, event: ev.MemoryRegistered | ev.MemoryDeregistered, what: str) -> None:
        step = self._steps[-1] if self._steps else None  # both sides of a chunk in one
        if step is None or not step.tally[what]:
            step = self._add(index, event, "note", "")
        step.tally[what] += 1
        where = f"chunk {event.chunk}" if event.chunk >= 0 else "a whole block"
        step.text = f"{what} {where}" if step.tally[what] == 1 else f"{what} {step.tally[what]} regions"

    def _drain_began(self, index: int, event: ev.DrainBegan) -> None:
        whose = {"policy": "policy drains", "wire": "wire drains", "protocol": "protocol drains"}[event.asked_by]
        point = event.point.replace("_", " ").lower() if event.asked_by == "wire" else event.point
        step = self._add(index, event, "note", f"{whose} ({point}): {size_text(event.pending_bytes)}")
        step.tally["drain"] += 1
        self._drains[event.asked_by] = step

    def _failed(self, index: int, event: ev.WorkFailed) -> None:
        kind = event.wr_id & 0xFFFF
        what = "write" if kind == 1 else "receive" if kind >= 4000 else "send" if kind >= 2000 else "work request"
        flushed = event.status.endswith("FLUSH_ERR")
        last = self._last("error", event.side)
        if last is not None and flushed and last.text.endswith("flushed"):
            last.count += 1
            last.text = f"{last.text.split(' and ')[0]} and {last.count - 1} more flushed"
            return
        if last is not None and flushed and last.tally["failed"]:
            last.count += 1
            last.text = f"{last.text.split(', then')[0]}, then {last.count - 1} flushed"
            return
        step = self._add(index, event, "error", f"{what} flushed" if flushed else f"{what}: {event.status}")
        step.tally["failed"] += not flushed


def _arrivals(events: Iterable[ev.AnyEvent]) -> set[int]:
    """Numbers of the ControlSent events whose message came: a connection keeps order, so the n-th is the n-th."""
    sent: dict[ev.Side, deque[tuple[int, str]]] = {"source": deque(), "destination": deque()}
    came: dict[ev.Side, deque[str]] = {"source": deque(), "destination": deque()}
    arrived = set()
    for index, event in enumerate(events):
        if isinstance(event, ev.ControlSent):
            sent[event.side].append((index, event.type))
        elif isinstance(event, ev.ControlReceived):
            came["source" if event.side == "destination" else "destination"].append(event.type)
    for side, messages in sent.items():
        for index, kind in messages:
            if came[side] and came[side][0] == kind:
                came[side].popleft()
                arrived.add(index)
    return arrived


def _completions(events: Iterable[ev.AnyEvent]) -> dict[int, int]:
    """Number of each write's completion by the number of its post."""
    open_writes: dict[tuple[int, int], deque[int]] = {}
    found = {}
    for index, event in enumerate(events):
        if isinstance(event, ev.WorkPosted) and event.opcode == "write":
            open_writes.setdefault((event.qp, event.wr_id), deque()).append(index)
        elif isinstance(event, ev.WorkCompleted) and (posts := open_writes.get((event.qp, event.wr_id))):
            found[posts.popleft()] = index
    return found


def _condense(steps: list[Step], until: int | None) -> list[Step]:
    """Routine in one step a stretch, but for what came right before the violation and around each incident."""
    before = [step for step in steps if until is not None and step.event <= until and step.ordinary]
    in_full = {id(step) for step in before[-DETAIL:]}
    for earlier, step in pairwise(steps):
        if step.kind == "fault" and earlier.ordinary:
            in_full.add(id(earlier))
    told: list[Step] = []
    stretch: list[Step] = []
    for step in steps:
        if step.ordinary and id(step) not in in_full:
            stretch.append(step)
            continue
        _summarise(stretch, told)
        told.append(step)
    _summarise(stretch, told)
    return told


def _summarise(stretch: list[Step], told: list[Step]) -> None:
    """Add the stretch to what is told, as one step, and empty it."""
    if len(stretch) > 1:
        first = stretch[0]
        tally: Counter[str] = sum((step.tally for step in stretch), Counter())
        writes = tally["writes"]
        words = [
            f"{writes} write{_s(writes)}, {size_text(tally['bytes'])}" if writes else "",
            *(f"{n} {what}{_s(n)}" for what in ("zero page", "message", "drain") if (n := tally[what])),
            *(f"{tally[what]} {what}" for what in ("registered", "deregistered") if tally[what]),
        ]
        text = ", ".join(word for word in words if word) or f"{len(stretch)} steps"
        between = tally["message"] or tally["writes"]
        merged = Step(first.t_ns, first.event, "routine", f"{_phases(stretch)}: {text}", first.side)
        merged.arrow = "both" if between else ""
        told.append(merged)
    else:
        told.extend(stretch)
    stretch.clear()


def _phases(stretch: list[Step]) -> str:
    names = list(dict.fromkeys(step.phase for step in stretch))
    slices = [name for name in names if name.startswith("slice ")]
    if len(slices) > 1:
        numbers = [name.removeprefix("slice ") for name in slices]
        whole = f"slices {numbers[0]} to {numbers[-1]}"
        names = list(dict.fromkeys(whole if name in slices else name for name in names))
    return ", ".join(name for name in names if name != "live" or len(names) == 1)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


STORY = Story(
    ("source", "destination"),
    steps_of,
    (True, False),
    "A lifeline is thick and blue while the guest runs on that side.",
)
