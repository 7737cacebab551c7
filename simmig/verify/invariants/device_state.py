"""Device state: once, of a guest that stands still, and whole."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger


class DeviceStateOnce(Invariant):
    """A state saved while the guest runs is stale, and of two the destination cannot know which counts."""

    name = "device_state_once"
    rule = "protocol 5"
    words = "Device state is sent once, after the guest has stopped, and loaded as it was sent."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._stopped = False
        self._lengths: dict[type, int] = {}

    def checks(self) -> Mapping[Key, Check]:
        """The stop, and the state on either side."""
        return {
            ev.VmStopped: self._on_stopped,
            ev.VmResumed: self._on_resumed,
            ev.DeviceStateSent: self._on_state,
            ev.DeviceStateLoaded: self._on_state,
        }

    def _on_stopped(self, event: ev.VmStopped) -> None:
        self._stopped |= event.side == "source"

    def _on_resumed(self, event: ev.VmResumed) -> None:
        if event.side == "source":
            self._stopped = False

    def _on_state(self, event: ev.DeviceStateSent | ev.DeviceStateLoaded) -> None:
        sent = event.side == "source"
        if type(event) in self._lengths:
            self.broken(event, f"device state was {'sent' if sent else 'loaded'} twice")
        elif sent and not self._stopped:
            self.broken(event, "device state was sent of a guest that runs")
        elif any(length != event.length_bytes for length in self._lengths.values()):
            other = next(iter(self._lengths.values()))
            self.broken(event, f"{other} bytes of device state on one side, {event.length_bytes} on the other")
        self._lengths[type(event)] = event.length_bytes
