"""A protocol of one's own on two RDMA devices of this host, through pyverbs: once, with what must hold checked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import load
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.runtime import RdmaRuntime
from simmig.verify.end import End
from simmig.verify.own import Case, Ended, Own, run_side
from simmig.verify.verdict import Verdict, Violation
from simmig.verify.watch import SIDES

PORT = 4447
PATIENCE_S = 60.0


def play_on_devices(own: Own, case: Case, devices: tuple[str, str], patience_s: float = PATIENCE_S) -> Verdict:
    """Run the case's scenario on these two devices; faults, schedule, and what is the world's there do not apply.

    Raises RdmaUnavailable without pyverbs or such devices, OSError when they cannot be used.
    """
    binding = load()
    for name in devices:
        device.check(binding, name)
    given = SimpleNamespace(**own.given(case))
    checks = [kind(given) for kind in own.protocol.invariants]
    events: list[Any] = []
    broken: dict[str, Violation] = {}

    def emit(event: Any) -> None:
        events.append(event)
        for each in checks:
            if each.name not in broken and (words := each.check(event)):
                broken[each.name] = Violation(each.name, each.words, words, event.t_ns, len(events) - 1)

    async def both() -> list[Ended]:
        runtime = RdmaRuntime()
        ip = device.address(binding, devices[1]).ip
        listener = RdmaListener(binding, runtime, ip, PORT)
        dialer = RdmaDialer(binding, runtime, ip, PORT, devices[0])
        ends = [
            End(side, given, binding, runtime, cast(Any, way), emit)
            for side, way in zip(SIDES, (dialer, listener), strict=True)
        ]
        done = [runtime.signal() for _ in SIDES]
        protocol = own.protocol()
        bodies = (protocol.first(ends[0]), protocol.second(ends[1]))
        sides = [
            run_side(ends[i], bodies[i], done[i], done[1 - i], (OSError, binding.PyverbsError)) for i in range(2)
        ]
        try:
            return list(await asyncio.wait_for(asyncio.gather(*sides), patience_s))
        finally:
            dialer.close()
            listener.close()

    try:
        ended = asyncio.run(both())
    except TimeoutError:
        ended = [Ended("unfinished", f"not done within {patience_s:g} s")]
    worst = next((each for each in ended if each.status != "completed"), Ended("completed"))
    return Verdict(worst.status, worst.reason, events, (), 0, (), list(broken.values()), {})
