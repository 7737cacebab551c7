"""Completion channels, queues and completions (module pyverbs.cq)."""

from __future__ import annotations

import errno
import os
from typing import Any

from simmig.verbs.pyverbs import session
from simmig.verbs.pyverbs.base import (
    PyverbsObject,
    PyverbsRDMAError,
    Resource,
    WeakSet,
    c_number,
    close_all,
    lines,
    only,
)
from simmig.verbs.pyverbs.cq_words import (
    cqe_flags_to_str,
    cqe_opcode_to_str,
    cqe_status_to_str,
    create_wc_flags_to_str,
    flags_to_str,
)
from simmig.verbs.pyverbs.device import Context
from simmig.verbs.pyverbs.pd import PD
from simmig.verbs.pyverbs.wakeup import Wakeup
from simmig.verbs.sim import cq as sim

_EMPTY = 2  # what ibv_start_poll returns: ENOENT
_ALL_WC_FLAGS = 0x7F  # IBV_WC_STANDARD_FLAGS; what else there is needs clocks and tags that the device has not


class CompChannel(Resource):
    """Where completion events arrive."""

    client_side = ("fd",)

    def __init__(self, context: Context) -> None:
        self._wakeup: Wakeup | None = None
        self._context: Context | None = only(context, Context, "context")
        self.sim = sim.CompChannel(context.sim)
        self._cqs: WeakSet[Any] = WeakSet()
        context.add_ref(self)
        self._closed = False

    def get_cq_event(self, expected_cq: Any) -> None:
        """Wait for the next event, which must be that CQ's; one of another's is not counted there either."""
        events = self.sim.events
        session.world().wait(lambda: events, "Failed to get CQ event")
        try:
            self.sim.get_cq_event(expected_cq.sim)
        finally:
            self.settle_fd()

    @property
    def fd(self) -> int:
        """A file to wait for with select or poll: readable while an event waits. Time then passes as real time."""
        if "_descriptor" not in self.__dict__:
            self.__dict__["_descriptor"] = os.open(self.export(), os.O_RDONLY | os.O_NONBLOCK)
        return int(self.__dict__["_descriptor"])

    def export(self) -> str:
        """The path of that file."""
        if self._wakeup is None:
            self._wakeup = Wakeup(session.world().directory)
            self.sim.posted = self.settle_fd
            self.settle_fd()
            session.world().keep_pace(self)
        return self._wakeup.path

    def settle_fd(self) -> None:
        """Have the file tell what is so."""
        if self._wakeup is not None:
            self._wakeup.tell(bool(self.sim.events))

    def add_ref(self, obj: Any) -> None:
        """A CQ reports here."""
        self._cqs.add(obj)

    def close(self) -> None:
        """Destroy it, its CQs first."""
        if self._closed:
            return
        close_all(self._cqs)
        self._closed = True
        self.sim.close()
        self._context = None
        if self._wakeup is not None:
            session.world().lose_pace(self)
            self._wakeup.close()
            self._wakeup = None
        descriptor = self.__dict__.pop("_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)


class _Queue(Resource):
    """What plain and extended CQs share."""

    def _make(
        self, context: Context, cqe: int, cq_context: Any, channel: CompChannel | None, comp_vector: int
    ) -> None:
        only(context, Context, "context")
        self.context: Context | None = context
        self._channel = channel
        self.sim = sim.CQ(context.sim, cqe, cq_context, None if channel is None else channel.sim, comp_vector)
        self.handle = session.world().register(self.sim)
        self._users: WeakSet[Any] = WeakSet()
        context.add_ref(self)
        if channel is not None:
            channel.add_ref(self)
        self._closed = False

    @property
    def comp_channel(self) -> CompChannel | None:
        """The channel it reports to."""
        return self._channel

    @property
    def cqe(self) -> int:
        """Its depth."""
        return self.sim.cqe

    @property
    def num_events(self) -> int:
        """Events not acknowledged."""
        return self.sim.num_events

    def add_ref(self, obj: Any) -> None:
        """Something completes here."""
        self._users.add(obj)

    def req_notify(self, solicited_only: bool = False) -> None:
        """Ask for one event."""
        self.sim.req_notify(bool(solicited_only))

    def ack_events(self, num_events: int) -> None:
        """Acknowledge events taken."""
        self.sim.ack_events(c_number(num_events, 32))

    def resize(self, cqe: int) -> None:
        """Change its depth; what is under way has its time to complete first, as for a poll."""
        world = session.world()
        world.pass_time(world.idle_ns)
        self.sim.resize(int(cqe))

    def _take(self, count: int) -> list[sim.WC]:
        """Up to that many completions; an empty queue first lets time pass."""
        entries = self.sim.entries
        if not entries:
            world = session.world()
            world.pass_time(world.idle_ns, lambda: self.sim.entries)
        return self.sim.take(count)

    def close(self) -> None:
        """Destroy it, its queue pairs first; events taken are acknowledged."""
        if self._closed:
            return
        close_all(self._users)
        if self.sim.num_events:
            self.sim.ack_events(self.sim.num_events)
        world = session.world()
        taken = self.sim
        if taken.events_taken != taken.events_acknowledged:
            world.wait(
                lambda: taken.events_taken == taken.events_acknowledged,
                f"Failed to close CQ: {taken.events_taken} events taken, {taken.events_acknowledged} acknowledged",
            )
        self._closed = True
        self.sim.close()
        self.context = None
        if self._channel is not None:
            self._channel.settle_fd()
        self._channel = None


class CQ(_Queue):
    """A completion queue."""

    def __init__(
        self,
        context: Context,
        cqe: int,
        cq_context: Any = None,
        channel: CompChannel | None = None,
        comp_vector: int = 0,
    ) -> None:
        if channel is not None:
            only(channel, CompChannel, "channel")
        self._make(context, int(cqe), cq_context, channel, comp_vector)

    def poll(self, num_entries: int = 1) -> tuple[int, list[WC]]:
        """Take up to that many completions.

        An empty queue lets time pass first: up to the next completion in it, a millisecond at most.
        """
        found = [WC.of(completion) for completion in self._take(int(num_entries))] if num_entries > 0 else []
        return len(found), found

    def __str__(self) -> str:
        return "CQ\n" + lines(("Handle", self.handle), ("CQEs", self.cqe))


class CqInitAttrEx(PyverbsObject):
    """What an extended CQ is made of."""

    def __init__(
        self,
        cqe: int = 100,
        channel: CompChannel | None = None,
        comp_vector: int = 0,
        wc_flags: int = 0,
        comp_mask: int = 0,
        flags: int = 0,
        parent_domain: PD | None = None,
    ) -> None:
        self.cqe = cqe
        self.comp_channel = channel
        self.comp_vector = comp_vector
        self.wc_flags = wc_flags
        self.comp_mask = comp_mask
        self.flags = flags
        self.parent_domain = parent_domain
        self.cq_context: Any = None

    def __str__(self) -> str:
        return lines(
            ("Number of CQEs", self.cqe),
            ("WC flags", create_wc_flags_to_str(self.wc_flags)),
            ("comp mask", self.comp_mask),
            ("flags", self.flags),
        )


class CQEX(_Queue):
    """An extended CQ, read one completion after the other."""

    def __init__(self, context: Context, init_attr: CqInitAttrEx | None = None) -> None:
        attr = init_attr or CqInitAttrEx()
        if int(attr.wc_flags) & ~_ALL_WC_FLAGS or int(attr.flags) & ~3:
            raise PyverbsRDMAError("Failed to create extended CQ", errno.EOPNOTSUPP)
        self._make(context, int(attr.cqe), attr.cq_context, attr.comp_channel, attr.comp_vector)
        if attr.parent_domain is not None:
            attr.parent_domain.add_ref(self)
        self._current: sim.WC | None = None

    def start_poll(self, attr: PollCqAttr | None = None) -> int:
        """Look at the next completion: 0, or ENOENT when there is none."""
        return self.poll_next()

    def poll_next(self) -> int:
        """The same, for those behind it."""
        found = self._take(1)
        if not found:
            return _EMPTY
        self._current = found[0]
        return 0

    def end_poll(self) -> None:
        """No more for now."""

    def _read(self, name: str) -> int:
        return int(getattr(self._current, name)) if self._current is not None else 0

    @property
    def status(self) -> int:
        """The completion's status."""
        return self._read("status")

    @property
    def wr_id(self) -> int:
        """The number its work request was given."""
        return self._read("wr_id")

    def read_opcode(self) -> int:
        """What completed."""
        return self._read("opcode")

    def read_vendor_err(self) -> int:
        """The device's own word."""
        return self._read("vendor_err")

    def read_byte_len(self) -> int:
        """Bytes."""
        return self._read("byte_len")

    def read_imm_data(self) -> int:
        """Immediate data."""
        return self._read("imm_data")

    def read_qp_num(self) -> int:
        """The queue pair."""
        return self._read("qp_num")

    def read_src_qp(self) -> int:
        """The sender's, of a datagram."""
        return self._read("src_qp")

    def read_wc_flags(self) -> int:
        """Flags."""
        return self._read("wc_flags")

    def read_slid(self) -> int:
        """0 on Ethernet."""
        return self._read("slid")

    def read_sl(self) -> int:
        """Service level."""
        return self._read("sl")

    def read_dlid_path_bits(self) -> int:
        """0 on Ethernet."""
        return self._read("dlid_path_bits")

    def __str__(self) -> str:
        return "Extended CQ:\n" + lines(("Handle", self.handle), ("CQEs", self.cqe))


class WC(PyverbsObject):
    """A completion."""

    def __init__(
        self,
        wr_id: int = 0,
        status: int = 0,
        opcode: int = 0,
        vendor_err: int = 0,
        byte_len: int = 0,
        qp_num: int = 0,
        src_qp: int = 0,
        imm_data: int = 0,
        wc_flags: int = 0,
        pkey_index: int = 0,
        slid: int = 0,
        sl: int = 0,
        dlid_path_bits: int = 0,
    ) -> None:
        self.wr_id = wr_id
        self.status = status
        self.opcode = opcode
        self.vendor_err = vendor_err
        self.byte_len = byte_len
        self.qp_num = qp_num
        self.src_qp = src_qp
        self.imm_data = imm_data
        self.wc_flags = wc_flags
        self.pkey_index = pkey_index
        self.slid = slid
        self.sl = sl
        self.dlid_path_bits = dlid_path_bits

    @classmethod
    def of(cls, found: sim.WC) -> WC:
        """The device's completion as a program's."""
        return cls(
            found.wr_id,
            found.status,
            found.opcode,
            found.vendor_err,
            found.byte_len,
            found.qp_num,
            found.src_qp,
            found.imm_data,
            found.wc_flags,
        )

    def __str__(self) -> str:
        return lines(
            ("WR ID", self.wr_id),
            ("status", cqe_status_to_str(self.status)),
            ("opcode", cqe_opcode_to_str(self.opcode)),
            ("vendor error", self.vendor_err),
            ("byte length", self.byte_len),
            ("QP num", self.qp_num),
            ("source QP", self.src_qp),
            ("WC flags", cqe_flags_to_str(self.wc_flags)),
            ("pkey index", self.pkey_index),
            ("slid", self.slid),
            ("sl", self.sl),
            ("imm_data", self.imm_data),
            ("dlid path bits", self.dlid_path_bits),
        )


class PollCqAttr(PyverbsObject):
    """How to poll an extended CQ: there is nothing to say."""

    comp_mask = 0


class WcTmInfo(PyverbsObject):
    """Tag matching's part of a completion, which there is none of."""

    tag = priv = 0


__all__ = [
    "CQ",
    "CQEX",
    "WC",
    "CompChannel",
    "CqInitAttrEx",
    "PollCqAttr",
    "WcTmInfo",
    "cqe_flags_to_str",
    "cqe_opcode_to_str",
    "cqe_status_to_str",
    "create_wc_flags_to_str",
    "flags_to_str",
]
