"""The two ends' addresses: whom a source dials, and where a destination listens."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable
from typing import Any

from simmig.verbs.api import Context
from simmig.verbs.rdma import device as devices
from simmig.verbs.rdma.binding import Binding
from simmig.verbs.rdma.cm import EventLane, RdmaConnection, new_id, resolve
from simmig.verbs.rdma.runtime import RdmaRuntime
from simmig.verbs.rdma.socket import RdmaSocket, within
from simmig.verbs.runtime import Signal

_BACKLOG = 4


class _Contexts:
    """Devices opened by name, and the connections on them: given back together."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._contexts: dict[str, Any] = {}
        self._connections: list[RdmaConnection] = []

    def open(self, name: str) -> Context:
        """The device, opened once."""
        if name not in self._contexts:
            devices.check(self._binding, name)
            self._contexts[name] = self._binding.Context(name=name)
        context: Context = self._contexts[name]
        return context

    def add(self, connection: RdmaConnection) -> RdmaConnection:
        """Remember a connection."""
        self._connections.append(connection)
        return connection

    @property
    def device(self) -> str | None:
        """The first device that was opened."""
        return next(iter(self._contexts), None)

    @property
    def used(self) -> bool:
        """Whether there is any connection, established or not."""
        return bool(self._connections)

    @property
    def peer_data(self) -> bytes | None:
        """The private data of the first peer that sent any."""
        return next((each.private_data for each in self._connections if each.private_data), None)

    @property
    def connected(self) -> bool:
        """Whether any of the connections was ever established."""
        return any(connection.established for connection in self._connections)

    def close(self) -> None:
        """Give everything back; queue pairs and regions must be gone."""
        for connection in self._connections:
            connection.close()
        for context in self._contexts.values():
            context.close()
        self._connections.clear()
        self._contexts.clear()


class RdmaDialer:
    """Implements `simmig.verbs.runtime.Dialer`: the way to `ip`:`port`, from `device` or where the routes lead.

    The byte stream goes to the same port number of TCP.
    """

    def __init__(
        self, binding: Binding, runtime: RdmaRuntime, ip: str, port: int, device: str | None = None
    ) -> None:
        self._binding = binding
        self._runtime = runtime
        self._ip = ip
        self._port = port
        self._source_ip: str | None = None
        self._device = device
        if device is not None:
            devices.check(binding, device)
            self._source_ip = devices.address(binding, device).ip
        self._contexts = _Contexts(binding)
        self._sockets: list[RdmaSocket] = []

    async def dial(self, timeout_ns: int) -> RdmaConnection:
        """Resolve address and route; raises TimeoutError or OSError."""
        lane, cmid = await resolve(self._binding, self._runtime, self._source_ip, self._ip, self._port, timeout_ns)
        try:
            context = self._contexts.open(cmid.dev_name)
        except BaseException:
            cmid.close()
            lane.close()
            raise
        return self._contexts.add(RdmaConnection(lane, cmid, context, f"{self._ip}:{self._port}"))

    @property
    def device(self) -> str | None:
        """The device that is dialled from, as soon as that is known."""
        return self._device or self._contexts.device

    @property
    def peer_data(self) -> bytes | None:
        """The private data of the destination, over RDMA."""
        return self._contexts.peer_data

    @property
    def connected(self) -> bool:
        """Whether a connection was ever established."""
        return bool(self._sockets) or self._contexts.connected

    async def dial_socket(self, timeout_ns: int) -> RdmaSocket:
        """Open a byte stream; raises TimeoutError or OSError."""
        raw = sockets.socket(sockets.AF_INET6 if ":" in self._ip else sockets.AF_INET)
        raw.setblocking(False)
        try:
            if self._source_ip is not None:
                raw.bind((self._source_ip, 0))
            connecting = asyncio.get_running_loop().sock_connect(raw, (self._ip, self._port))
            await within(timeout_ns, connecting, f"connecting to {self._ip}:{self._port}")
        except BaseException:
            raw.close()
            raise
        opened = RdmaSocket(raw)
        self._sockets.append(opened)
        return opened

    def close(self) -> None:
        """Give everything back. Again is a no-op."""
        for opened in self._sockets:
            opened.close()
        self._contexts.close()


class RdmaListener:
    """Implements `simmig.verbs.runtime.Listener` on `ip`:`port`, for connections and for byte streams.

    An event does not say which connection it is about, so every connection needs an event channel to itself: the
    one its request came on stays its own, and the listening moves to a new one.
    """

    def __init__(self, binding: Binding, runtime: RdmaRuntime, ip: str, port: int) -> None:
        self._binding = binding
        self._runtime = runtime
        self._ip = ip
        self._port = port
        self._contexts = _Contexts(binding)
        self._sockets: list[RdmaSocket] = []
        self.cancel: Signal | None = None  # looked at once a source has come
        self._closed = False
        self._lane: EventLane
        self._cmid: Any
        self._listen()
        try:
            self._server = sockets.create_server((ip, port), family=_family(ip), backlog=_BACKLOG)
        except OSError:
            self._unlisten()
            raise
        self._server.setblocking(False)

    async def request(self, deadline_ns: int | None = None) -> RdmaConnection:
        """The next connection request; raises TimeoutError at the deadline."""
        what = f"waiting for a source on {self._ip}:{self._port}"
        timeout_ns = None if deadline_ns is None else max(1, deadline_ns - self._runtime.now_ns())
        private_data, child = await self._lane.expect(what, ("CONNECT_REQUEST",), timeout_ns)
        lane, listening = self._lane, self._cmid
        lane.make_child = None
        context = self._contexts.open(child.dev_name)
        listening.close()  # its requests that nobody took go with it
        self._listen()
        return self._contexts.add(RdmaConnection(lane, child, context, f"{self._ip}:{self._port}", private_data))

    async def socket(self, deadline_ns: int | None = None) -> RdmaSocket:
        """The next byte stream; raises TimeoutError at the deadline."""
        what = f"waiting for a source on {self._ip}:{self._port}"
        timeout_ns = None if deadline_ns is None else max(1, deadline_ns - self._runtime.now_ns())
        accepting = asyncio.get_running_loop().sock_accept(self._server)
        raw, _ = await within(timeout_ns, accepting, what)
        opened = RdmaSocket(raw)
        self._sockets.append(opened)
        return opened

    def refuse_others(self) -> None:
        """Reject every connection request from now on."""
        self._lane.refuse_requests()

    @property
    def device(self) -> str | None:
        """The device that a source came to, over RDMA."""
        return self._contexts.device

    @property
    def peer_data(self) -> bytes | None:
        """The private data of the source that came first, over RDMA."""
        return self._contexts.peer_data

    @property
    def visited(self) -> bool:
        """Whether a source has come, be it that nothing became of it."""
        return bool(self._sockets) or self._contexts.used

    def close(self) -> None:
        """Stop listening and give everything back. Again is a no-op."""
        if self._closed:
            return
        self._closed = True
        for opened in self._sockets:
            opened.close()
        self._server.close()
        self._unlisten()
        self._contexts.close()

    def _listen(self) -> None:
        binding = self._binding
        what = f"listening on {self._ip}:{self._port}"
        lane, cmid = new_id(binding, what)
        try:
            where = binding.AddrInfo(
                src=self._ip,
                src_service=str(self._port),
                port_space=binding.cm_enums.RDMA_PS_TCP,
                flags=binding.cm_enums.RAI_PASSIVE,
            )
            cmid.bind_addr(where)
            cmid.listen(_BACKLOG)
        except binding.PyverbsError as error:
            cmid.close()
            lane.close()
            raise OSError(f"{what}: {error}") from error
        lane.make_child = _child_of(binding, cmid)
        self._lane, self._cmid = lane, cmid

    def _unlisten(self) -> None:
        self._cmid.close()
        self._lane.close()


def _child_of(binding: Binding, listening: Any) -> Callable[[Any], Any]:
    return lambda event: binding.CMID(creator=event, listen_id=listening)


def _family(ip: str) -> sockets.AddressFamily:
    return sockets.AF_INET6 if ":" in ip else sockets.AF_INET
