"""How simulated objects wake the tasks that wait for them, at the cost of one event."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import TYPE_CHECKING, Any

from simpy.events import NORMAL

from simmig.verbs.sim.timeline import Timeline

if TYPE_CHECKING:
    pass


_MANY = 8  # sources a task waits for time and again


class TaskCancelled(BaseException):
    """Thrown into a cancelled task at its wait. No Exception, so that no handler takes it for an error."""


class Waitable:
    """A source of `Runtime.wait`: tells its waiters when it has become ready.

    Each has `ready`, an attribute or a property: whether a wait on it returns at once.
    """

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []

    def wake_waiters(self) -> None:
        """To be called when it has become ready."""
        for waiter in self.waiters:
            if waiter.waiting and self in waiter.sources:
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

    It stays registered with the sources of earlier waits, because a task mostly waits for the same few.
    """

    __slots__ = (
        "_alarm_ns",
        "_heard",
        "_is_cancelled",
        "_value",
        "callbacks",
        "deadline_ns",
        "env",
        "paid_ns",
        "sources",
        "waiting",
        "wake_ns",
    )

    _ok = True

    def __init__(self, env: Timeline, wake_ns: int) -> None:
        self.env = env
        self.wake_ns = wake_ns
        self.sources: Any = ()  # a tuple of Waitables, or None when it must not wait
        self.waiting = False
        self.paid_ns = 0  # until when the task is busy with what it did before
        self.deadline_ns: int | None = None
        self.callbacks: list[Callable[[Any], None]] | None = None
        self._value: Any = None
        self._alarm_ns: int | None = None
        self._heard: list[Waitable] = []
        self._is_cancelled = False

    def listen(self, sources: tuple[Waitable, ...]) -> None:
        """Have these sources, and no others, wake this waiter; raises TaskCancelled when its task is to end.

        Sources of earlier waits may still know it (`heard`), for a task often comes back to them.
        """
        if self._is_cancelled:
            self.sources = None  # which no wait has, so that the next one comes here as well
            raise TaskCancelled
        heard = self._heard
        if len(heard) > _MANY:
            self._forget()
        for source in sources:
            if source not in heard:
                heard.append(source)
                source.waiters.append(self)
        self.sources = sources

    def cancelled(self) -> TaskCancelled:
        """The task must not wait any more; returns what tells it so."""
        self._is_cancelled = True
        self.waiting = False
        self.sources = None
        self._forget()
        return TaskCancelled()

    def _forget(self) -> None:
        for source in self._heard:
            source.waiters.remove(self)
        self._heard.clear()

    def set_deadline(self, deadline_ns: int) -> None:
        """Give up waiting then, if the task is not busy still."""
        self.deadline_ns = deadline_ns = max(deadline_ns, self.paid_ns)
        if self._alarm_ns is None or self._alarm_ns > deadline_ns:
            self._set_alarm(deadline_ns)

    def wake(self, value: Any) -> None:
        """End the wait with that value: when the task's work is paid for, or a wake-up's time from now."""
        self.waiting = False
        self._value = value
        env = self.env
        now: int = env._now
        at_ns = self.paid_ns if now < self.paid_ns else now + self.wake_ns
        heappush(env.heap, (at_ns, NORMAL, env.number(), self))

    def wake_now(self) -> None:
        """The same, but if it takes no time run the task at once: only at the very end of an event's business."""
        if self.wake_ns or self.env._now < self.paid_ns:
            self.wake(True)
            return
        self.waiting = False
        self._value = True
        callbacks, self.callbacks = self.callbacks, None
        for callback in callbacks or ():
            callback(self)

    def _set_alarm(self, at_ns: int) -> None:
        self._alarm_ns = at_ns
        self.env.at(at_ns, LightEvent(self._alarm))

    def _alarm(self, event: LightEvent) -> None:
        now: int = self.env._now
        if self._alarm_ns != now:
            return  # an earlier alarm has taken its place
        self._alarm_ns = None
        if not self.waiting or self.deadline_ns is None:
            return
        if self.deadline_ns > now:
            self._set_alarm(self.deadline_ns)
        else:
            self.wake(False)
