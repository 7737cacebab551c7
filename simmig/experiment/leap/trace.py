"""A leap's trace: rows of numbers become lines, their digest, and events for whoever reads along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simmig.experiment.leap import record
from simmig.experiment.leap.call_back import Callback
from simmig.experiment.leap.follow import begin_ring, follow
from simmig.experiment.leap.keys import key_at
from simmig.experiment.leap.lines import room_for, templates, write_lines
from simmig.experiment.leap.state import TRACE_ROWS, Memory, Readings
from simmig.migration.config import CHUNK_PAGES
from simmig.migration.registration import WHOLE_BLOCK
from simmig.migration.wire import BUFFER_BYTES
from simmig.trace import events as ev
from simmig.trace.recorder import Recorder
from simmig.verbs.sim.interrupt import Handling

_BUFFER_PAGES = BUFFER_BYTES // 4096


class Trace:
    """Takes a leap's rows as they come, in place of the two ends that would emit events.

    Args:
        recorder: gets every line.
        ends: status and reason of either side, once it has ended.
    """

    def __init__(
        self,
        state: Any,
        memory: Memory,
        recorder: Recorder,
        ends: Callable[[Any], tuple[tuple[str, str], tuple[str, str]]],
    ) -> None:
        self._s = state
        self._memory = memory
        self._recorder = recorder
        self._ends = ends
        self._rows = state["trace"]
        self._out = np.empty(room_for(TRACE_ROWS), dtype=np.uint8)
        self._templates = templates(bool(state["own_control"]))
        self._ring = begin_ring()
        self._arrived = _as_at_first(state, memory)
        self.compared: ev.MemoryCompared | None = None
        self.pending: list[Handling] = []
        """Signals that wait to be handled."""
        self.raised: BaseException | None = None
        self.function = Callback(self._take)
        state["trace_address"] = self.function.address

    def _take(self, count: int) -> int:
        try:
            self._hand_on(count)
        except BaseException as error:
            self.raised = error
            return 1
        return len(self.pending)

    def finish(self) -> str:
        """Take what is left, and what is counted when all is over; returns the digest."""
        s = self._s
        self._hand_on(int(s["rows"]))
        for side, sent in zip(("source", "destination"), s["sent"].tolist(), strict=True):
            self._recorder.emit(ev.PortCounted(int(s["now"]), side, sent))  # type: ignore[arg-type]
        return self._recorder.sha256()

    def _hand_on(self, count: int) -> None:
        if not follow(self._s, self._memory, self._rows, count, self._ring, self._arrived):
            self._write(0, count)
            return
        begin = 0
        for row in np.flatnonzero(self._rows[:count, 0] > record.MEMORY_READ).tolist():
            self._write(begin, row)
            begin = row + 1
            form, t_ns = self._rows[row, :2].tolist()
            if form == record.SOURCE_ENDED:
                self._recorder.emit(ev.MigrationEnded(t_ns, "source", *self._ends(self._s)[0]))
            elif form == record.DESTINATION_OVER:
                self._destination_over(t_ns)
            else:
                pages = int(self._s["page_count"])
                self.compared = ev.MemoryCompared(t_ns, "destination", pages, self._different_pages())
                self._recorder.emit(self.compared)
        self._write(begin, count)

    def _write(self, begin: int, end: int) -> None:
        if begin < end:
            size = write_lines(self._rows, begin, end, self._out, *self._templates)
            self._recorder.take_lines(self._out[:size].data)

    def _different_pages(self) -> int:
        """Pages that never came, or were written after what came of them was read."""
        arrived, written = self._arrived[0], self._memory.written
        stale = int(np.count_nonzero(written >= arrived[: len(written)]))
        return stale + int(np.count_nonzero(arrived[len(written) :] == 0))

    def _destination_over(self, t_ns: int) -> None:
        """It gives its regions back, which takes it time, and has ended."""
        s = self._s
        debt, cost, page_cost = (float(x) for x in (s["over_debt"], s["deregister"][1], s["deregister_page"][1]))
        slots = int(s["slots"])
        for _ in range(2 + slots):
            debt += cost + _BUFFER_PAGES * page_cost
        for ordinal, (block, chunk, pages) in enumerate(self._registered()):
            debt += cost + pages * page_cost
            key = key_at(slots, ordinal)
            self._recorder.emit(ev.MemoryDeregistered(t_ns + int(debt), "destination", block, chunk, key))
        self._recorder.emit(ev.MigrationEnded(t_ns + int(debt), "destination", *self._ends(s)[1]))

    def _registered(self) -> list[tuple[int, int, int]]:
        """The destination's regions as it registered them: block, chunk, pages."""
        s, memory = self._s, self._memory
        lengths = (memory.block_end - memory.block_first).tolist()
        if s["pin_all"]:
            return [(block, WHOLE_BLOCK, length) for block, length in enumerate(lengths)]
        chunks = memory.order[: int(s["p_registered"])]
        blocks = np.searchsorted(memory.block_chunk, chunks, side="right") - 1
        places = zip(blocks.tolist(), (chunks - memory.block_chunk[blocks]).tolist(), strict=True)
        return [(block, chunk, min(CHUNK_PAGES, lengths[block] - chunk * CHUNK_PAGES)) for block, chunk in places]


def _as_at_first(state: Any, memory: Memory) -> Readings:
    """Zero pages are so on both sides; what the guest has given back is not compared."""
    pages = int(state["page_count"])
    arrived = np.zeros((1, pages), dtype=np.int32)
    if len(memory.zero):
        arrived[0] = memory.zero
    if state["dirty"] < pages:
        arrived[0, memory.pages[:pages] == 0] = np.iinfo(np.int32).max
    return arrived
