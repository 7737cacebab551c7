"""A small migration carried out on two RDMA devices of this host, and held to what a simulated one is held to.

What it is under is a device's to choose: there is no fault plan, no schedule and no link to set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from simmig.migration.config import Outcome
from simmig.migration.policies import Policy
from simmig.own_code import prints_aside
from simmig.trace.events import AnyEvent
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.errors import RdmaUnavailable
from simmig.verify.invariants import Invariants, Violation
from simmig.verify.migration.asked import Asked
from simmig.verify.migration.case import Case
from simmig.verify.migration.judge import RULES, handover_is_open, unanswered, unasked
from simmig.verify.migration.play import Played
from simmig.verify.migration.real_world import CONTROL_BYTES, RealWorld
from simmig.verify.patience import patience

PATIENCE_S = 240
"""What takes longer hangs: emulated processors on a busy machine are slow, and a case takes seconds there."""


@dataclass
class Wanted:
    """What tests on devices were asked to run on; pytest's options change it (`simmig.pytest_plugin`).

    Attributes:
        devices: names of two of this host's, the source's first; None for the two that it has.
        required: whether a test fails where they are not, and is not skipped.
    """

    devices: tuple[str, str] | None = None
    required: bool = False


wanted = Wanted()


def devices() -> tuple[str, str]:
    """The two devices that tests run on. Raises RdmaUnavailable, with what would help, where they are not."""
    binding = load()
    names = wanted.devices or device.pair(binding)
    for name in names:
        device.check(binding, name)
    return names


def carry_out(case: Case, policy: Policy, names: tuple[str, str]) -> Played:
    """Carry out a case's migration on these devices; its faults and schedule are for simulations.

    Raises RdmaUnavailable where that cannot be begun.
    """
    events: list[AnyEvent] = []
    asked = Asked(policy, events)
    stuck = patience(lambda: (asked.answering.calls, len(events)), lambda _: asked.answering.stuck())
    with stuck, prints_aside():
        ended = asyncio.run(_migrate(load(), case, policy, names, events))
    invariants = Invariants()
    for event in events:
        invariants(event)
    broken = [*unanswered(asked, events), *_ends(ended, events), *unasked(asked, events)]
    named = {each.invariant for each in broken}
    broken += [each for each in invariants.violations if each.invariant not in named]
    return Played(ended.outcome.status, ended.outcome.reason, events, (), 0, (), broken, {}, asked.answers)


@dataclass
class _Ended:
    outcome: Outcome
    runs: tuple[bool, bool]
    hangs: bool


async def _migrate(
    binding: Binding, case: Case, policy: Policy, names: tuple[str, str], events: list[AnyEvent]
) -> _Ended:
    small = case.migration
    machine = small.machine()
    device.check_memlock(2 * machine.pages * 4096 + CONTROL_BYTES)
    try:
        world = RealWorld(binding, names, machine, small.config(), policy, events.append)
    except OSError as error:
        raise RdmaUnavailable(str(error)) from None
    hangs = False
    try:
        await asyncio.wait_for(world.migrate(world.runtime.signal()), PATIENCE_S)
    except TimeoutError:
        hangs = True
    finally:
        runs = world.source.running, world.destination.running
        world.close()
    return _Ended(Outcome("failed", f"not over after {PATIENCE_S} s") if hangs else world.outcome, runs, hangs)


def _ends(ended: _Ended, events: list[AnyEvent]) -> Iterator[Violation]:
    """What no event tells: that both sides ended, and who runs then."""
    at_ns = events[-1].t_ns if events else 0
    if ended.hangs:
        words = f"the migration was not over after {PATIENCE_S} s"
        yield Violation("every_wait_ends", "R26, R27", words, at_ns, len(events) - 1)
    elif not handover_is_open(events) and ended.runs != (
        ended.outcome.status != "completed",
        ended.outcome.status == "completed",
    ):
        words = f"{ended.outcome.status}, and the guest runs on {_where(ended.runs)}"
        yield Violation("one_side_runs", RULES["one_side_runs"], words, at_ns, len(events) - 1)


def _where(runs: tuple[bool, bool]) -> str:
    return {
        (True, True): "both sides",
        (True, False): "the source",
        (False, True): "the destination",
        (False, False): "neither side",
    }[runs]
