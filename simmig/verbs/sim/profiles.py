"""What is particular about a device, as data. The model asks for the fact it needs, never for a name.

Sources: Linux drivers/infiniband/sw/rxe/rxe_param.h, rdma-core providers/rxe and providers/mlx5, and for the rxe
window a run on soft-RoCE: 22.9 MB/s over a 10 ms round trip with packets of 4096 bytes.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from simmig.verbs import ProfileName

PSN_WINDOW_PACKETS = 1 << 23
"""Half the 24-bit packet numbers: with more in flight, new and duplicate could not be told apart (R40, R41)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The facts in which devices differ; the defaults are the specification's."""

    name: ProfileName
    slots_free_at_ack: bool = False
    """Queue slots come free at the acknowledgement; else when a completion is polled that retires them (R14)."""
    queues_round_to_power_of_two: bool = False
    queue_reserved_slots: int = 0
    """Slots of a rounded queue that cannot be used."""
    completion_queues_reserve_slots: int = 0
    overrun_kills_cq: bool = True
    """On overrun the CQ is dead and takes its QPs along (R24); else the completion is lost, and a QP with a lost
    receive completion enters ERR."""
    reset_purges_completions: bool = True
    """Entering RESET takes the QP's completions out of its CQs (R21)."""
    window_packets: int = PSN_WINDOW_PACKETS
    """Packets of a queue pair on their way or not yet acknowledged, at most."""
    timer_tick_ns: int = 1
    """Timers fire on multiples of this."""
    retry_count_seven_is_infinite: bool = False
    """retry_cnt 7 never gives up (R38)."""
    max_message_bytes: int = 1 << 31
    max_inline_bytes: int = 1024
    max_work_requests: int = 1 << 15
    max_sges: int = 32
    max_completions: int = 1 << 22
    inline_shares_sge_room: bool = False
    """Inline data and gather elements lie in the same bytes of a slot: room for one is room for the other."""
    oversized_send_errno: int = errno.EINVAL
    """Posting a send with too many elements or too much inline data (R10, R11)."""
    checks_read_response_length: bool = True
    """A response packet not of the path MTU's size is LOC_LEN_ERR; else only packet numbers count."""
    tells_true_capacities: bool = True
    """Capacities granted are those that the queues have (R9); else those asked for are told at creation, and the
    true ones by a query."""
    takes_inline_reads: bool = False
    takes_any_incoming_reads: bool = False
    """max_dest_rd_atomic is not held against what the device has."""
    error_from_reset: bool = True
    """ERR can be entered from RESET (R4); Linux' own table of transitions does not know that way."""
    flushes_receives_posted_in_error: bool = True
    solicited_fires_for_errors: bool = True
    """A notification for solicited completions only fires for an error too (R28)."""
    bad_key_status: int = 4
    """Sending from memory with a bad key, receiving into memory that does not take it: LOC_PROT_ERR (R33)."""
    long_message_is_operation_error: bool = False
    """A message longer than its receive: LOC_QP_OP_ERR there, REM_OP_ERR at the sender."""
    destruction_purges_completions: bool = False
    """Destroying a queue pair takes its completions out of its CQs, as rdma-core's providers/mlx5 does."""
    max_outstanding_reads: int = 128
    has_atomic_writes: bool = False
    """Atomic writes of eight bytes (man ibv_wr_post(3); IBA volume 1, annex A19)."""
    stops_only_sending: bool = True
    """A send's error puts a queue pair that promises nothing in SQE, where it still receives; else in ERR."""
    reregisters_regions: bool = True
    imports_objects: bool = True
    """Contexts, domains and regions can be imported (man ibv_import_device(3))."""
    has_parent_domains: bool = True
    """man ibv_alloc_parent_domain(3)."""
    blocks_own_multicast: bool = False
    """A UD queue pair may be made with IBV_QP_CREATE_BLOCK_SELF_MCAST_LB; none here hears itself in any case."""
    max_mr_bytes: int = (1 << 64) - 1
    gid_table_entries: int = 16
    has_roce_v1: bool = False
    """Each GID has a row of RoCE v1 before that of v2."""
    device_memory_bytes: int = 0
    """Memory of its own (man ibv_alloc_dm(3))."""
    vendor_id: int = 0xFFFF
    vendor_part_id: int = 0

    def queue_slots(self, asked: int) -> int:
        """What a work queue grants when that many are asked for (R9)."""
        return self._rounded(asked, self.queue_reserved_slots)

    def completion_slots(self, asked: int) -> int:
        """What a completion queue grants when that many are asked for (R23)."""
        return self._rounded(asked, self.completion_queues_reserve_slots)

    def _rounded(self, asked: int, reserved: int) -> int:
        if not self.queues_round_to_power_of_two:
            return asked
        slots = 1
        while slots - reserved < asked:
            slots *= 2
        return slots - reserved


IDEAL = Profile(name="ideal", device_memory_bytes=128 * 1024, has_atomic_writes=True)

RXE = Profile(
    name="rxe",
    slots_free_at_ack=True,
    queues_round_to_power_of_two=True,
    queue_reserved_slots=1,
    completion_queues_reserve_slots=1,
    overrun_kills_cq=False,
    reset_purges_completions=False,
    window_packets=64,
    timer_tick_ns=4_000_000,  # a jiffy of Debian's kernels (HZ=250)
    retry_count_seven_is_infinite=True,
    max_message_bytes=8 * 1024 * 1024,
    max_inline_bytes=400,
    inline_shares_sge_room=True,
    tells_true_capacities=False,
    takes_inline_reads=True,
    takes_any_incoming_reads=True,
    error_from_reset=False,
    flushes_receives_posted_in_error=False,
    solicited_fires_for_errors=False,
    bad_key_status=2,
    long_message_is_operation_error=True,
    gid_table_entries=1024,
    vendor_id=0xFFFFFF,
    checks_read_response_length=False,
    stops_only_sending=False,
    reregisters_regions=False,  # nor has Linux 6.12, asked by rdma-core 44
    imports_objects=False,
    has_parent_domains=False,
    max_work_requests=1 << 20,
    max_sges=32,
    max_completions=(1 << 15) - 1,
    max_outstanding_reads=128,
)

MLX5 = Profile(
    name="mlx5",
    queues_round_to_power_of_two=True,
    completion_queues_reserve_slots=1,
    max_message_bytes=1 << 30,
    max_inline_bytes=956,
    oversized_send_errno=errno.ENOMEM,
    destruction_purges_completions=True,
    blocks_own_multicast=True,
    gid_table_entries=256,
    has_roce_v1=True,
    device_memory_bytes=128 * 1024,
    max_work_requests=1 << 15,
    max_sges=30,
    max_completions=(1 << 22) - 1,
    max_outstanding_reads=16,
    vendor_id=0x02C9,
    vendor_part_id=4119,
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (IDEAL, RXE, MLX5)}
"""By the names that scenarios use."""
