"""What the trace says is outstanding, kept once for all invariants, independent of the protocol's own account."""

from __future__ import annotations

from collections import deque

from simmig.trace import events as ev

KIND_MASK = 0xFFFF
KIND_RECV = 4000

Queue = deque[ev.WorkPosted]


class Ledger:
    """Work requests posted and not completed, and what else several invariants ask of a trace.

    Attributes:
        index: number of the event that is being shown, from 0.
        sides: those that have shown events.
        status: how each side that has ended did.
        began: the source's start.
        pending_bytes: RAM bytes posted and not completed.
        queue: the queue that the last work event was about.
        retired: the work requests that the last completion ended, oldest first.
        receives_seen: whether the trace tells of receives (a log of QEMU's does not).
    """

    def __init__(self) -> None:
        self.index = -1
        self.last_ns = 0
        self.sides: set[ev.Side] = set()
        self.status: dict[ev.Side, str] = {}
        self.began: ev.MigrationBegan | None = None
        self.sends: dict[tuple[ev.Side, int], Queue] = {}
        self.receives: dict[tuple[ev.Side, int], Queue] = {}
        self.pending_bytes = 0
        self.posted_bytes = 0
        self.completed_bytes = 0
        self.queue: Queue = deque()
        self.retired: tuple[ev.WorkPosted, ...] = ()
        self.in_order = True
        """Whether the last completion was that of the oldest work request of its queue."""

    @property
    def receives_seen(self) -> bool:
        """Whether the trace tells of receives; a log of QEMU's does not."""
        return bool(self.receives)

    @property
    def completed(self) -> bool:
        """Whether the migration has completed, as far as the sides seen have told."""
        return bool(self.status) and all(status == "completed" for status in self.status.values())

    @property
    def both_sides(self) -> bool:
        """Whether the trace tells of both ends."""
        return len(self.sides) == 2

    def posted(self, event: ev.WorkPosted) -> None:
        """A work request joins its queue."""
        queues = self.receives if event.opcode == "recv" else self.sends
        queue = queues.get((event.side, event.qp))
        if queue is None:
            queue = queues[event.side, event.qp] = deque()
        queue.append(event)
        self.queue = queue
        if event.opcode == "write":
            self.pending_bytes += event.length_bytes
            self.posted_bytes += event.length_bytes

    def completed_work(self, event: ev.WorkCompleted) -> None:
        """A completion ends its work request, and those before it (R14)."""
        queues = self.receives if event.opcode == "recv" else self.sends
        queue = queues.get((event.side, event.qp))
        if queue and queue[0].wr_id == event.wr_id:
            self.queue = queue
            self.retired = (queue.popleft(),)
            self.in_order = True
        else:
            self._retire_up_to(queue, event.wr_id)
        for work in self.retired:
            if work.opcode == "write":
                self.pending_bytes -= work.length_bytes
                self.completed_bytes += work.length_bytes

    def failed_work(self, event: ev.WorkFailed) -> None:
        """So does a completion with an error; of a post that was refused nothing was outstanding."""
        queues = self.receives if event.wr_id & KIND_MASK >= KIND_RECV else self.sends
        self._retire_up_to(queues.get((event.side, event.qp)), event.wr_id)
        for work in self.retired:
            if work.opcode == "write":
                self.pending_bytes -= work.length_bytes

    def _retire_up_to(self, queue: Queue | None, wr_id: int) -> None:
        self.retired = ()
        self.in_order = False
        if not queue or all(work.wr_id != wr_id for work in queue):
            return
        self.queue = queue
        ended: list[ev.WorkPosted] = []
        while not ended or ended[-1].wr_id != wr_id:
            ended.append(queue.popleft())
        self.in_order = len(ended) == 1
        self.retired = tuple(ended)
