"""What a send queue does when something goes wrong: ack timer, going back N, waiting for a receiver.

Nothing is timed as long as nothing is lost: only where a packet or its answer is known not to arrive is the timer
set, for the moment at which a device's timer would fire.
"""

from __future__ import annotations

from typing import Any, cast

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.send_queue import SendQueue
from simmig.verbs.sim.waiting import LightEvent
from simmig.verbs.sim.work import PSN_MASK

_INFINITE = 7
_TIMEOUT_UNIT_NS = 4096


def ack_timeout_ns(exponent: int, tick_ns: int) -> int:
    """How long a device of that tick waits for an answer (R37): 4.096 us times 2 to the exponent, 0 for ever."""
    return -(-(_TIMEOUT_UNIT_NS << exponent) // tick_ns) * tick_ns if exponent else 0


class RecoveringQueue(SendQueue):
    """A send queue that survives loss (R37 to R42)."""

    __slots__ = ("_impatient",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._impatient = False  # the ack timer is shorter than the round trip

    def retime(self, timeout: int, retry_count: int, rnr_retry_count: int) -> None:
        """Set the timeout exponent and both retry counts."""
        self.timeout_ns = ack_timeout_ns(timeout, self.device.profile.timer_tick_ns)
        self.retry_count = self.retries_left = retry_count
        self.rnr_retry_count = self.rnr_retries_left = rnr_retry_count
        round_trip_ns = self.direction.latency_ns + self.direction.reverse.latency_ns
        self._impatient = 0 < self.timeout_ns <= round_trip_ns

    def set_timer(self) -> None:
        """Something is known not to arrive: see to it that the ack timer fires when it is due."""
        if self._timer is None and self.timeout_ns and self.sending:
            self._set_timer(max(self._expiry_ns(), cast(int, self.env._now)))

    def _set_timer(self, at_ns: int) -> None:
        self._timer = LightEvent(self._expired)
        self.env.at(at_ns, self._timer)

    def _expiry_ns(self) -> int:
        """The timeout after the oldest packet that waits for an answer, or after the last progress if later."""
        works = self.unacked or self.pending
        sent_ns = works[0].sent_ns if works else 0
        return max(sent_ns, self.progress_ns) + self.timeout_ns

    def _expired(self, event: LightEvent) -> None:
        if event is not self._timer:
            return
        self._timer = None
        pending = self.pending
        if self._paused or not (self.unacked or (pending and pending[0].next)):
            return  # nothing waits for an answer (any more)
        at_ns = self._expiry_ns()
        if at_ns > self.env._now:
            self._set_timer(at_ns)
        else:
            self._retry()

    def _retry(self) -> None:
        """Send again from the oldest packet not acknowledged on, unless that was tried often enough (R38)."""
        if not (self.retry_count == _INFINITE and self.device.profile.retry_count_seven_is_infinite):
            if self.retries_left == 0:
                self._fail(e.IBV_WC_RETRY_EXC_ERR)
                return
            self.retries_left -= 1
        self.progress_ns = cast(int, self.env._now)
        self._go_back()
        self._wake()

    def _go_back(self) -> None:
        """Go back N: everything from the first packet not acknowledged on is to be sent again (R40)."""
        self.direction.settle()
        unacked = self.unacked
        pending = self.pending
        if pending:
            pending[0].next = 0
        while unacked:
            work = unacked.pop()
            work.next = 0
            work.started = True
            pending.appendleft(work)
        self._reads = 0
        if pending:
            work = pending[0]
            done = work.received if work.is_read else (self.acked - work.psn) & PSN_MASK
            work.next = done if done < work.packets else 0

    def _not_ready(self, rnr_ns: int) -> None:
        """The peer has no receive posted: wait as long as it says, then send again (R39)."""
        if self.rnr_retry_count != _INFINITE:
            if self.rnr_retries_left == 0:
                self._fail(e.IBV_WC_RNR_RETRY_EXC_ERR)
                return
            self.rnr_retries_left -= 1
        self._go_back()
        self._paused = True
        tick = self.device.profile.timer_tick_ns
        event = LightEvent(self._unpause)
        self.env.at(self.env._now - (-rnr_ns // tick) * tick, event)

    def _unpause(self, event: LightEvent) -> None:
        self._paused = False
        self.progress_ns = cast(int, self.env._now)
        self._wake()
