"""A host: its memory, and the time its processor spends on verbs calls and on the migration's own work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simmig.verbs.runtime import Task, Work
from simmig.verbs.sim.memory import AddressSpace
from simmig.verbs.sim.timeline import Timeline
from simmig.verbs.sim.waiting import Waiter

if TYPE_CHECKING:
    import simpy


@dataclass(frozen=True, slots=True)
class HostCosts:
    """What work costs on a host, in nanoseconds of its time, per call or per unit."""

    register_ns: float = 0.0
    register_page_ns: float = 0.0
    deregister_ns: float = 0.0
    deregister_page_ns: float = 0.0
    post_ns: float = 0.0
    post_byte_ns: float = 0.0
    """Per byte of a send posted on an idle send queue: a soft device carries its packets in the caller's context.

    The transmission goes on meanwhile. On a queue that is busy already the packets wait for their turn.
    """
    poll_ns: float = 0.0
    poll_cqe_ns: float = 0.0
    wake_ns: float = 0.0
    """From an event to the woken task's next instruction."""
    scan_page_ns: float = 0.0
    sync_page_ns: float = 0.0
    zero_test_page_ns: float = 0.0
    message_ns: float = 0.0
    write_ns: float = 0.0
    """Getting one RAM write ready and seeing to its completion, but for the post itself."""
    connect_ns: float = 0.0
    """What it takes a source to resolve its peer and connect, beside the messages on the wire."""
    tcp_byte_ns: float = 0.0
    """Copying to or from a socket buffer, on each end."""
    stop_ns: float = 0.0
    resume_ns: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


class Host:
    """A machine with a clock that runs ahead of the environment's by the work not yet paid for (its debt).

    A synchronous call cannot wait, so it charges the host; whoever waits next on this host pays. What the call
    does (a posted work request) takes effect at the host's own time; what it sees is the present of the
    environment.
    """

    __slots__ = (
        "_debt_ns",
        "_work_ns",
        "alive",
        "costs",
        "env",
        "memory",
        "name",
        "tasks",
        "waiters",
        "wake_ns",
        "watchers",
    )

    def __init__(self, env: Timeline, name: str, costs: HostCosts) -> None:
        self.env = env
        self.name = name
        self.costs = costs
        self.memory = AddressSpace()
        self.alive = True
        self.tasks: list[Task] = []
        self.waiters: dict[simpy.Process, Waiter] = {}
        self.watchers: list[Callable[[], None]] = []
        """Called when it has died (by those who would find out in time)."""
        self.wake_ns = round(costs.wake_ns)
        by_kind = {
            Work.SCAN_PAGE: costs.scan_page_ns,
            Work.SYNC_PAGE: costs.sync_page_ns,
            Work.ZERO_TEST_PAGE: costs.zero_test_page_ns,
            Work.MESSAGE: costs.message_ns,
            Work.WRITE: costs.write_ns,
        }
        self._work_ns = tuple(by_kind[kind] for kind in Work)
        self._debt_ns = 0.0

    @property
    def debt_ns(self) -> int:
        """Work done and not yet paid for, in whole nanoseconds."""
        return int(self._debt_ns)

    def charge(self, cost_ns: float) -> None:
        """Account for work done just now."""
        self._debt_ns += cost_ns

    def spend(self, cost_ns: float) -> int:
        """The same; returns this host's time afterwards."""
        debt_ns = self._debt_ns = self._debt_ns + cost_ns
        return int(self.env._now) + int(debt_ns)

    def work(self, kind: Work, count: int) -> None:
        """Account for `count` units of the migration's own work."""
        self._debt_ns += self._work_ns[kind] * count

    def take_debt(self) -> int:
        """The debt in whole nanoseconds, which the caller now pays by waiting that long; fractions stay."""
        debt_ns = int(self._debt_ns)
        if debt_ns:
            self._debt_ns -= debt_ns
        return debt_ns

    def now_ns(self) -> int:
        """This host's time, in whole nanoseconds; a fraction is never rounded up, for nobody pays it yet."""
        return int(self.env._now) + int(self._debt_ns)

    def kill(self) -> None:
        """The machine dies: its tasks end where they stand, its devices answer nobody. Again is a no-op."""
        if not self.alive:
            return
        self.alive = False
        for task in self.tasks[:]:
            task.cancel()
        for watcher in self.watchers[:]:
            watcher()
