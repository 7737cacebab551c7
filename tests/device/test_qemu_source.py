"""A running VM, moved by simmig between two stock QEMUs: it lives on, with the next number and no bad page."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from simmig.experiment.errors import InputError
from simmig.experiment.runs import ends
from simmig.experiment.runs.ends import Address, EndResult
from simmig.experiment.runs.ends_qemu import migrate_vm, take_hold
from simmig.experiment.runs.observe import observe
from simmig.experiment.scenario.machines import keeping, scenario_for
from simmig.guest.qemu.watch import kernel_knows
from simmig.lab import firmware
from simmig.lab.vm import BINARY, MACHINE, Vm, counted
from simmig.trace.events import AnyEvent, VmStopped
from simmig.trace.readers import Reader
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal
from tests.device import link
from tests.device.conftest import DESTINATION, SOURCE

MIB = 1 << 20
PORT = 4460
HUGE = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
IMAGE = firmware.image(MIB, working_set_bytes=4 * MIB)

pytestmark = [
    pytest.mark.usefixtures("verbs"),
    pytest.mark.skipif(shutil.which(BINARY) is None, reason=f"{BINARY} is not installed"),
    pytest.mark.skipif(not kernel_knows(), reason="the kernel has no soft-dirty pages"),
]


@dataclass
class Pair:
    source: Vm
    destination: Vm
    at: Address

    async def migrate(
        self,
        policy: str,
        settings: Sequence[str] = (),
        live: Sequence[Reader] = (),
        cancel: RdmaSignal | None = None,
    ) -> EndResult:
        qmp = self.source.monitor_socket
        scenario = scenario_for(qmp, (tuple(settings), policy, None))
        runtime = RdmaRuntime()
        return await migrate_vm(scenario, qmp, self.at, SOURCE, runtime, cancel or runtime.signal(), live)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vm-") as path:
        for name in ("a", "b"):
            (Path(path) / name).mkdir()
        yield Path(path)


@asynccontextmanager
async def pair(
    verbs: Binding, directory: Path, arguments: Sequence[str] = (), here_only: Sequence[str] = ()
) -> AsyncIterator[Pair]:
    """A VM that runs, and a QEMU that waits for it, which lacks what is `here_only`."""
    at = Address(device.address(verbs, DESTINATION).ip, PORT)
    a, b = directory / "a", directory / "b"
    async with (
        Vm(a, IMAGE, 32 * MIB, shared=True, arguments=(*arguments, *here_only)) as source,
        Vm(b, IMAGE, 32 * MIB, incoming=f"rdma:{at}", arguments=arguments) as destination,
    ):
        await source.says(2)
        yield Pair(source, destination, at)


@pytest.mark.parametrize(
    ("policy", "settings", "arguments"),
    [
        ("per-chunk", [], ["-vga", "std"]),
        ("at-switch", ["migration.pin_all=true"], []),
    ],
    ids=["dynamic", "pin-all"],
)
def test_a_running_vm_arrives_alive(
    verbs: Binding, directory: Path, policy: str, settings: list[str], arguments: list[str]
) -> None:
    async def body() -> None:
        before = link.objects()
        async with pair(verbs, directory, arguments) as both:
            result = await both.migrate(policy, settings)
            assert result.status == "completed", (result.reason, both.destination.messages)
            assert all(result.invariants.values()), result.invariants
            assert not result.source_running
            await both.destination.says(15)
            assert await both.source.status() == "paused"
            assert await both.destination.status() == "running"
            said = counted(both.source.serial, both.destination.serial)
            assert said.steps == {1}
            assert said.bad == ()
        link.assert_no_more_than(before)

    asyncio.run(body())


def test_a_simmig_keeps_a_running_vm_and_both_ends_know_all(verbs: Binding, directory: Path) -> None:
    """Each gives the other its account, so that the memory is compared and nobody waits for one."""

    async def body() -> None:
        at, saved, listening = Address(device.address(verbs, DESTINATION).ip, PORT), directory / "saved", Event()

        def receive() -> EndResult:
            scenario = scenario_for(None, ((), None, None))
            with keeping(saved, None) as kept:
                return ends.receive(
                    *(scenario, at, DESTINATION, lambda _: listening.set()),
                    sink=kept.both(None),
                    machine=kept.machine,
                )

        async with Vm(directory / "a", IMAGE, 32 * MIB, shared=True) as source:
            receiving = asyncio.create_task(asyncio.to_thread(receive))
            await asyncio.to_thread(listening.wait)
            result = await Pair(source, source, at).migrate("per-chunk")
            received = await receiving
            assert await source.status() == "paused"
        for end in (result, received):
            assert (end.status, end.remark) == ("completed", "completed"), end.reason
            assert end.memory_identical is True
            assert end.metrics.downtime_ns == result.metrics.downtime_ns > 0
        assert (saved / "machine.json").exists()

    asyncio.run(body())


@pytest.mark.parametrize("how", ["cancelled", "destination killed"])
def test_an_abort_at_the_stop_leaves_the_vm_running_here_alone(verbs: Binding, directory: Path, how: str) -> None:
    async def body() -> None:
        before = link.objects()
        async with pair(verbs, directory) as both:
            cancel = RdmaRuntime().signal()

            def abort(event: AnyEvent) -> None:
                if isinstance(event, VmStopped) and how == "cancelled":
                    cancel.set()
                elif isinstance(event, VmStopped):
                    os.kill(both.destination.pid, signal.SIGKILL)

            result = await both.migrate("per-iteration", live=[abort], cancel=cancel)
            assert result.status == ("cancelled" if how == "cancelled" else "failed"), result.reason
            assert result.source_running
            assert await both.source.status() == "running"
            await both.source.says(15)
            said = counted(both.source.serial)
            assert said.steps == {1}
            assert said.bad == ()
            if both.destination.alive:
                assert await both.destination.status() != "running"
            assert both.destination.serial == ""
        link.assert_no_more_than(before)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("here_only", "words"),
    [(("-device", "virtio-balloon-pci"), "virtio-balloon"), (("-device", "e1000"), "e1000")],
    ids=["device", "RAM block"],
)
def test_a_vm_that_the_destination_refuses_runs_on_here(
    verbs: Binding, directory: Path, here_only: tuple[str, ...], words: str
) -> None:
    async def body() -> None:
        before = link.objects()
        async with pair(verbs, directory, here_only=here_only) as both:
            result = await both.migrate("per-chunk")
            assert result.status == "failed"
            assert result.source_running
            assert "on its standard error" in result.remark
            assert await both.source.status() == "running"
            await both.source.says(15)
            said = counted(both.source.serial)
            assert said.steps == {1}
            assert said.bad == ()
            await both.destination.until(lambda: words in both.destination.messages, "why it refuses")
            assert both.destination.serial == ""
        link.assert_no_more_than(before)

    asyncio.run(body())


def test_memory_that_may_have_huge_pages_is_refused(directory: Path) -> None:
    """The kernel was seen to forget what was written to a shared huge page once it was split."""
    if not HUGE.exists() or not os.access(HUGE, os.W_OK):
        pytest.skip("the kernel has no transparent huge pages, or they are not ours to turn on")
    chosen = HUGE.read_text().partition("[")[2].partition("]")[0]
    file = Path("/dev/shm") / directory.name
    # Aligned as KVM has it, and QEMU without it only where it is asked to.
    backend = ("-object", f"memory-backend-file,id=r,size=32M,share=on,align=2M,mem-path={file}")

    async def body() -> None:
        machine = f"{MACHINE},memory-backend=r"
        async with Vm(directory / "a", IMAGE, 32 * MIB, machine=machine, arguments=backend) as vm:
            with pytest.raises(InputError, match=r"'r': it may have transparent huge pages.*echo never >"):
                await take_hold(vm.monitor_socket)
            assert await vm.status() == "running"

    HUGE.write_text("force")
    try:
        asyncio.run(body())
    finally:
        HUGE.write_text(chosen)
        file.unlink(missing_ok=True)


def test_what_a_running_vm_writes_is_observed(directory: Path) -> None:
    """The test guest walks through its working set, so that each of its writes is seen once."""

    async def body() -> None:
        async with Vm(directory / "a", IMAGE, 32 * MIB, shared=True) as vm:
            await vm.says(2)
            seen = await asyncio.to_thread(observe, vm.monitor_socket, 3_000_000_000, 200_000_000, lambda _: None)
            assert await vm.status() == "running"
            assert MIB / 4 < seen.rate_bytes_s < MIB * 3 / 2
            ram = next(block for block in seen.blocks if block.name == "pc.ram")
            first = ram.first_page + firmware.FIRST_BYTE // 4096
            hot = sum(count for _, page, count in seen.rows if first <= page < first + 1024)
            assert hot > 0.9 * seen.pages_written
            said = await vm.says(5)
            assert said.bad == ()

    asyncio.run(body())
