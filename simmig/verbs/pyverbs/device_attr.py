"""What devices and ports can do, as pyverbs tells it; users import it from `device`."""

from __future__ import annotations

from simmig.verbs.pyverbs import device_words as words
from simmig.verbs.pyverbs.base import PyverbsObject, lines
from simmig.verbs.pyverbs.utils import gid_str
from simmig.verbs.sim import device as sim

_DEVICE = (
    ("FW version", "fw_version"),
    ("Node guid", "node_guid"),
    ("Sys image GUID", "sys_image_guid"),
    ("Max MR size", "max_mr_size"),
    ("Page size cap", "page_size_cap"),
    ("Vendor ID", "vendor_id"),
    ("Vendor part ID", "vendor_part_id"),
    ("HW version", "hw_ver"),
    ("Max QP", "max_qp"),
    ("Max QP WR", "max_qp_wr"),
    ("Device cap flags", "device_cap_flags"),
    ("Max SGE", "max_sge"),
    ("Max SGE RD", "max_sge_rd"),
    ("MAX CQ", "max_cq"),
    ("Max CQE", "max_cqe"),
    ("Max MR", "max_mr"),
    ("Max PD", "max_pd"),
    ("Max QP RD atom", "max_qp_rd_atom"),
    ("Max EE RD atom", "max_ee_rd_atom"),
    ("Max res RD atom", "max_res_rd_atom"),
    ("Max QP init RD atom", "max_qp_init_rd_atom"),
    ("Max EE init RD atom", "max_ee_init_rd_atom"),
    ("Atomic caps", "atomic_caps"),
    ("Max EE", "max_ee"),
    ("Max RDD", "max_rdd"),
    ("Max MW", "max_mw"),
    ("Max raw IPv6 QPs", "max_raw_ipv6_qps"),
    ("Max raw ethy QP", "max_raw_ethy_qp"),
    ("Max mcast group", "max_mcast_grp"),
    ("Max mcast QP attach", "max_mcast_qp_attach"),
    ("Max AH", "max_ah"),
    ("Max FMR", "max_fmr"),
    ("Max map per FMR", "max_map_per_fmr"),
    ("Max SRQ", "max_srq"),
    ("Max SRQ WR", "max_srq_wr"),
    ("Max SRQ SGE", "max_srq_sge"),
    ("Max PKeys", "max_pkeys"),
    ("local CA ack delay", "local_ca_ack_delay"),
    ("Phys port count", "phys_port_cnt"),
)
_FORMATS = {
    "node_guid": words.guid_format,
    "sys_image_guid": words.guid_format,
    "max_mr_size": hex,
    "page_size_cap": hex,
    "vendor_id": hex,
    "device_cap_flags": words.translate_device_caps,
}


class DeviceAttr(PyverbsObject):
    """Limits of a device."""

    def __init__(self, known: sim.DeviceAttr) -> None:
        for _, name in _DEVICE:
            setattr(self, name, getattr(known, name, 0))
        self.device_memory_bytes: int = known.device_memory_bytes

    def __str__(self) -> str:
        fields = []
        for name, key in _DEVICE:
            value = getattr(self, key)
            fields.append((name, _FORMATS[key](value) if key in _FORMATS else value))
        return lines(*fields)


class QueryDeviceExInput(PyverbsObject):
    """What an extended query asks for."""

    def __init__(self, comp_mask: int) -> None:
        self.comp_mask = comp_mask


class ODPCaps(PyverbsObject):
    """On-demand paging: none."""

    general_caps = rc_odp_caps = uc_odp_caps = ud_odp_caps = xrc_odp_caps = 0

    def __str__(self) -> str:
        empty = words.str_from_flags(0, {})
        names = ("ODP General caps", "RC ODP caps", "UD ODP caps", "UC ODP caps", "XRC ODP caps")
        return "".join(f"{name}: {empty}\n" for name in names)


class PCIAtomicCaps(PyverbsObject):
    """Atomics towards the host's bus: none."""

    fetch_add = swap = compare_swap = 0


class TSOCaps(PyverbsObject):
    """Segmentation of raw packets: none."""

    max_tso = supported_qpts = 0


class RSSCaps(PyverbsObject):
    """Spreading of raw packets: none."""

    supported_qpts = max_rwq_indirection_tables = rx_hash_fields_mask = rx_hash_function = 0
    max_rwq_indirection_table_size = 0


class PacketPacingCaps(PyverbsObject):
    """Rate limits of a queue pair: none."""

    qp_rate_limit_min = qp_rate_limit_max = supported_qpts = 0


class TMCaps(PyverbsObject):
    """Tag matching: none."""

    max_rndv_hdr_size = max_num_tags = flags = max_ops = max_sge = 0


class CQModerationCaps(PyverbsObject):
    """Moderation of completion events: none."""

    max_cq_count = max_cq_period = 0


class DeviceAttrEx(PyverbsObject):
    """What an extended query tells."""

    completion_timestamp_mask = hca_core_clock = raw_packet_caps = max_wq_type_rq = 0

    def __init__(self, known: sim.DeviceAttr) -> None:
        self.orig_attr = DeviceAttr(known)
        self.comp_mask = 0
        self.odp_caps = ODPCaps()
        self.device_cap_flags_ex = known.device_cap_flags_ex
        self.tso_caps = TSOCaps()
        self.pci_atomic_caps = PCIAtomicCaps()
        self.rss_caps = RSSCaps()
        self.packet_pacing_caps = PacketPacingCaps()
        self.tm_caps = TMCaps()
        self.cq_mod_caps = CQModerationCaps()
        self.max_dm_size = known.device_memory_bytes
        self.phys_port_cnt_ex = known.phys_port_cnt


class AllocDmAttr(PyverbsObject):
    """How much device memory, and how aligned (log2)."""

    def __init__(self, length: int, log_align_req: int = 0, comp_mask: int = 0) -> None:
        self.length = int(length)
        self.log_align_req = log_align_req
        self.comp_mask = comp_mask


class PortAttr(PyverbsObject):
    """State and limits of a port."""

    def __init__(self, known: sim.PortAttr) -> None:
        for name in (
            "state",
            "max_mtu",
            "active_mtu",
            "gid_tbl_len",
            "port_cap_flags",
            "max_msg_sz",
            "pkey_tbl_len",
        ):
            setattr(self, name, getattr(known, name))
        self.lid, self.sm_lid, self.lmc, self.sm_sl = known.lid, known.sm_lid, known.lmc, known.sm_sl
        self.link_layer, self.flags = known.link_layer, known.flags
        self.bad_pkey_cntr = self.qkey_viol_cntr = self.subnet_timeout = self.init_type_reply = 0
        self.port_cap_flags2 = 0
        self.max_vl_num = 1
        self.active_speed_ex = 0
        self.active_width, self.active_speed = 2, 32  # 4X lanes of 25 Gbit/s
        self.phys_state = 5 if self.state == 4 else 3

    state: int
    max_mtu: int
    active_mtu: int
    gid_tbl_len: int
    port_cap_flags: int
    max_msg_sz: int
    pkey_tbl_len: int

    def __str__(self) -> str:
        return lines(
            ("Port state", words.port_state_to_str(self.state)),
            ("Max MTU", words.translate_mtu(self.max_mtu)),
            ("Active MTU", words.translate_mtu(self.active_mtu)),
            ("SM lid", self.sm_lid),
            ("Port lid", self.lid),
            ("lmc", hex(self.lmc)),
            ("Link layer", words.translate_link_layer(self.link_layer)),
            ("Max message size", hex(self.max_msg_sz)),
            ("Port cap flags", words.translate_port_cap_flags(self.port_cap_flags)),
            ("Port cap flags 2", words.translate_port_cap_flags2(self.port_cap_flags2)),
            ("max VL num", self.max_vl_num),
            ("Bad Pkey counter", self.bad_pkey_cntr),
            ("Qkey violations counter", self.qkey_viol_cntr),
            ("GID table len", self.gid_tbl_len),
            ("Pkey table len", self.pkey_tbl_len),
            ("SM sl", self.sm_sl),
            ("Subnet timeout", self.subnet_timeout),
            ("Init type reply", self.init_type_reply),
            ("Active width", words.width_to_str(self.active_width)),
            ("Active speed", words.speed_to_str(self.active_speed, self.active_speed_ex)),
            ("Phys state", words.phys_state_to_str(self.phys_state)),
            ("Flags", self.flags),
            width=24,
        )


class GIDEntry(PyverbsObject):
    """An entry of the GID table."""

    def __init__(
        self,
        subnet_prefix: int = 0,
        interface_id: int = 0,
        gid_index: int = 0,
        port_num: int = 0,
        gid_type: int = 0,
        ndev_ifindex: int = 0,
    ) -> None:
        self.gid_subnet_prefix = subnet_prefix
        self.gid_interface_id = interface_id
        self.gid_index = gid_index
        self.port_num = port_num
        self.gid_type = gid_type
        self.ndev_ifindex = ndev_ifindex

    def gid_str(self) -> str:
        """The GID as eight words."""
        return gid_str(self.gid_subnet_prefix, self.gid_interface_id)

    def __str__(self) -> str:
        return lines(
            ("GID", self.gid_str()),
            ("GID Index", self.gid_index),
            ("Port number", self.port_num),
            ("GID type", words.translate_gid_type(self.gid_type)),
            ("Ndev ifindex", self.ndev_ifindex),
            width=24,
        )
