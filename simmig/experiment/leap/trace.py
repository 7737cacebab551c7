"""A leap's trace: rows of numbers become lines, their digest, and events for whoever reads along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simmig.experiment.leap import record
from simmig.experiment.leap.call_back import Callback
from simmig.experiment.leap.follow import begin_ring, follow
from simmig.experiment.leap.keys import key_at
from simmig.experiment.leap.lines import room_for, templates, write_lines
from simmig.experiment.leap.state import TRACE_COLUMNS, TRACE_ROWS, Ints, Memory, Readings
from simmig.migration.config import CHUNK_PAGES
from simmig.migration.registration import WHOLE_BLOCK
from simmig.migration.wire import BUFFER_BYTES
from simmig.trace import events as ev
from simmig.trace.recorder import Recorder
from simmig.verbs.sim.interrupt import Handling

_BUFFER_PAGES = BUFFER_BYTES // 4096
Column = NDArray[np.int64]


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
            self._write(self._rows, 0, count)
            return
        begin = 0
        for row in np.flatnonzero(self._rows[:count, 0] > record.MEMORY_READ).tolist():
            self._write(self._rows, begin, row)
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
        self._write(self._rows, begin, count)

    def _write(self, rows: Ints, begin: int, end: int) -> None:
        if begin < end:
            size = write_lines(rows, begin, end, self._out, *self._templates)
            self._recorder.take_lines(self._out[:size].data)

    def _different_pages(self) -> int:
        """Pages that never came, or were written after what came of them was read."""
        arrived, written = self._arrived[0], self._memory.written
        stale = int(np.count_nonzero(written >= arrived[: len(written)]))
        return stale + int(np.count_nonzero(arrived[len(written) :] == 0))

    def _destination_over(self, t_ns: int) -> None:
        """It gives its regions back, one after the other, which takes it time, and has ended."""
        s, slots = self._s, int(self._s["slots"])
        blocks, chunks, pages = self._registered()
        given = np.concatenate([np.full(2 + slots, _BUFFER_PAGES), pages])
        costs = s["deregister"][1] + given * s["deregister_page"][1]
        times_ns = t_ns + np.cumsum([s["over_debt"], *costs]).astype(np.int64)
        keys = np.array([key_at(slots, ordinal) for ordinal in range(len(pages))], dtype=np.int64)
        rows = np.zeros((len(pages), TRACE_COLUMNS), dtype=np.int64)
        rows[:, 0] = record.DEREGISTERED + 1
        rows[:, 1:5] = np.column_stack((times_ns[3 + slots :], blocks, chunks, keys))
        for begin in range(0, len(rows), TRACE_ROWS):
            self._write(rows, begin, min(begin + TRACE_ROWS, len(rows)))
        self._recorder.emit(ev.MigrationEnded(int(times_ns[-1]), "destination", *self._ends(s)[1]))

    def _registered(self) -> tuple[Column, Column, Column]:
        """The destination's regions as it registered them: block, chunk, pages."""
        s, memory = self._s, self._memory
        lengths = memory.block_end - memory.block_first
        if s["pin_all"]:
            return np.arange(len(lengths)), np.full(len(lengths), WHOLE_BLOCK), lengths
        places = memory.order[: int(s["p_registered"])]
        blocks = np.searchsorted(memory.block_chunk, places, side="right") - 1
        chunks = places - memory.block_chunk[blocks]
        return blocks, chunks, np.minimum(CHUNK_PAGES, lengths[blocks] - chunks * CHUNK_PAGES)


def _as_at_first(state: Any, memory: Memory) -> Readings:
    """Zero pages are so on both sides; what the guest has given back is not compared."""
    pages = int(state["page_count"])
    arrived = np.zeros((1, pages), dtype=np.int32)
    if len(memory.zero):
        arrived[0] = memory.zero
    if state["dirty"] < pages:
        arrived[0, memory.pages[:pages] == 0] = np.iinfo(np.int32).max
    return arrived
