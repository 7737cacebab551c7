"""What must hold of a run beside the invariants of its trace, and what is excused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from errno import ENOMEM

from simmig.trace.events import (
    AnyEvent,
    ControlSent,
    DeviceStateSent,
    MigrationBegan,
    MigrationEnded,
    VmStopped,
    WorkCompleted,
)
from simmig.verify import faults as f
from simmig.verify.invariants import CATALOGUE, Violation
from simmig.verify.migration.asked import Asked
from simmig.verify.migration.world import MigrationWorld
from simmig.verify.watch import SIDES

RULES = {
    "nothing_escapes": "migrate and receive never raise: they answer with an outcome",
    "cancellation_works": "a side that is cancelled ends",
    "nothing_leaks": "every queue pair, queue, channel, region and domain is destroyed in the end",
    "one_side_runs": "exactly one side runs the guest in the end, the one that the outcomes name",
    "policy_answers": "the policy answers whenever it is asked, within some seconds of this machine's time",
    "time_passes": "nobody spins: time passes, and a side that runs comes to its next wait",
    "policy_is_asked": "the policy is asked at each slice's and round's end, before the stop and the device state",
    "policy_is_obeyed": "a drain in the policy's name is the one that it asked for, and each it asks for comes",
    "zeros_stay_off_the_wire": "no chunk is registered, and none written for the first time, that is all zero",
    "dirty_log_ends": "the source's dirty log is on no longer when the source has ended, in whatever way",
    "success_is_earned": "a side completes only what nothing stood against",
}


def judge(world: MigrationWorld, events: Sequence[AnyEvent]) -> Iterator[Violation]:
    """Everything that does not hold."""
    now_ns = int(world.env.now)
    happened = world.watch.happened

    def broken(invariant: str, words: str) -> Violation:
        return Violation(invariant, RULES[invariant], words, now_ns, len(events) - 1)

    if world.endless:
        yield broken("time_passes", world.endless)
    for side, error in world.escaped.items():
        yield broken("nothing_escapes", f"{type(error).__name__} escaped on the {side}: {error}")
    for index, side in enumerate(SIDES):
        if not world.lives(index):
            continue
        if side in world.uncancelled:
            yield broken("cancellation_works", f"the {side} was cancelled and did not end")
        elif world.ended_ns.get(side, 0) and side not in world.uncancelled and (leaks := world.watch.leaks(side)):
            yield broken("nothing_leaks", f"the {side} left behind: {', '.join(leaks)}")
    if world.lives(0) and "source" in world.outcomes and world.guests[0].dirty_log_is_on:
        yield broken("dirty_log_ends", "the source has ended, and its guest's dirty log is still on")
    for index, words in world.thrift.found:
        yield Violation(
            "zeros_stay_off_the_wire", RULES["zeros_stay_off_the_wire"], words, events[index].t_ns, index
        )
    if not any(isinstance(fault, f.Hostile) for fault in happened) and (words := _who_runs(world, events)):
        yield broken("one_side_runs", words)
    for side, reason in world.watch.illegal.items():
        other = SIDES[1 - SIDES.index(side)]
        if other in world.outcomes and world.outcomes[other].status == "completed":
            yield broken("success_is_earned", f"the {other} completed on a message of the {side}'s: {reason}")
    source = world.outcomes.get("source")
    if _only_full_queues(world) and source is not None and source.status not in ("completed", "not-converging"):
        reasons = "; ".join(outcome.reason for outcome in world.outcomes.values() if outcome.reason)
        yield broken("success_is_earned", f"nothing went wrong and it failed: {reasons}")


def _only_full_queues(world: MigrationWorld) -> bool:
    """Whether nothing went wrong but that send queues were full, with work requests in them to wait for (R10)."""
    full = (
        isinstance(fault, f.Call) and fault.call in ("post_send", "post_write") and fault.errno == ENOMEM
        for fault in world.watch.happened
    )
    return all(full) and not world.watch.full_and_idle


def unanswered(asked: Asked, events: Sequence[AnyEvent]) -> Iterator[Violation]:
    """Where the policy did not answer."""
    if asked.unanswered is not None:
        index, words = asked.unanswered
        yield Violation("policy_answers", RULES["policy_answers"], words, events[index].t_ns, index)


def unasked(asked: Asked, events: Sequence[AnyEvent]) -> Iterator[Violation]:
    """Where the policy should have been asked and was not, or was asked for nothing."""
    for index, point in asked.missed():
        words = f"the policy was not asked at {point}"
        yield Violation("policy_is_asked", RULES["policy_is_asked"], words, events[index].t_ns, index)
    for index, words in asked.disobeyed():
        yield Violation("policy_is_obeyed", RULES["policy_is_obeyed"], words, events[index].t_ns, index)


def _who_runs(world: MigrationWorld, events: Sequence[AnyEvent]) -> str:
    """What is wrong with who runs the guest; empty for nothing, and for what has been told already."""
    if world.escaped or world.uncancelled or handover_is_open(events):  # two generals: nobody can know
        return ""
    runs = [guest.running and world.hosts[index].alive for index, guest in enumerate(world.guests)]
    lives = [world.lives(index) for index in range(2)]
    outcome = world.outcomes.get("source")
    handed_over = outcome is not None and outcome.status == "completed"
    if all(runs):
        stopped = any(isinstance(event, VmStopped) for event in events)
        return "both sides run the guest" if lives[0] or not stopped else ""
    if handed_over and lives[1] and not runs[1]:
        return "the source has handed the guest over, and the destination does not run it"
    if not handed_over and lives[0] and not runs[0]:
        return "the migration did not complete, and the source does not run the guest"
    return "the source has handed the guest over and runs it" if handed_over and runs[0] else ""


def handover_is_open(events: Sequence[AnyEvent]) -> bool:
    """Whether the stream's end was sent and its arrival never confirmed: two generals, nobody can know.

    It is what goes after the device state. On a socket that begins with the state itself, and what was not
    confirmed has failed.
    """
    last = None
    only_the_end_is_left = False
    socket = bool(events) and isinstance(events[0], MigrationBegan) and events[0].transport == "tcp"
    failed = False
    for index, event in enumerate(events):
        if event.side != "source":
            continue
        if isinstance(event, ControlSent) and event.type == "QEMU_FILE":
            last = index if only_the_end_is_left else None
        elif isinstance(event, DeviceStateSent):
            only_the_end_is_left = True
            last = index if socket else None
        elif isinstance(event, WorkCompleted) and event.opcode == "send" and last is not None:
            return False
        elif isinstance(event, MigrationEnded):
            failed = event.status == "failed"
    return last is not None and (failed or not socket)


def excuse(name: str, world: MigrationWorld) -> str:
    """Why this run may break that invariant of its trace; empty when it may not."""
    for names, why, applies in _EXCUSES:
        if name in names and applies(world):
            return why
    return ""


def _peer_is_hostile(world: MigrationWorld) -> bool:
    return any(isinstance(fault, f.Hostile) for fault in world.watch.happened)


def _destination_gave_up(world: MigrationWorld) -> bool:
    ended = world.outcomes.get("destination")
    return bool(world.watch.happened) and (ended is None or ended.status != "completed")


_EVERY = frozenset(kind.name for kind in CATALOGUE)
_EXCUSES: tuple[tuple[frozenset[str], str, Callable[[MigrationWorld], bool]], ...] = (
    (_EVERY, "what a hostile peer says of itself need not be true", _peer_is_hostile),
    (
        frozenset({"one_side_runs"}),
        "two generals: nobody can know whether the stream's end arrived",
        lambda world: handover_is_open(world.watch.events),
    ),
    (
        frozenset({"one_side_runs", "trace_is_whole"}),
        "a side that died or hangs tells nothing",
        lambda world: not (world.lives(0) and world.lives(1)),
    ),
    (
        frozenset({"every_wait_ends"}),
        "a source that hangs while its device answers cannot be told from a slow one",
        lambda world: world.runtimes[0].hangs,
    ),
    (
        frozenset({"keys_registered"}),
        "a destination that failed has given up its memory before the source hears of it",
        _destination_gave_up,
    ),
    (
        frozenset({"memory_identical"}),
        "a destination that died or hangs compares nothing",
        lambda world: not world.lives(1) and not world.compared,
    ),
    (
        frozenset({"all_work_ended"}),
        "who is dead acknowledges nothing, and who hangs does not look",
        lambda world: not (world.lives(0) and world.lives(1)),
    ),
)
