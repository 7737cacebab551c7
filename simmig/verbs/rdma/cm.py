"""Connections by the RDMA connection manager: how a queue pair of our own gets from RESET to RTS.

Everything is asynchronous: each connection has an event channel of its own, watched by the loop from the beginning
to the end, so that a disconnect is noticed in whatever the migration is waiting for.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable
from typing import Any

from simmig.verbs.api import Context, QPHandle
from simmig.verbs.rdma.binding import Binding, cm_channel
from simmig.verbs.rdma.runtime import RdmaRuntime, Waiters
from simmig.verbs.runtime import PEER_LEFT

INITIATOR_DEPTH = 2
RESPONDER_RESOURCES = 2
RETRY_COUNT = 5
RNR_RETRY_COUNT = 0
"""QEMU's: a SEND that finds no RECV breaks the connection."""
ACCEPT_TIMEOUT_NS = 10_000_000_000
_RESOLVE_TRY_MS = 1000
"""Linux was seen to look for the answer to its ARP request only when the time it was given is over."""
_NS = 1_000_000_000


class Unreachable(TimeoutError):
    """Nobody answered the connection manager."""


class EventLane:
    """An event channel: its events in the order they come, and who waits for the next."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.channel, self._descriptor = cm_channel(binding)
        self._names: dict[int, str] = {
            value: name.removeprefix("RDMA_CM_EVENT_")
            for name in dir(binding.cm_enums)
            if name.startswith("RDMA_CM_EVENT_") and isinstance(value := getattr(binding.cm_enums, name), int)
        }
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._readable)
        self._arrived = asyncio.Event()
        self._events: list[tuple[str, bytes, Any]] = []
        self.on_event: Callable[[str], None] | None = None
        self.make_child: Callable[[Any], Any] | None = None

    async def expect(self, what: str, names: tuple[str, ...], timeout_ns: int | None) -> tuple[bytes, Any]:
        """The next event, which must be one of these: its private data, and the id that a request brought.

        Raises ConnectionRefusedError, ConnectionError or TimeoutError, saying `what` it was that failed.
        """
        try:
            async with asyncio.timeout(None if timeout_ns is None else timeout_ns / _NS):
                while not self._events:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"{what}: no answer within {(timeout_ns or 0) / _NS:g} s") from None
        name, data, child = self._events.pop(0)
        if name in names:
            return data, child
        if name == "REJECTED":
            raise ConnectionRefusedError(f"{what}: refused; nobody listens there, or the peer rejected it")
        if name in ("UNREACHABLE", "ADDR_ERROR", "ROUTE_ERROR"):
            raise Unreachable(f"{what}: the peer cannot be reached ({name})")
        raise ConnectionError(f"{what}: the connection manager reported {name}")

    def refuse_requests(self) -> None:
        """Reject every connection request from now on."""

        def refuse(_: str) -> None:
            while self._events:
                child = self._events.pop(0)[2]
                if child is not None:
                    with contextlib.suppress(self.binding.PyverbsError):  # whoever asked has left
                        child.reject()
                    child.close()

        self.on_event = refuse
        refuse("")

    def close(self) -> None:
        """Stop watching and destroy the channel; every id on it must be gone."""
        self._loop.remove_reader(self._descriptor)
        self.channel.close()

    def _readable(self) -> None:
        """Take all events there are."""
        while True:
            try:
                event = self.binding.CMEvent(self.channel)
            except self.binding.PyverbsError as error:
                if getattr(error, "error_code", errno.EAGAIN) != errno.EAGAIN:
                    self._loop.remove_reader(self._descriptor)
                    self._take("DEVICE_REMOVAL", b"", None)
                return
            name = self._names.get(event.event_type, str(event.event_type))
            data = event.private_data if name in ("CONNECT_REQUEST", "CONNECT_RESPONSE") else b""
            child = self.make_child(event) if name == "CONNECT_REQUEST" and self.make_child is not None else None
            event.ack_cm_event()
            self._take(name, data, child)

    def _take(self, name: str, data: bytes, child: Any) -> None:
        self._events.append((name, data, child))
        self._arrived.set()
        if self.on_event is not None:
            self.on_event(name)


class RdmaConnection(Waiters):
    """Implements `simmig.verbs.runtime.Connection`. `close` gives its id back, once its queue pair is gone."""

    def __init__(
        self, lane: EventLane, cmid: Any, context: Context, where: str, private_data: bytes = b""
    ) -> None:
        super().__init__()
        self.context = context
        self.private_data = private_data
        self.lost = ""
        self._binding = lane.binding
        self._lane = lane
        self._cmid = cmid
        self._where = where
        self.established = False
        self._up = False
        self._closed = False
        lane.on_event = self._event

    @property
    def ready(self) -> bool:
        """Whether it is lost."""
        return bool(self.lost)

    def prepare(self, qp: QPHandle) -> None:
        """Bring the queue pair to INIT, so that receives may be posted."""
        self._modify(qp, "IBV_QPS_INIT")

    async def connect(self, qp: QPHandle, private_data: bytes, timeout_ns: int) -> bytes:
        """Ask for a connection; returns the peer's private data, padded with zeros, once the queue pair is in RTS.

        Raises ConnectionRefusedError, ConnectionError or TimeoutError.
        """
        what = f"connecting to {self._where}"
        self._call(what, lambda: self._cmid.connect(self._parameters(qp, private_data)))
        self.private_data, _ = await self._lane.expect(what, ("CONNECT_RESPONSE", "ESTABLISHED"), timeout_ns)
        self._make_ready(qp)
        self._call(what, self._cmid.establish)
        self._up = self.established = True
        return self.private_data

    async def accept(self, qp: QPHandle, private_data: bytes) -> None:
        """Accept the peer's request; returns once the connection is established."""
        what = f"accepting a connection on {self._where}"
        self._make_ready(qp)
        self._call(what, lambda: self._cmid.accept(self._parameters(qp, private_data)))
        self._up = True  # from here on a disconnect is one
        await self._lane.expect(what, ("ESTABLISHED",), ACCEPT_TIMEOUT_NS)

    def reject(self) -> None:
        """Turn the peer's request down."""
        self._call("rejecting a connection", self._cmid.reject)

    def disconnect(self) -> None:
        """Take the connection down; the peer sees `lost`. Again is a no-op."""
        if self._up:
            self._up = False
            self._lose("disconnected by this side")
            with contextlib.suppress(self._binding.PyverbsError):  # the peer was faster
                self._cmid.disconnect()

    def close(self) -> None:
        """Destroy the id and its event channel. Again is a no-op."""
        if not self._closed:
            self._closed = True
            self.disconnect()
            self._cmid.close()
            self._lane.close()

    def _parameters(self, qp: QPHandle, private_data: bytes) -> Any:
        parameters = self._binding.ConnParam(
            resources=RESPONDER_RESOURCES,
            depth=INITIATOR_DEPTH,
            retry=RETRY_COUNT,
            rnr_retry=RNR_RETRY_COUNT,
            qp_num=qp.qp_num,
            data_len=len(private_data),
        )
        parameters.set_private_data(private_data)
        return parameters

    def _make_ready(self, qp: QPHandle) -> None:
        """Bring the queue pair to RTS.

        By way of INIT once more: what the peer may do here (R31) the connection manager tells only now, and
        without it the empty writes of a waiting peer are refused.
        """
        for state in ("IBV_QPS_INIT", "IBV_QPS_RTR", "IBV_QPS_RTS"):
            self._modify(qp, state)

    def _modify(self, qp: QPHandle, state: str) -> None:
        def modify() -> None:
            attributes, mask = self._cmid.init_qp_attr(getattr(self._binding.enums, state))
            qp.modify(attributes, mask)  # type: ignore[attr-defined]

        self._call(f"bringing the queue pair to {state.rpartition('_')[2]}", modify)

    def _call(self, what: str, function: Callable[[], object]) -> None:
        try:
            function()
        except self._binding.PyverbsError as error:
            raise ConnectionError(f"{what}: {error}") from error

    def _event(self, name: str) -> None:
        if name == "DISCONNECTED" and self._up:
            self._lose(PEER_LEFT)
        elif name == "DEVICE_REMOVAL":
            self._lose("the device was removed")

    def _lose(self, why: str) -> None:
        if not self.lost:
            self.lost = why
            self.wake_waiters()


def new_id(binding: Binding, what: str) -> tuple[EventLane, Any]:
    """An event channel and an id on it; raises OSError, saying `what` it was for."""
    try:
        lane = EventLane(binding)
    except binding.PyverbsError as error:
        raise OSError(f"{what}: {error}") from error
    try:
        return lane, binding.CMID(creator=lane.channel)
    except binding.PyverbsError as error:
        lane.close()
        raise OSError(f"{what}: {error}") from error


async def resolve(
    binding: Binding, runtime: RdmaRuntime, source_ip: str | None, ip: str, port: int, timeout_ns: int
) -> tuple[EventLane, Any]:
    """An id with address and route resolved: it knows its device. Raises TimeoutError or OSError."""
    deadline_ns = runtime.now_ns() + timeout_ns
    what = f"resolving {ip}"
    lane, cmid = new_id(binding, what)
    try:
        where = binding.AddrInfo(
            src=source_ip, dst=ip, dst_service=str(port), port_space=binding.cm_enums.RDMA_PS_TCP
        )
        while True:
            cmid.resolve_addr(where, _RESOLVE_TRY_MS)
            try:
                await lane.expect(what, ("ADDR_RESOLVED",), max(1, deadline_ns - runtime.now_ns()))
                break
            except Unreachable:
                if runtime.now_ns() >= deadline_ns:
                    raise
        cmid.resolve_route(_RESOLVE_TRY_MS)
        await lane.expect(what, ("ROUTE_RESOLVED",), max(1, deadline_ns - runtime.now_ns()))
    except BaseException as error:
        cmid.close()
        lane.close()
        if isinstance(error, binding.PyverbsError):
            raise OSError(f"{what}: {error}") from error
        raise
    return lane, cmid
