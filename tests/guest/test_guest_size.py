from __future__ import annotations

from pathlib import Path

import pytest

from simmig.guest.machine import Machine
from simmig.guest.sim import SimGuest, different_pages
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.timeline import Timeline

MIB = 1 << 20
STATM = Path("/proc/self/statm")
MEMORY_MIB = 64 << 10  # 64 GiB: a sixteenth of the largest guest, and so are its limits


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * 4096


@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
def test_an_idle_guest_costs_four_bytes_a_page_at_its_destination_and_nothing_at_its_source() -> None:
    env = Timeline()
    machine = Machine((("pc.ram", MEMORY_MIB * MIB),))
    hosts = [Host(env, name, HostCosts()) for name in ("source", "destination")]
    begun = resident_bytes()
    source, target = (
        SimGuest(host, SimRuntime(host), machine, incoming=host.name == "destination") for host in hosts
    )
    source.start_dirty_log()
    assert different_pages(source, target) == machine.pages
    assert resident_bytes() - begun < 8 * MIB
    (read, start), (write, target_start) = (
        (host.memory.find(guest.blocks[0].address, 1), guest.blocks[0].address)
        for host, guest in zip(hosts, (source, target), strict=True)
    )
    assert read is not None
    assert write is not None
    for offset in range(0, MEMORY_MIB * MIB, MIB):
        write.write(target_start + offset, read.read(start + offset, MIB))
    assert different_pages(source, target) == 0
    assert resident_bytes() - begun < 4 * machine.pages + 8 * MIB
