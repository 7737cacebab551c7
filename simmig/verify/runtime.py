"""A simulated host's runtime under check: its tasks may be kept from running for a while, or for good."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from simmig.trace.events import Side
from simmig.verbs.sim.host import Host
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verify.choices import PREEMPTIONS_NS
from simmig.verify.watch import Watch


class CheckedRuntime(SimRuntime):
    """Asks at every wait for how long the task is to be preempted. A side that hangs waits for ever."""

    def __init__(self, host: Host, watch: Watch, side: Side) -> None:
        super().__init__(host)
        self._watch = watch
        self._side: Side = side
        self.hangs = False

    def wait(self, *sources: Any, deadline_ns: int | None = None) -> Awaitable[bool]:  # type: ignore[override]
        """As ever, and preempted."""
        if self.hangs:
            self._watch.silent.add(self._side)
            return cast(Awaitable[bool], super().wait())
        self._preempt()
        return cast(Awaitable[bool], super().wait(*sources, deadline_ns=deadline_ns))

    async def sleep(self, duration_ns: int) -> None:
        """As ever, and preempted."""
        await self._unless_hung()
        await super().sleep(duration_ns)

    async def checkpoint(self) -> None:
        """As ever, and preempted."""
        await self._unless_hung()
        await super().checkpoint()

    async def _unless_hung(self) -> None:
        if self.hangs:
            self._watch.silent.add(self._side)
            await super().wait()
        self._preempt()

    def _preempt(self) -> None:
        option = self._watch.choices.choose("preempt", len(PREEMPTIONS_NS))
        if option:
            self.host.charge(PREEMPTIONS_NS[option])
