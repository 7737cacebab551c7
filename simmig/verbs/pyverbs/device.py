"""Devices and contexts (module pyverbs.device)."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import Any

from simmig.verbs.pyverbs import device_attr as attrs
from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs import session
from simmig.verbs.pyverbs.addr import GID
from simmig.verbs.pyverbs.base import (
    PyverbsObject,
    PyverbsRDMAError,
    PyverbsUserError,
    Resource,
    WeakSet,
    close_all,
    only,
)
from simmig.verbs.pyverbs.device_attr import (
    AllocDmAttr,
    DeviceAttr,
    DeviceAttrEx,
    GIDEntry,
    PortAttr,
    QueryDeviceExInput,
)
from simmig.verbs.pyverbs.device_words import (
    guid_format,
    guid_to_hex,
    phys_state_to_str,
    port_state_to_str,
    speed_to_str,
    str_from_flags,
    translate_device_caps,
    translate_event_type,
    translate_gid_type,
    translate_link_layer,
    translate_mtu,
    translate_node_type,
    translate_port_cap_flags,
    translate_port_cap_flags2,
    translate_transport_type,
    width_to_str,
)
from simmig.verbs.sim import device as sim
from simmig.verbs.sim.memory import ByteSegment


class Device(PyverbsObject):
    """What the device list says of a device."""

    def __init__(self, name: bytes, guid: int, node_type: int, transport_type: int, index: int) -> None:
        self.name = name
        self.guid = guid
        self.node_type = node_type
        self.transport_type = transport_type
        self.index = index

    def __str__(self) -> str:
        return (
            f"Device {self.name.decode()}, node type {translate_node_type(self.node_type)}, "
            f"transport type {translate_transport_type(self.transport_type)}, "
            f"guid {guid_format(self.guid)}, index {self.index}"
        )


@session.in_world
def get_device_list() -> list[Device]:
    """The world's devices."""
    return [
        Device(device.name.encode(), device.guid, e.IBV_NODE_CA, e.IBV_TRANSPORT_IB, device.index)
        for device in session.world().fabric.devices.values()
    ]


@session.in_world
def rdma_get_devices() -> list[Device]:
    """The same, as rdma_cm sees them."""
    return get_device_list()


@session.in_world
def pass_time_asleep(seconds: float) -> None:
    """The program has slept: its devices were at work."""
    session.world().pass_time(int(seconds * 1e9))


class AsyncEvent(PyverbsObject):
    """An asynchronous event."""

    def __init__(self, event_type: int = 0) -> None:
        self.event_type = event_type

    def ack(self) -> None:
        """Acknowledge it."""

    def __str__(self) -> str:
        return f"{'Event Type':<24}: {translate_event_type(self.event_type):<20}\n"


class Context(Resource):
    """An open device: by `name`, of a `cmid`, or another process' or context's by its `cmd_fd`."""

    client_side = ("cmd_fd",)

    def __init__(self, **kwargs: Any) -> None:
        unknown = set(kwargs) - {"name", "attr", "cmid", "cmd_fd"}
        if unknown:
            raise PyverbsUserError(f"Context has no argument {', '.join(sorted(unknown))}")
        self._children: WeakSet[Any] = WeakSet()
        self._path: str | None = None
        self._imported = kwargs.get("cmd_fd") is not None
        if self._imported:
            self.sim = _exported(self.in_words(kwargs)["cmd_fd"])
            if not self.sim.device.profile.imports_objects:
                raise PyverbsRDMAError("Failed to import device", errno.EOPNOTSUPP)
        elif kwargs.get("cmid") is not None:
            self.sim = sim.Context(device=kwargs["cmid"].sim_device)
        elif kwargs.get("name") is None:
            raise PyverbsUserError("Device name must be provided")
        else:
            self.sim = sim.Context(device=session.world().device(kwargs["name"]))
        self.name: str = self.sim.name
        self._closed = False

    @property
    def num_comp_vectors(self) -> int:
        """Completion vectors."""
        return self.sim.num_comp_vectors

    @property
    def cmd_fd(self) -> int:
        """A file that stands for the open device: `Context(cmd_fd=...)` of it or a duplicate opens it again."""
        if "_descriptor" not in self.__dict__:
            self.__dict__["_descriptor"] = os.open(self.export(), os.O_RDONLY)
        return int(self.__dict__["_descriptor"])

    def export(self) -> str:
        """The path of that file."""
        if self._path is None:
            descriptor, self._path = tempfile.mkstemp(prefix="uverbs", dir=session.world().directory)
            os.close(descriptor)
            session.world().files[self._path] = self.sim
        return self._path

    @staticmethod
    def in_words(kwargs: dict[str, Any]) -> dict[str, Any]:
        """A descriptor as the path of its file."""
        descriptor = kwargs.get("cmd_fd")
        if not isinstance(descriptor, int):
            return kwargs
        try:
            return {**kwargs, "cmd_fd": os.readlink(f"/proc/self/fd/{descriptor}")}
        except OSError:
            raise PyverbsRDMAError("Failed to import device", errno.EINVAL) from None

    def query_device(self) -> DeviceAttr:
        """The device's limits."""
        return DeviceAttr(self.sim.query_device())

    def query_device_ex(self, ex_input: QueryDeviceExInput | None = None) -> DeviceAttrEx:
        """The same, and what came later."""
        return DeviceAttrEx(self.sim.query_device())

    def query_port(self, port_num: int) -> PortAttr:
        """The port's state and limits."""
        return PortAttr(self.sim.query_port(port_num))

    def query_pkey(self, port_num: int, index: int) -> int:
        """An entry of the P_Key table."""
        return self.sim.query_pkey(port_num, index)

    def get_pkey_index(self, port_num: int, pkey: int) -> int:
        """Where that key is in the P_Key table; raises PyverbsRDMAError when it is not."""
        if self.sim.query_pkey(port_num, 0) != pkey:
            raise PyverbsRDMAError(f"Failed to get pkey index of pkey = {pkey} of port {port_num}")
        return 0

    def query_gid(self, port_num: int, index: int) -> GID:
        """An entry of the GID table; an empty one is all zero."""
        return GID(self.sim.query_gid(port_num, index).gid)

    def query_gid_type(self, port_num: int, index: int) -> int:
        """The entry's kind, as sysfs counts: IBV_GID_TYPE_SYSFS_IB_ROCE_V1 (0) or _ROCE_V2 (1)."""
        self.sim.query_gid(port_num, index)
        kinds = self.sim.device.gid_types
        return int(index < len(kinds) and kinds[index] == e.IBV_GID_TYPE_ROCE_V2)

    def query_gid_table(self, max_entries: int, flags: int = 0) -> list[GIDEntry]:
        """All entries that are not empty; raises PyverbsRDMAError (-EINVAL) when there are more."""
        count = len(self.sim.device.gids)
        if max_entries < count:
            raise PyverbsRDMAError("Failed to query gid table", -errno.EINVAL)
        return [self.query_gid_ex(1, index) for index in range(count)]

    def query_gid_ex(self, port_num: int, gid_index: int, flags: int = 0) -> GIDEntry:
        """An entry; raises PyverbsRDMAError: ENODATA for an empty one, EINVAL beyond the table."""
        device = self.sim.device
        message = f"Failed to query gid with gid_index {gid_index} and port number {port_num}"
        if port_num != 1 or not 0 <= gid_index < device.profile.gid_table_entries or flags:
            raise PyverbsRDMAError(message, errno.EINVAL)
        if gid_index >= len(device.gids):
            raise PyverbsRDMAError(message, errno.ENODATA)
        words = device.gids[gid_index].replace(":", "")
        prefix, interface = (int.from_bytes(bytes.fromhex(half), "little") for half in (words[:16], words[16:]))
        return GIDEntry(prefix, interface, gid_index, port_num, device.gid_types[gid_index], 100 + device.index)

    def query_rt_values_ex(self, comp_mask: int = 1) -> tuple[int, int]:
        """The device's clock, in seconds and nanoseconds: the world's."""
        return divmod(session.world().now_ns, 1_000_000_000)

    def get_async_event(self) -> AsyncEvent:
        """The next asynchronous event, when there is one."""
        events = self.sim.events
        session.world().wait(lambda: events, "Failed to get async event")
        return AsyncEvent(int(events.popleft().event_type))

    def add_ref(self, obj: Any) -> None:
        """Something was made on it."""
        self._children.add(obj)

    def close(self) -> None:
        """Close the device, all that was made on it first."""
        if self._closed:
            return
        order = {"AH": 0, "MW": 1, "MR": 2, "QP": 3, "WQ": 4, "SRQ": 5, "PD": 6, "CQ": 7}
        close_all(sorted(self._children, key=lambda child: order.get(type(child).__name__, 5)))
        self._closed = True
        if not self._imported:
            self.sim.close()
        if self._path is not None:
            session.world().files.pop(self._path, None)
            os.unlink(self._path)
        descriptor = self.__dict__.pop("_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)


def _exported(path: str) -> sim.Context:
    context = session.world().files.get(path)
    if context is None:
        raise PyverbsRDMAError("Failed to import device", errno.EINVAL)
    return context


class DM(Resource):
    """Memory of the device itself (man ibv_alloc_dm(3)): read and written in words of four bytes."""

    def __init__(self, context: Context, dm_attr: AllocDmAttr | None = None, **kwargs: Any) -> None:
        only(context, Context, "context")
        device = context.sim.device
        self._imported = kwargs.get("handle") is not None
        if self._imported:
            segment = session.world().handles.get(kwargs["handle"])
            if not isinstance(segment, ByteSegment):
                raise PyverbsRDMAError("Failed to import DM", errno.ENOENT)
            self.segment, self.handle = segment, kwargs["handle"]
        else:
            length = int(dm_attr.length) if dm_attr is not None else 0
            free = device.profile.device_memory_bytes - device.device_memory_used
            if dm_attr is None or dm_attr.comp_mask or not 0 < length <= free:
                code = errno.EOPNOTSUPP if not device.profile.device_memory_bytes else errno.ENOMEM
                raise PyverbsRDMAError(
                    f"Failed to allocate device memory of size {length}. Max available size {free}", code
                )
            self.segment = ByteSegment(length)
            self.handle = session.world().register(self.segment)
            device.device_memory_used += length
        self._context: Context | None = context
        self._mrs: WeakSet[Any] = WeakSet()
        context.add_ref(self)
        self._closed = False

    def add_ref(self, obj: Any) -> None:
        """A region was registered in it."""
        self._mrs.add(obj)

    def _check(self, what: str, offset: int, length: int) -> None:
        if offset % 4 or length % 4 or offset < 0 or offset + length > self.segment.length_bytes:
            raise PyverbsRDMAError(f"Failed to copy {what} dm", errno.EINVAL)

    def copy_to_dm(self, dm_offset: int, data: bytes, length: int) -> None:
        """Write into it."""
        self._check("to", dm_offset, length)
        self.segment.dma_write(dm_offset, bytes(data[:length]))

    def copy_from_dm(self, dm_offset: int, length: int) -> bytes:
        """Read from it."""
        self._check("from", dm_offset, length)
        return bytes(self.segment.data[dm_offset : dm_offset + length])

    def unimport(self) -> None:
        """Forget it without freeing it."""
        self._closed = True

    def close(self) -> None:
        """Free it, regions in it first."""
        if self._closed:
            return
        close_all(self._mrs)
        self._closed = True
        if not self._imported and self._context is not None:
            self._context.sim.device.device_memory_used -= self.segment.length_bytes
            session.world().handles.pop(self.handle, None)
        self._context = None


ODPCaps, PCIAtomicCaps, TSOCaps, RSSCaps = attrs.ODPCaps, attrs.PCIAtomicCaps, attrs.TSOCaps, attrs.RSSCaps
PacketPacingCaps, TMCaps, CQModerationCaps = attrs.PacketPacingCaps, attrs.TMCaps, attrs.CQModerationCaps

__all__ = [
    "DM",
    "AllocDmAttr",
    "AsyncEvent",
    "CQModerationCaps",
    "Context",
    "Device",
    "DeviceAttr",
    "DeviceAttrEx",
    "GIDEntry",
    "ODPCaps",
    "PCIAtomicCaps",
    "PacketPacingCaps",
    "PortAttr",
    "QueryDeviceExInput",
    "RSSCaps",
    "TMCaps",
    "TSOCaps",
    "get_device_list",
    "guid_format",
    "guid_to_hex",
    "phys_state_to_str",
    "port_state_to_str",
    "rdma_get_devices",
    "speed_to_str",
    "str_from_flags",
    "translate_device_caps",
    "translate_event_type",
    "translate_gid_type",
    "translate_link_layer",
    "translate_mtu",
    "translate_node_type",
    "translate_port_cap_flags",
    "translate_port_cap_flags2",
    "translate_transport_type",
    "width_to_str",
]
