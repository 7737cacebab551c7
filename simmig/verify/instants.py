"""Running a simulated world to its rest, but not for ever within one instant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import simpy

from simmig.verbs.sim.host import Host
from simmig.verbs.sim.timeline import Timeline
from simmig.verify.patience import Endless

MOST_EVENTS = 1_000_000
"""In one instant. A guest of many GiB has its bursts one after the other, each at a time of its own."""
_LOOKED_AT = 1_000


def run_to_rest(env: Timeline, hosts: Sequence[Host], most_events: int = MOST_EVENTS) -> None:
    """Let everything happen that is due; raises Endless, naming who wakes again and again, when no time passes."""
    step = env.step
    try:
        while True:
            began = env.now
            for _ in repeat(None, most_events):
                step()
            if env.now == began:
                raise Endless(told_instant(env, hosts, most_events))
    except simpy.core.EmptySchedule:
        pass


def told_instant(env: Timeline, hosts: Sequence[Host], events: int) -> str:
    """Who spins, in words: goes on for a little while to see whose tasks are woken."""
    woken: Counter[str] = Counter()
    for _ in range(_LOOKED_AT):
        if not env.heap:
            break
        event: Any = env.heap[0][3]
        woken.update(host.name for host in hosts if event in host.waiters.values())
        env.step()
    who = f"the {woken.most_common(1)[0][0]} spins" if woken else "the devices spin"
    return f"no time passes: {who}, {events} events at {int(env.now)} ns"
