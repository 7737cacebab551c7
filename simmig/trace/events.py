"""The event vocabulary: everything that metrics, plots, invariants and exports know of a migration.

Times are integer nanoseconds since the trace's origin, sizes bytes, pages indices into all RAM blocks laid end to
end in the source's order. `side` is "source" or "destination".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

Side = Literal["source", "destination"]
AskedBy = Literal["policy", "wire", "protocol"]
Promise = int | Literal["downtime-budget"]


class Event(msgspec.Struct, tag_field="event", gc=False):
    """Something that happened at `t_ns` on one side."""

    t_ns: int
    side: Side


class MigrationBegan(Event, tag="migration-began", omit_defaults=True):
    """The source starts: what it was asked to do (block lengths in bytes, policy as spelled).

    `promise` is what the policy says of the bytes it lets be pending, beside one chunk: a bound, or that it
    follows bandwidth x downtime limit; None when it promises nothing. `ballooned` are runs of pages (first, count)
    that the guest has given back. Then the depths of the queues, in work requests, how many rounds the live
    phase may take (0: not told), the rate limit in bytes per second with whose way of keeping it (None: no
    limit, or none told), and whether it gives up when rounds have stopped to shrink.
    """

    memory_bytes: int
    page_bytes: int
    transport: str
    pin_all: bool
    policy: str
    downtime_limit_ns: int
    promise: Promise | None = None
    ballooned: tuple[tuple[int, int], ...] = ()
    send_queue: int = 512
    receive_queue: int = 3
    completion_queue: int = 1536
    max_rounds: int = 0
    max_bandwidth_bytes_s: int | None = None
    rate_limit: Literal["qemu-7.2", "qemu-10.0"] | None = None
    stop_when_flat: bool = False


class SetupEnded(Event, tag="setup-ended"):
    """Connected, RAM blocks exchanged, pinned where asked: the live phase begins."""


class MigrationEnded(Event, tag="migration-ended"):
    """This side's outcome: completed, failed, cancelled or not-converging, and why."""

    status: str
    reason: str


class WorkPosted(Event, tag="work-posted"):
    """A work request handed to the queue pair. `block` and `offset_bytes` are -1 for control messages."""

    qp: int
    wr_id: int
    opcode: Literal["write", "send", "recv"]
    length_bytes: int
    block: int = -1
    offset_bytes: int = -1
    key: int = 0


class WorkCompleted(Event, tag="work-completed"):
    """Its completion was polled, successful."""

    qp: int
    wr_id: int
    opcode: Literal["write", "send", "recv"]
    length_bytes: int = 0


class WorkFailed(Event, tag="work-failed"):
    """Its completion was polled with an error status (IBV_WC_...), or the post itself was refused (errno name)."""

    qp: int
    wr_id: int
    status: str


class PagesDirtied(Event, tag="pages-dirtied"):
    """The guest wrote: page writes since the last such event, each write counted."""

    writes: int


class PagesSaved(Event, tag="pages-saved"):
    """A run of pages left the bitmap: as a write or in the stream ("data"), or as zero pages ("zero")."""

    page: int
    count: int
    how: Literal["data", "zero"]


class BitmapSynced(Event, tag="bitmap-synced"):
    """The dirty log was merged into the bitmap."""

    new_pages: int
    dirty_pages: int


class RoundBegan(Event, tag="round-began"):
    """A pass over the dirty bitmap begins; `index` counts from 1, the last is the stopped guest's."""

    index: int
    dirty_pages: int


class RoundEnded(Event, tag="round-ended"):
    """The pass is over: a bitmap sync follows."""

    index: int


class SliceBegan(Event, tag="slice-began"):
    """A RAM section of the stream opens and the destination enters registration mode."""

    index: int


class SliceEnded(Event, tag="slice-ended"):
    """The RAM section is closed."""

    index: int


class BandwidthEstimated(Event, tag="bandwidth-estimated"):
    """A window closed: bytes per second, and the pending size below which the guest may be stopped."""

    bandwidth_bytes_s: int
    threshold_bytes: int


class DowntimeLimitChanged(Event, tag="downtime-limit-changed"):
    """The guest may stand still for so long from this estimate on."""

    downtime_limit_ns: int


class BandwidthLimitChanged(Event, tag="bandwidth-limit-changed"):
    """The window of the rate limit that begins here, and those after it, keep this one; None for none."""

    max_bandwidth_bytes_s: int | None


class DrainBegan(Event, tag="drain-began"):
    """The sender starts to wait for writes: asked by the policy, forced by the wire or due by the protocol.

    `point` names where (a policy's `Point`, or what the control channel was sending). Waiting for a queue slot or
    for a chunk's own write in flight is not a drain.
    """

    asked_by: AskedBy
    point: str
    pending_bytes: int
    target_bytes: int


class DrainEnded(Event, tag="drain-ended"):
    """It stops waiting."""

    asked_by: AskedBy
    pending_bytes: int


class VmStopped(Event, tag="vm-stopped"):
    """The guest stands still on this side."""


class VmResumed(Event, tag="vm-resumed"):
    """The guest runs on this side."""


class DeviceStateSent(Event, tag="device-state-sent"):
    """The device state has left the source (posted, on a socket written)."""

    length_bytes: int


class DeviceStateLoaded(Event, tag="device-state-loaded"):
    """The destination has all of it."""

    length_bytes: int


class ControlSent(Event, tag="control-sent"):
    """A control message was posted (type name of `simmig.migration.wire`)."""

    type: str
    length_bytes: int
    repeat: int


class ControlReceived(Event, tag="control-received"):
    """A control message was taken off its buffer."""

    type: str
    length_bytes: int
    repeat: int


class MemoryRegistered(Event, tag="memory-registered"):
    """Guest memory was registered: one chunk, or a whole block (`chunk` -1)."""

    block: int
    chunk: int
    length_bytes: int
    key: int


class MemoryDeregistered(Event, tag="memory-deregistered"):
    """The region is gone."""

    block: int
    chunk: int
    key: int


class MemoryCompared(Event, tag="memory-compared"):
    """Destination memory held against the source's, page by page, when the destination resumes."""

    pages: int
    different_pages: int


class PortCounted(Event, tag="port-counted"):
    """The transmit counter of the side's port when all is over: headers and retransmissions included."""

    sent_bytes: int


class FaultInjected(Event, tag="fault-injected"):
    """Somebody breaks something on purpose, on this side; `what` says it in a few words."""

    what: str


class HostDied(Event, tag="host-died"):
    """This side's host is dead, and whatever ran on it."""


class Stalled(Event, tag="stalled"):
    """Nothing would ever happen any more, and this side still waits."""


AnyEvent = (
    MigrationBegan
    | SetupEnded
    | MigrationEnded
    | WorkPosted
    | WorkCompleted
    | WorkFailed
    | PagesDirtied
    | PagesSaved
    | BitmapSynced
    | RoundBegan
    | RoundEnded
    | SliceBegan
    | SliceEnded
    | BandwidthEstimated
    | DowntimeLimitChanged
    | BandwidthLimitChanged
    | DrainBegan
    | DrainEnded
    | VmStopped
    | VmResumed
    | DeviceStateSent
    | DeviceStateLoaded
    | ControlSent
    | ControlReceived
    | MemoryRegistered
    | MemoryDeregistered
    | MemoryCompared
    | PortCounted
    | FaultInjected
    | HostDied
    | Stalled
)

Emit = Callable[[AnyEvent], None]
"""Where a side sends its events; `None` in its place means that nobody records."""
