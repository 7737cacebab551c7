"""The world a migration runs in: a guest at each end, and the protocol as it ships."""

from __future__ import annotations

from typing import Any, cast

from simmig.guest.sim import RamSegment, SimGuest, different_pages
from simmig.migration import destination, source
from simmig.migration.policies import Policy
from simmig.trace.events import MemoryCompared
from simmig.verbs.api import Verbs
from simmig.verify import world
from simmig.verify.migration.case import Small
from simmig.verify.migration.device import MigrationVerbs
from simmig.verify.migration.thrift import Thrift
from simmig.verify.migration.watch import MigrationWatch
from simmig.verify.watch import SIDES


class MigrationWorld(world.CheckedWorld):
    """Everything of one run; `run` once, then look."""

    watch: MigrationWatch

    def __init__(self, small: Small, watch: MigrationWatch, policy: Policy) -> None:
        super().__init__(watch, small.busy_host, small.profile, small.bandwidth_bit_s, small.latency_ns, small.mtu)
        watch.touch = self._touch
        machine = small.machine()
        order = [name for name, _ in machine.blocks]
        self.guests = [
            SimGuest(self.hosts[0], self.runtimes[0], machine, emit=watch.emit),
            SimGuest(
                self.hosts[1],
                self.runtimes[1],
                machine,
                incoming=True,
                order=order[::-1] if small.reversed_blocks else order,
                emit=watch.emit,
            ),
        ]
        self.thrift = Thrift(self.guests[0])
        watch.readers.append(self.thrift)
        theirs = {block.name: block for block in self.guests[1].blocks}
        in_order = [theirs[block.name] for block in self.guests[0].blocks]
        watch.blocks = [(block.offset_bytes, block.length_bytes) for block in in_order]
        self._inflate(small)
        self.compared = False
        self._small = small
        self._policy = policy

    def run(self) -> None:
        """Both sides of the migration, to their end."""
        small, watch = self._small, self.watch
        verbs = [cast(Verbs, MigrationVerbs(watch, side)) for side in SIDES]
        migrate = source.migrate(
            small.config(),
            self.guests[0],
            verbs[0],
            self.runtimes[0],
            self.dialer,
            self._policy,
            self.cancel[0],
            watch.emit,
        )
        receive = destination.receive(
            small.config(destination=True),
            self.guests[1],
            verbs[1],
            self.runtimes[1],
            self.listener,
            self.cancel[1],
            watch.emit,
            self._compare,
        )
        self.run_sides((migrate, receive))

    def occasions(self) -> dict[str, int]:
        """Control messages may be altered as well."""
        messages = {f"{side} message": self.watch.messages[side] for side in SIDES}
        return super().occasions() | messages

    def _inflate(self, small: Small) -> None:
        """The guest gives pages back: those it says, or the last ones that its workload leaves alone."""
        guest = self.guests[0]
        if small.ballooned_from is not None:
            guest.balloon(small.ballooned_from, small.ballooned_pages)
            return
        left = min(small.ballooned_pages, sum(small.pages) - small.set_pages)
        for block in reversed(guest.blocks):
            count = min(left, block.pages)
            if count > 0:
                guest.balloon(block.first_page + block.pages - count, count)
                left -= count

    def _compare(self) -> None:
        pages = sum(block.pages for block in self.guests[0].blocks)
        self.compared = True
        different = different_pages(self.guests[0], self.guests[1])
        self.watch.emit(MemoryCompared(int(self.env.now), "destination", pages, different))

    def _touch(self, segment: Any, offset: int, clear: bool) -> None:
        """The guest writes to the page there, or clears it, now, if it runs."""
        guest = self.guests[0]
        if guest.running and isinstance(segment, RamSegment):
            for block in guest.blocks:
                mapping = self.hosts[0].memory.find(block.address, block.length_bytes)
                if mapping is not None and mapping.segment is segment:
                    page = block.first_page + offset // 4096
                    (guest.write_zeros if clear else guest.write)(page)
                    if clear:
                        self.thrift.cleared.add(page)
