"""How simulated objects wake the tasks that wait for them, at the cost of one event."""

from __future__ import annotations

from collections.abc import Callable, Generator
from heapq import heappush
from typing import TYPE_CHECKING, Any

from simpy.events import NORMAL
from simpy.exceptions import Interrupt

if TYPE_CHECKING:
    import simpy


class TaskCancelled(BaseException):
    """Thrown into a cancelled task at its wait. No Exception, so that no handler takes it for an error."""


class Waitable:
    """A source of `Runtime.wait`: level-triggered, it tells its waiters when it may have become ready."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []

    @property
    def ready(self) -> bool:
        """Whether a wait on it returns at once."""
        raise NotImplementedError

    def wake_waiters(self) -> None:
        """To be called when it has become ready."""
        for waiter in self.waiters:
            if waiter.waiting:
                waiter.wake(True)


class LightEvent:
    """As much of a simpy event as the environment looks at: something with callbacks that has succeeded."""

    __slots__ = ("callbacks",)

    _ok = True
    _value = None

    def __init__(self, callback: Callable[[Any], None]) -> None:
        self.callbacks: tuple[Callable[[Any], None], ...] | None = (callback,)


class Waiter:
    """What a task yields while it waits: a simpy event made ready for its next use by each wait.

    It stays registered with its sources from one wait to the next, because a task mostly waits for the same.
    """

    __slots__ = (
        "_alarm_ns",
        "_value",
        "callbacks",
        "cancelled",
        "deadline_ns",
        "env",
        "paid_ns",
        "sources",
        "waiting",
        "wake_ns",
    )

    _ok = True

    def __init__(self, env: simpy.Environment, wake_ns: int) -> None:
        self.env = env
        self.wake_ns = wake_ns
        self.sources: tuple[Waitable, ...] = ()
        self.waiting = False
        self.cancelled = False
        self.paid_ns = 0
        self.deadline_ns: int | None = None
        self.callbacks: list[Callable[[Any], None]] | None = None
        self._value: Any = None
        self._alarm_ns: int | None = None

    def listen(self, sources: tuple[Waitable, ...]) -> None:
        """Have these sources, and no others, wake this waiter."""
        for source in self.sources:
            source.waiters.remove(self)
        for source in sources:
            source.waiters.append(self)
        self.sources = sources

    def prepare(self, paid_ns: int, deadline_ns: int | None) -> None:
        """Make ready for a wait of a task that is busy until `paid_ns` and gives up at `deadline_ns`.

        Raises TaskCancelled when the task may not wait any more.
        """
        if self.cancelled:
            raise TaskCancelled
        self.waiting = True
        self.paid_ns = paid_ns
        self.callbacks = []
        if deadline_ns is not None:
            deadline_ns = max(deadline_ns, paid_ns)
            if self._alarm_ns is None or self._alarm_ns > deadline_ns:
                self._set_alarm(deadline_ns)
        self.deadline_ns = deadline_ns

    def wake(self, value: Any) -> None:
        """End the wait with that value: when the task's work is paid for, or a wake-up's time from now."""
        self.waiting = False
        self._value = value
        env = self.env
        now: int = env._now  # type: ignore[assignment]
        at_ns = self.paid_ns if now < self.paid_ns else now + self.wake_ns
        heappush(env._queue, (at_ns, NORMAL, next(env._eid), self))  # type: ignore[misc]

    def _set_alarm(self, at_ns: int) -> None:
        self._alarm_ns = at_ns
        event = LightEvent(self._alarm)
        self.env.schedule(event, NORMAL, at_ns - self.env._now)  # type: ignore[arg-type]

    def _alarm(self, event: LightEvent) -> None:
        now: int = self.env._now  # type: ignore[assignment]
        if self._alarm_ns != now:
            return  # an earlier alarm has taken its place
        self._alarm_ns = None
        if not self.waiting or self.deadline_ns is None:
            return
        if self.deadline_ns > now:
            self._set_alarm(self.deadline_ns)
        else:
            self.wake(False)

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield self)
        except Interrupt:
            self.waiting = False
            self.cancelled = True
            raise TaskCancelled from None
