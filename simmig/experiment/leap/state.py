"""Everything a leap knows while it runs: one flat record that compiled code works on in place.

Sides are 0 (source) and 1 (destination), and so are the directions that begin there. Queue pairs are numbered
likewise by who sends on them; the source's second one, for control messages of its own, is 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_type_hints

import numba
import numpy as np
from numba.extending import overload_method
from numpy.typing import NDArray

from simmig.experiment.leap import READY
from simmig.migration.config import MigrationConfig
from simmig.migration.convergence import Convergence, Shrinking
from simmig.migration.pace import Pace
from simmig.migration.policies.policy import Point, Policy
from simmig.migration.ram import HeldRun
from simmig.migration.rate_limit import RateLimit
from simmig.trace.series import FIRST_SHIFT, Amount, Gauge

SENDS, RECEIVES, ELSEWHERE = 0, 1, 2
WRITE, SEND, PROBE = 0, 1, 2  # kinds of work requests
READY_BUFFER, DATA_BUFFER = 0, 1
NONE = -1

# What an event is, plus the side or direction, or the queue pair, that it is for.
DEPART, ARRIVE, ANSWER, RING, WAKE, ALARM, LOST, LOST_RAM = 0, 2, 5, 8, 11, 13, 15, 17
STREAM_ARRIVE, STREAM_ANSWER, CONFIRM = 19, 20, 21

# What a side waits for on its lane.
SLOT_FREE, ARRIVED, POLLED, ROOM, PENDING = 0, 1, 2, 3, 4

RING_SIZE = 1024  # work requests outstanding, at most 512 and a few
RING_MASK = RING_SIZE - 1
PARTS_MASK = 4095  # parts of messages on the way
RECEIVE_MASK = 15
HEAP_SIZE = 4096

TRACE_ROWS, TRACE_COLUMNS = 8192, 8

COUNTS = 8
POSTED, DATA_PAGES, ZERO_PAGES, GUEST_WRITES, DRAINS, DRAIN_NS, FORCED_NS, PROTOCOL_NS = range(COUNTS)
"""The order of `trace.metrics.Counts`."""
ROW = 6 + COUNTS
"""A round or slice: index, began_ns, round, dirty_pages, ended_ns, pending_bytes, and its counts."""

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Readings = NDArray[np.int32]


class Declined(Exception):
    """Something came up that a leap does not know: the event model has to say what happens."""


class TableFull(Exception):
    """More slices than there was room for: begin again with more."""


class Memory(NamedTuple):
    """What is as long as the guest, or as the migration.

    `pages` has the dirty bitmap, a byte a page, `log` the dirty log likewise, `zero` which pages are zero (empty
    when none can be); the `words` are the same bytes, eight at a time. Of each chunk: `last`, the ordinal of its
    latest write, `known`, whether it is registered, `order`, the chunks as they were registered, and `place`,
    which of these it was. `written`, for a trace alone, has of each page the guest's latest write, counted from 1.
    A recorded workload's writes are in the four after that (`Recorded.tables`), empty for others; a mixture has
    its sets there (`Mixture.tables`). `changes` are the limits' (`limits.table_of`), `balloon` is what was given
    back: first pages and counts.
    """

    pages: NDArray[np.uint8]
    page_words: NDArray[np.uint64]
    log: NDArray[np.uint8]
    log_words: NDArray[np.uint64]
    zero: NDArray[np.uint8]
    last: Ints
    known: NDArray[np.uint8]
    order: NDArray[np.int32]
    block_first: Ints
    block_end: Ints
    block_chunk: Ints
    rounds: Ints
    slices: Ints
    place: NDArray[np.int32]
    written: NDArray[np.int32]
    recorded_ends: Ints
    recorded_totals: Ints
    recorded_firsts: Ints
    recorded_starts: Ints
    changes: Ints
    balloon: Ints


_INT, _FLOAT = "i8", "f8"
_INNER: dict[str, bool] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
"""For what only compiled code calls. Nothing here allocates, and whoever entered holds the arrays: counting
references to them at each call (`_nrt`) took a third of the time."""

_methods: dict[str, dict[Any, Any]] = {}  # by name and record


def _record_of(kept: Any) -> np.dtype[Any]:
    """What an object keeps, as a record; compiled code calls the methods of its class on that as they are.

    Methods of one name take as many arguments, of whichever class, and no field of a record has that name.
    """
    values = {name: np.asarray(getattr(kept, name)) for name in kept.__slots__}
    fields = [(name, _FLOAT if value.dtype.kind == "f" else _INT, value.shape) for name, value in values.items()]
    record = np.dtype(fields)
    for name, function in vars(type(kept)).items():
        if not name.startswith("__") and callable(function):
            if name not in _methods:
                _methods[name] = {}
                known = update_wrapper(_look_up(_methods[name]), function)
                cast(Any, overload_method)(numba.types.Record, name, strict=False, jit_options=_INNER)(known)
            _methods[name][numba.from_dtype(record)] = function
    return record


def _look_up(by_record: dict[Any, Any]) -> Callable[..., Any]:
    return lambda record, *_arguments: by_record.get(record)


PARAMETERS = np.dtype([(name, _INT) for name in ("limit", "interval", "_drained_at_bytes")])
"""What a built-in policy keeps, for its `drain` as it is; the state itself is its `Sender`."""
_GAUGE, _AMOUNT = _record_of(Gauge()), _record_of(Amount())
_PAIR = (2,)
_QUEUES = (3,)
_FIELDS: list[tuple[Any, ...]] = [
    # events
    *((name, _INT) for name in ("now", "events", "event", "stream_event", "queued_events", "resumed")),
    *((name, _INT, (HEAP_SIZE,)) for name in ("heap_at", "heap_id", "heap_kind")),
    # the link
    *((name, _INT) for name in ("num", "den", "latency", "mtu", "header", "stream_min", "streaming", "late")),
    *((name, _INT, _PAIR) for name in ("base", "rest", "end", "sent", "busy")),
    # a direction on which messages are parted: who waits for a turn, and what is on the wire
    *((name, _INT) for name in ("established", "window")),
    *((name, _INT, _PAIR) for name in ("parted", "flows", "sending", "part_count", "part_wire", "part_end")),
    *((name, _INT, _PAIR) for name in ("began", "began_rest", "taken")),
    ("flow", _INT, (2, 2)),
    *((name, _INT, _QUEUES) for name in ("gone", "arrived", "answered", "flying_head", "flying_tail")),
    *((name, _INT, _QUEUES) for name in ("packets_sent", "packets_acked", "blocked")),
    ("flying", _INT, (3, PARTS_MASK + 1)),
    # queue pairs
    ("own_control", _INT),
    ("control_queue", _INT, _PAIR),
    *((name, _INT, _QUEUES) for name in ("posted", "head", "landed", "acked", "polled", "active", "doorbell")),
    *(
        (name, _INT, (3, RING_SIZE))
        for name in ("w_kind", "w_wire", "w_bytes", "w_visible", "w_stream", "w_type", "w_arg", "w_slot", "w_id")
    ),
    *((name, _INT, _PAIR) for name in ("rx_head", "rx_tail", "rc_head", "rc_tail")),
    *(
        (name, _INT, (2, RECEIVE_MASK + 1))
        for name in ("rx_index", "rx_visible", "rc_index", "rc_type", "rc_arg", "rc_bytes")
    ),
    *((name, _INT, (3, 2)) for name in ("armed", "ready", "armed_once")),
    ("connect_ns", _FLOAT),
    # hosts
    *(
        (name, _FLOAT, _PAIR)
        for name in (
            "debt",
            "post",
            "post_byte",
            "poll",
            "poll_cqe",
            "message",
            "zero_test",
            "scan",
            "sync",
            "write",
            "register",
            "register_page",
            "deregister",
            "deregister_page",
        )
    ),
    *(
        (name, _INT, _PAIR)
        for name in ("wake_ns", "waiting", "paid", "deadline", "alarm", "channel", "value", "lost", "lost_ram")
    ),
    *((name, _INT) for name in ("stop_ns", "resume_ns")),
    # lanes and control
    *((name, _INT, _PAIR) for name in ("lane", "queue", "goal", "goal_arg", "until")),
    *((name, _INT, _PAIR) for name in ("slots_busy", "next_slot")),
    *((name, _INT, (2, 2)) for name in ("got", "got_arg")),
    *((name, _INT) for name in ("slots", "deferred", "hooked", "batch_count")),
    *((name, _INT, (4096,)) for name in ("batch", "batch_block", "batch_chunk")),
    # the destination
    *(
        (name, _INT)
        for name in ("p_state", "p_type", "p_registered", "p_bytes", "p_slot", "over_at", "blocks", "pin_all")
    ),
    ("over_debt", _FLOAT),
    # RAM
    *((name, _INT) for name in ("page_count", "dirty", "scan_at", "window_end", "cursor", "position", "cut_at")),
    *((name, _INT) for name in ("block", "registration_batch", "registered", "posted_bytes")),
    ("held", _record_of(HeldRun())),
    *((name, _INT) for name in ("completed_bytes", "pending", "max_pending")),
    # the guest
    *((name, _INT) for name in ("workload", "kind", "rate", "span", "hot", "hot_below", "log_page")),
    *((name, _INT) for name in ("writes", "told", "logging")),
    *((name, _INT) for name in ("draw_address", "random_address")),
    # the source
    *((name, _INT) for name in ("policy", "policy_address", "single_slice", "max_rounds")),
    ("parameters", PARAMETERS),
    ("convergence", _record_of(Convergence(MigrationConfig(), 0, 0))),
    ("pace", _record_of(Pace(None))),
    ("rate_limit", _record_of(RateLimit(MigrationConfig(), 0, 0))),
    ("shrinking", _record_of(Shrinking())),
    *((name, _INT) for name in ("bandwidth_bytes_s", "downtime_limit_ns", "max_bandwidth")),
    *((name, _INT) for name in ("section_open", "chunks", "out", "stream_bytes", "stop_when_flat", "hopeless")),
    *(
        (name, _INT)
        for name in ("start_bytes", "device_bytes", "ending_bytes", "patience_ns", "diverged", "source_end")
    ),
    # the trace
    *((name, _INT) for name in ("traced", "rows", "trace_address", "watch_address")),
    ("trace", _INT, (TRACE_ROWS, TRACE_COLUMNS)),
    # figures
    ("counts", _INT, (COUNTS,)),
    ("parts", _INT, (4,)),
    ("draining", _INT, (3,)),
    *((name, _INT) for name in ("rounds", "slices", "setup_end", "stopped", "pending_at_stop", "resumed_at")),
    *((name, _INT) for name in ("phase", "part_began", "forced", "remaining", "dirtied_at", "destination_end")),
    ("control_bytes", _INT),
    *((name, _GAUGE) for name in ("pending_gauge", "remaining_gauge")),
    *((name, _AMOUNT) for name in ("arrived_amount", "dirtied_amount")),
    ("waited", _AMOUNT, (3,)),  # by who asked
]

STATE = np.dtype(_FIELDS)


def new_state() -> Any:
    """A state with everything at rest, as an array of one."""
    array = np.zeros(1, STATE)
    state = array[0]
    for name in ("end", "doorbell", "deadline", "alarm", "draining", "late", "stopped", "resumed_at", "cut_at"):
        state[name] = NONE
    for name in ("stop_ns", "resume_ns", "diverged"):
        state[name] = NONE
    for name in ("pending_gauge", "remaining_gauge", "arrived_amount", "dirtied_amount", "waited"):
        state[name]["shift"] = FIRST_SHIFT
    return array


# --- compiling ---

_BYTES, _WORDS, _INTS, _TABLE = numba.uint8[::1], numba.uint64[::1], numba.int64[::1], numba.int64[:, ::1]
_TYPES: dict[Any, Any] = {
    Any: numba.from_dtype(STATE),
    int: numba.int64,
    Point: cast(Any, numba).typeof(Point.CHUNK_FULL),
    Policy: numba.from_dtype(PARAMETERS),
    Ints: _TABLE,
    Bytes: _BYTES,
    Readings: numba.int32[:, ::1],
    Memory: cast(Any, numba.types.NamedTuple)(
        (
            *(_BYTES, _WORDS, _BYTES, _WORDS, _BYTES, _INTS, _BYTES, numba.int32[::1]),
            *(_INTS, _INTS, _INTS, _TABLE, _TABLE, numba.int32[::1], numba.int32[::1]),
            *(_INTS, _INTS, _INTS, _INTS, _TABLE, _TABLE),
        ),
        Memory,
    ),
}

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function for arguments of the types it is annotated with (the state is Any), and no others.

    Left to itself numba would compile it once more for every constant it is called with. No fast maths, so that
    floats come out as Python's do.
    """
    hints = get_type_hints(function)
    hints.pop("return")
    return cast(Function, method(function, *hints.values()))


def method(function: Callable[..., Any], *hints: Any) -> Any:
    """A method of the protocol's, for arguments as annotated with these types: `self` first.

    Machine code of an entry has all in it that the entry calls: where it is at hand nothing else is compiled.
    """
    types = tuple(_TYPES[hint] for hint in hints)
    at_hand = Path(cast(Any, numba).config.CACHE_DIR, READY).exists()
    return cast(Any, numba.njit)(*(() if at_hand else (types,)), **_INNER)(function)


def entry(function: Function) -> Function:
    """The same for one that is called from outside, and kept."""
    hints = get_type_hints(function)
    hints.pop("return")
    types = tuple(_TYPES[hint] for hint in hints.values())
    return cast(Function, cast(Any, numba.njit)(types, cache=True)(function))
