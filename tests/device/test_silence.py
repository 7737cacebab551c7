"""A source with nothing to say for longer than its destination's patience: its device answers for it."""

import asyncio
from typing import Any

from simmig.guest.real import RealGuest
from simmig.migration import destination, source
from simmig.migration.control import PROBE_NS
from simmig.migration.policies import Point, Sender
from simmig.verbs.rdma.binding import Binding
from tests.device.conftest import MakeEnds, Run
from tests.device.test_two_processes import CONFIG, MACHINE

PAUSE_NS = PROBE_NS + 1_000_000_000


class SilentGuest(RealGuest):
    """A guest that takes its time to stop."""

    async def stop(self) -> None:
        if self.running:
            await self._runtime.sleep(PAUSE_NS)
        await super().stop()


class DrainEverySlice:
    def drain(self, point: Point, sender: Sender) -> int | None:
        return 0 if point is Point.SLICE_END else None


def test_a_source_that_is_silent_for_six_seconds_is_not_dead(verbs: Binding, ends: MakeEnds, run: Run) -> None:
    async def body() -> None:
        async with ends() as both:
            runtime = both.runtime
            leaving = SilentGuest(runtime, MACHINE)
            arriving = RealGuest(runtime, MACHINE, incoming=True)
            await leaving.resume()
            receiving: asyncio.Task[Any] = asyncio.create_task(
                destination.receive(CONFIG, arriving, verbs, runtime, both.listener, runtime.signal())
            )
            sent = await source.migrate(
                CONFIG, leaving, verbs, runtime, both.dialer, DrainEverySlice(), runtime.signal()
            )
            received = await receiving
            running = leaving.running, arriving.running
            leaving.close()
            arriving.close()
            assert (sent.status, sent.reason) == ("completed", "")
            assert (received.status, received.reason) == ("completed", "")
            assert running == (False, True)

    run(body())
