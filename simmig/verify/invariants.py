"""What must be true of every migration, checked on its trace as it streams by."""

from __future__ import annotations

from collections import deque

from simmig.trace import events as ev
from simmig.trace.readers import EventReader


class Invariants(EventReader):
    """A reader of traces: show it every event, then `results` tells what held."""

    def __init__(self) -> None:
        self._outstanding: dict[ev.Side, dict[int, deque[tuple[int, str]]]] = {"source": {}, "destination": {}}
        self._running = {"source": True, "destination": False}
        self._both_ran = False
        self._status = ""
        self._different_pages: int | None = None
        self._resumed_on_writes = False
        self._completed_unposted = False
        self.handlers = {
            ev.WorkPosted: self._on_posted,
            ev.WorkCompleted: self._on_completed,
            ev.WorkFailed: self._on_failed,
            ev.VmStopped: self._on_stopped,
            ev.VmResumed: self._on_resumed,
            ev.MigrationEnded: self._on_ended,
            ev.MemoryCompared: self._on_compared,
        }

    def results(self) -> dict[str, bool]:
        """Each invariant's name, and whether it held.

        memory_identical: a migration that completed left the destination with the source's memory.
        one_side_runs: the guest never ran on both sides, and in the end it runs on the right one.
        no_write_in_flight_at_resume: when the destination resumed, every write had completed.
        completions_match_posts: nothing completed that had not been posted.
        all_work_ended: a migration that completed left no work request open.
        """
        completed = self._status == "completed"
        return {
            "memory_identical": not completed or self._different_pages == 0,
            "one_side_runs": not self._both_ran
            and self._running == {"source": not completed, "destination": completed},
            "no_write_in_flight_at_resume": not self._resumed_on_writes,
            "completions_match_posts": not self._completed_unposted,
            "all_work_ended": not completed
            or not any(queue for queues in self._outstanding.values() for queue in queues.values()),
        }

    def _on_posted(self, event: ev.WorkPosted) -> None:
        if event.opcode == "recv":  # receives may stay posted for ever
            return
        queues = self._outstanding[event.side]
        queue = queues.get(event.qp)
        if queue is None:
            queue = queues[event.qp] = deque()
        queue.append((event.wr_id, event.opcode))

    def _on_completed(self, event: ev.WorkCompleted) -> None:
        if event.opcode != "recv" and not self._retire(event):
            self._completed_unposted = True

    def _on_failed(self, event: ev.WorkFailed) -> None:
        self._retire(event)  # or a receive, or a post that was refused

    def _retire(self, event: ev.WorkCompleted | ev.WorkFailed) -> bool:
        """Completions come in posting order (R16), and one retires what is before it (R14)."""
        queue = self._outstanding[event.side].get(event.qp)
        if not queue or (queue[0][0] != event.wr_id and all(wr_id != event.wr_id for wr_id, _ in queue)):
            return False
        while queue.popleft()[0] != event.wr_id:
            pass
        return True

    def _on_stopped(self, event: ev.VmStopped) -> None:
        self._running[event.side] = False

    def _on_resumed(self, event: ev.VmResumed) -> None:
        self._running[event.side] = True
        self._both_ran |= all(self._running.values())
        if event.side == "destination":
            works = (work for queue in self._outstanding["source"].values() for work in queue)
            self._resumed_on_writes |= any(opcode == "write" for _, opcode in works)

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        if event.side == "source" or event.status != "completed":
            self._status = event.status

    def _on_compared(self, event: ev.MemoryCompared) -> None:
        self._different_pages = event.different_pages
