"""Opening and querying devices (module pyverbs.device)."""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import GID
from simmig.verbs.sim.base import NotModelled, PyverbsCM, not_modelled
from simmig.verbs.sim.fabric import current_fabric
from simmig.verbs.sim.link import PATH_MTUS
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError, PyverbsUserError

_ATOMIC_WRITE = 1 << 40  # IB_UVERBS_DEVICE_ATOMIC_WRITE, of <rdma/ib_user_verbs.h>: none of libibverbs' own names


class Device:
    """What the device list says of a device."""

    def __init__(self, name: bytes, guid: int, node_type: int, transport_type: int, index: int) -> None:
        self.name = name
        self.guid = guid
        self.node_type = node_type
        self.transport_type = transport_type
        self.index = index

    def __str__(self) -> str:
        return (
            f"Device {self.name.decode()}, node type CA, transport type IB, guid {self.guid:x}, index {self.index}"
        )


def get_device_list() -> list[Device]:
    """The devices of the fabric in use (`Fabric.use`)."""
    return [
        Device(device.name.encode(), device.guid, e.IBV_NODE_CA, e.IBV_TRANSPORT_IB, device.index)
        for device in current_fabric().devices.values()
    ]


class AsyncEvent:
    """An asynchronous event; man ibv_get_async_event(3)."""

    def __init__(self, event_type: int = 0, element: Any = None) -> None:
        self.event_type = event_type
        self.element = element
        """The CQ or QP concerned, None for a port's event (pyverbs does not tell)."""

    def ack(self) -> None:
        """Acknowledge it."""

    def __str__(self) -> str:
        return f"{'Event Type':<24}: {e.ibv_event_type(self.event_type).name:<20}\n"


class Context(PyverbsCM):
    """An open device: `Context(name="rxe0")` within `Fabric.use`, or `Fabric.open(device)`."""

    def __init__(self, **kwargs: Any) -> None:
        if any(kwargs.get(key) is not None for key in ("attr", "cmid", "cmd_fd")):
            not_modelled("opening a device other than by name")
        device = kwargs.get("device")
        if device is None:
            name = kwargs.get("name")
            if name is None:
                raise PyverbsUserError("Device name must be provided")
            device = current_fabric().devices.get(name)
            if device is None:
                raise PyverbsRDMAError(f"Failed to find device {name}")
        self.device: SimDevice = device
        self.name = device.name
        self.num_comp_vectors = 1
        self._objects: dict[PyverbsCM, None] = {}  # in the order they were made
        self._async_events: deque[AsyncEvent] = deque()
        self._closed = False
        device.contexts.append(self)

    def query_device(self) -> DeviceAttr:
        """The device's limits."""
        return DeviceAttr(self.device)

    def query_port(self, port_num: int) -> PortAttr:
        """The port's state and limits."""
        self._check_port(port_num)
        return PortAttr(self.device)

    def query_gid(self, port_num: int, index: int) -> GID:
        """An entry of the GID table: 0 is the link-local one, 1 the IPv4 one."""
        if port_num != 1 or not 0 <= index < self.device.profile.gid_table_entries:
            raise PyverbsRDMAError(f"Failed to query gid {index} of port {port_num}")
        return GID(self.device.gids[index]) if index < len(self.device.gids) else GID()

    def query_gid_type(self, port_num: int, index: int) -> int:
        """The entry's kind."""
        self.query_gid(port_num, index)
        kinds = self.device.gid_types
        return kinds[index] if index < len(kinds) else e.IBV_GID_TYPE_IB

    def query_pkey(self, port_num: int, index: int) -> int:
        """An entry of the P_Key table: the default key."""
        if port_num != 1 or index != 0:
            raise PyverbsRDMAError(f"Failed to query pkey {index} of port {port_num}")
        return 0xFFFF

    def get_async_event(self) -> AsyncEvent:
        """Take the next asynchronous event.

        While there is none, blocks by letting virtual time go on; raises PyverbsRDMAError as
        `CompChannel.get_cq_event` does where that would be for ever.
        """
        events = self._async_events
        if not events:
            self.device.block_until(lambda: bool(events), "Failed to get async event")
        return events.popleft()

    @property
    def events(self) -> deque[AsyncEvent]:
        """Asynchronous events that nobody has taken."""
        return self._async_events

    def raise_event(self, event_type: int, element: Any) -> None:
        """Queue an asynchronous event."""
        self._async_events.append(AsyncEvent(event_type, element))

    def add_ref(self, obj: PyverbsCM) -> None:
        """An object was made on this context."""
        self._objects[obj] = None

    def remove_ref(self, obj: PyverbsCM) -> None:
        """It is gone."""
        del self._objects[obj]

    def close(self) -> None:
        """Close the device; as in pyverbs, everything made on it goes first, PDs (with their QPs) before CQs."""
        if self._closed:
            return
        self._closed = True
        for obj in [*self._objects][::-1]:
            if obj in self._objects:
                obj.close()
        self.device.contexts.remove(self)

    def _check_port(self, port_num: int) -> None:
        if port_num != 1:
            raise PyverbsRDMAError(f"Failed to query port {port_num}", errno.EINVAL)


class DeviceAttr:
    """Limits of a device (man ibv_query_device(3)); what is not modelled is 0."""

    def __init__(self, device: SimDevice) -> None:
        profile: Profile = device.profile
        self.fw_version = ""
        self.node_guid = self.sys_image_guid = device.guid
        self.max_mr_size = profile.max_mr_bytes
        self.page_size_cap = 0xFFFFF000
        self.vendor_id = profile.vendor_id
        self.vendor_part_id = profile.vendor_part_id
        self.hw_ver = 0
        self.max_qp = 1 << 16
        self.max_qp_wr = profile.max_work_requests
        self.device_cap_flags = int(
            e.IBV_DEVICE_MEM_WINDOW
            | e.IBV_DEVICE_MEM_WINDOW_TYPE_2B
            | e.IBV_DEVICE_MEM_MGT_EXTENSIONS
            | e.IBV_DEVICE_RC_RNR_NAK_GEN
            | e.IBV_DEVICE_SRQ_RESIZE
            | e.IBV_DEVICE_PORT_ACTIVE_EVENT
            | e.IBV_DEVICE_SYS_IMAGE_GUID
            | e.IBV_DEVICE_CURR_QP_STATE_MOD
        )
        self.device_cap_flags_ex = self.device_cap_flags | (_ATOMIC_WRITE if profile.has_atomic_writes else 0)
        self.max_sge = self.max_sge_rd = profile.max_sges
        self.max_cq = 1 << 16
        self.max_cqe = profile.max_completions
        self.max_mr = 1 << 24
        self.max_pd = 1 << 16
        self.max_qp_rd_atom = self.max_qp_init_rd_atom = profile.max_outstanding_reads
        self.max_res_rd_atom = profile.max_outstanding_reads * self.max_qp
        self.atomic_caps = int(e.IBV_ATOMIC_HCA)
        self.max_mw = self.max_srq = self.max_ah = 1 << 15
        self.max_srq_wr = profile.max_work_requests
        self.max_srq_sge = profile.max_sges
        self.max_mcast_grp = 1 << 13
        self.max_mcast_qp_attach = 56
        self.device_memory_bytes = profile.device_memory_bytes
        self.max_pkeys = 1
        self.local_ca_ack_delay = 15
        self.phys_port_cnt = 1


class PortAttr:
    """State and limits of a port (man ibv_query_port(3))."""

    def __init__(self, device: SimDevice) -> None:
        self.state = int(device.port_state)
        self.max_mtu = int(e.IBV_MTU_4096)
        self.active_mtu = PATH_MTUS[device.mtu]
        self.gid_tbl_len = device.profile.gid_table_entries
        self.port_cap_flags = 0
        self.max_msg_sz = device.profile.max_message_bytes
        self.pkey_tbl_len = 1
        self.lid = self.sm_lid = self.lmc = self.sm_sl = 0
        self.link_layer = e.IBV_LINK_LAYER_ETHERNET
        self.flags = 0


class DM(NotModelled):
    """Device memory."""
