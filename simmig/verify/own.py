"""Protocols of one's own as subjects: loading the file, drawing scenarios and faults, playing, telling."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from simmig.own_code import RAISED, prints_aside, told
from simmig.trace import events as ev
from simmig.verbs.api import Verbs
from simmig.verbs.runtime import Signal
from simmig.verbs.sim.profiles import PROFILES
from simmig.verify import faults as f
from simmig.verify.choices import KINDS, Choice, Choices, Drawn
from simmig.verify.device import CheckedVerbs
from simmig.verify.dice import Dice
from simmig.verify.end import End
from simmig.verify.patience import PATIENCE_S, patience
from simmig.verify.protocol import Protocol, Told
from simmig.verify.story import Step, Story
from simmig.verify.verdict import Verdict, Violation
from simmig.verify.watch import SIDES, Watch
from simmig.verify.world import CheckedWorld

WORLD: dict[str, tuple[Any, ...]] = {
    "busy_host": (False, True),
    "profile": tuple(PROFILES),
    "bandwidth_bit_s": (10_000_000_000, 1_000_000_000, 100_000_000),
    "latency_ns": (2_000, 0, 100, 50_000, 1_000_000),
    "mtu": (4096, 1024),
}
"""What differs from run to run for any protocol: hosts, devices and link; the usual value comes first."""
LINGER_NS = 1_000_000_000
_MOST_STEPS = 12
_IN_FULL = 8
RULES = {
    "nothing_escapes": "a side ends by itself, or with an error of the verbs or the connection",
    "succeeds_unharmed": "where nothing goes wrong both sides complete",
    "every_wait_ends": "no side waits for ever for one that lives",
    "nothing_leaks": "every queue pair, queue, channel, region and domain is destroyed in the end",
    "time_passes": "nobody spins: time passes, and a side that runs comes to its next wait",
}


class ProtocolError(ValueError):
    """A file that holds no protocol; the message names it and what is wrong."""


class SideEnded(Told):
    """A side is done, or was stopped by something."""

    status: str
    reason: str


@dataclass(frozen=True)
class Ended:
    """How a side ended."""

    status: str
    reason: str = ""


class Case(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a protocol of one's own. `scenario` has what is not as usual."""

    scenario: dict[str, Any] = {}
    faults: tuple[f.Fault, ...] = ()
    schedule: tuple[Choice, ...] = ()


async def run_side(end: End, body: Coroutine[Any, Any, None], done: Signal, peer: Signal, errors: Any) -> Ended:
    """One side from beginning to end, on any runtime; what it may fail with are `errors`."""
    try:
        await body
        done.set()
        await end.linger(peer, LINGER_NS)
        ended = Ended("completed")
    except errors as error:
        ended = Ended("failed", str(error))
    finally:
        end.close()
    end.tell(SideEnded, status=ended.status, reason=ended.reason)
    return ended


class OwnWorld(CheckedWorld):
    """Two hosts, and a side of the protocol on each."""

    def __init__(self, protocol: Protocol, given: Mapping[str, Any], watch: Watch) -> None:
        super().__init__(
            watch,
            given["busy_host"],
            given["profile"],
            given["bandwidth_bit_s"],
            given["latency_ns"],
            given["mtu"],
        )
        self.protocol = protocol
        self.given = SimpleNamespace(**given)

    def run(self) -> None:
        """Both sides, to their end."""
        ways = (self.dialer, self.listener)
        ends = [
            End(
                side,
                self.given,
                cast(Verbs, CheckedVerbs(self.watch, side)),
                runtime,
                cast(Any, way),
                self.watch.emit,
            )
            for side, runtime, way in zip(SIDES, self.runtimes, ways, strict=True)
        ]
        self.cancel = [cast(Any, end.cancel) for end in ends]
        done = [runtime.signal() for runtime in self.runtimes]
        bodies = (self.protocol.first(ends[0]), self.protocol.second(ends[1]))
        self.run_sides(
            [
                run_side(ends[i], bodies[i], done[i], done[1 - i], (OSError, ends[i].verbs.PyverbsError))
                for i in range(2)
            ]
        )

    def may_wait(self, index: int) -> bool:
        """For one that is dead, hangs, never came, or can neither be reached nor tell."""
        cut = any(
            isinstance(fault, f.Disconnect) or (isinstance(fault, f.LinkDown) and fault.for_ns is None)
            for fault in self.watch.happened
        )
        return cut or not self.lives(1 - index) or super().may_wait(index)


@dataclass(frozen=True)
class Own:
    """A protocol of one's own, by where it is: ``path/to/file.py``, or ``path/to/file.py:Name``."""

    command: str

    kind = "scenario"
    case_type = Case
    can_cancel = False
    must_repeat = (
        "A side keeps no state outside of itself and draws no unseeded chance: else nothing can be replayed."
    )
    bound = "the usual scenario"

    @property
    def protocol(self) -> type[Protocol]:
        """Its class."""
        return load(self.command)

    @property
    def invariants(self) -> Mapping[str, str]:
        """Its own, and those of any protocol."""
        return {kind.name: kind.words for kind in self.protocol.invariants} | RULES

    @property
    def story(self) -> Story:
        """Its own events, with its own names of the sides."""
        return Story(self.protocol.sides, _steps)

    def given(self, case: Case) -> dict[str, Any]:
        """The scenario in full. Raises ValueError for what is in none."""
        options = {**WORLD, **self.protocol.scenario}
        if unknown := [name for name in case.scenario if name not in options]:
            raise ValueError(f"no such value in the scenario of {self.command}: {unknown[0]}")
        return {name: values[0] for name, values in options.items()} | case.scenario

    def generate(self, seed: int) -> tuple[Case, Drawn]:
        """Some things other than usual, up to two faults, and some freedoms of the world."""
        dice = Dice(seed * 2 + 1)
        options = {**WORLD, **self.protocol.scenario}
        chosen = {
            name: dice.one(values[1:]) for name, values in options.items() if values[1:] and dice.chance(0.35)
        }
        case = Case(chosen)
        count = dice.one([0, 0, 0, 1, 1, 2])
        if count:
            occasions = self.play(case).occasions
            made = (_MAKERS[dice.one(tuple(_MAKERS))](dice, occasions) for _ in range(count))
            case = Case(chosen, tuple(dict.fromkeys(fault for fault in made if fault is not None)))
        likelihood = {kind: dice.one((0.01, 0.05, 0.3)) for kind in KINDS if dice.chance(0.4)}
        return case, Drawn(seed * 2 + 2, likelihood)

    def play(self, case: Case, choices: Choices | None = None) -> Verdict:
        """Run it. Raises ValueError for a scenario that cannot be."""
        given = self.given(case)
        choices = Choices(case.schedule) if choices is None else choices
        watch = Watch(case.faults, choices)
        checks = [kind(SimpleNamespace(**given)) for kind in self.protocol.invariants]
        broken: dict[str, Violation] = {}

        def look(event: Any) -> None:
            for each in checks:
                if each.name not in broken and (words := each.check(event)):
                    broken[each.name] = Violation(each.name, each.words, words, event.t_ns, len(watch.events) - 1)

        watch.readers.append(look)
        world = OwnWorld(self.protocol(), given, watch)
        world.plan_packets(case.faults)
        with patience(lambda: (world.env._now, len(watch.events)), _stuck), prints_aside():
            world.run()
        outcome = _worst(world)
        return Verdict(
            outcome.status,
            outcome.reason,
            watch.events,
            tuple(choices.taken),
            choices.points,
            tuple(dict.fromkeys(watch.happened)),
            [*broken.values(), *_judge(world)],
            world.occasions(),
        )

    def differing(self, seed: int, verdict: Verdict) -> str:
        """Every fourth seed is played twice."""
        if seed % 4 or self.play(*self.generate(seed)).digest() == verdict.digest():
            return ""
        return "played twice, the same case gave two traces"

    def roots(self) -> list[Case]:
        """The usual scenario."""
        return [Case()]

    def more_faults(self, occasions: Mapping[str, int]) -> Iterator[f.Fault]:
        """None."""
        return iter(())

    def plainer(self, case: Case) -> Iterator[Case]:
        """With one thing of the scenario as usual, or earlier among its values."""
        options = {**WORLD, **self.protocol.scenario}
        for name, value in case.scenario.items():
            rest = {other: kept for other, kept in case.scenario.items() if other != name}
            yield msgspec.structs.replace(case, scenario=rest)
            values = list(options[name])
            for earlier in values[1 : values.index(value)] if value in values else ():
                yield msgspec.structs.replace(case, scenario=case.scenario | {name: earlier})

    def told(self, case: Case) -> str:
        """What of the scenario is not as usual."""
        return ", ".join(f"{name} {value}" for name, value in case.scenario.items())


@functools.cache
def load(spec: str) -> type[Protocol]:
    """The class that a spec names; raises ProtocolError."""
    text, colon, name = spec.rpartition(":")
    if not (colon and text.endswith(".py")):
        text, name = spec, ""
    path = Path(text)
    if not path.is_file():
        raise ProtocolError(f"{text}: no such file")
    module_name = f"simmig_protocol_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise ProtocolError(f"{text}: not a Python file")
    module = sys.modules.get(module_name)
    if module is None:
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[module_name] = module
        try:
            with prints_aside():
                module_spec.loader.exec_module(module)
        except RAISED as error:
            del sys.modules[module_name]
            raise ProtocolError(f"{text}: cannot be loaded: {told(error)}") from error
    there = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Protocol) and value.__module__ == module_name
    }
    if name and name not in there:
        raise ProtocolError(f"{text}: no protocol {name!r} in it; there is {', '.join(there) or 'none'}")
    if not there:
        raise ProtocolError(f"{text}: no class in it is derived from simmig.verify.protocol.Protocol")
    return there[name] if name else next(iter(there.values()))


def _stuck(busy_s: float) -> str:
    return f"no step in {PATIENCE_S} s of processor time" if busy_s > PATIENCE_S else ""


def _worst(world: CheckedWorld) -> Ended:
    for side in SIDES:
        outcome = world.outcomes.get(side)
        if outcome is None:
            return Ended("unfinished")
        if outcome.status != "completed":
            return Ended(outcome.status, outcome.reason)
    return Ended("completed")


def _judge(world: OwnWorld) -> Iterator[Violation]:
    events = world.watch.events
    names = dict(zip(SIDES, world.protocol.sides, strict=True))

    def broken(invariant: str, words: str) -> Violation:
        return Violation(invariant, RULES[invariant], words, int(world.env.now), max(0, len(events) - 1))

    if world.endless:
        yield broken("time_passes", world.endless)
    for side, error in world.escaped.items():
        yield broken("nothing_escapes", f"{type(error).__name__} escaped from the {names[side]}: {error}")
    for index, event in enumerate(events):
        if isinstance(event, ev.Stalled):
            words = f"the {names[event.side]} waits for what never comes"
            yield Violation("every_wait_ends", RULES["every_wait_ends"], words, event.t_ns, index)
            break
    for index, side in enumerate(SIDES):
        if world.lives(index) and side in world.outcomes and (leaks := world.watch.leaks(side)):
            yield broken("nothing_leaks", f"the {names[side]} left behind: {', '.join(leaks)}")
    if not world.watch.happened and not world.escaped and _worst(world).status != "completed":
        words = "; ".join(
            f"the {names[side]}: {outcome.reason}" for side, outcome in world.outcomes.items() if outcome.reason
        )
        yield broken("succeeds_unharmed", f"nothing went wrong, and it did not complete ({words or 'unfinished'})")


def _steps(events: Sequence[Any], until: int | None) -> list[Step]:
    """An event a step; what is far before the violation, and what comes behind it, in a few words."""
    told = [step for index, event in enumerate(events) if (step := _step(index, event)) is not None]
    if until is not None:
        told = [step for step in told if step.event <= until or not step.ordinary]
    ordinary = [step for step in told if step.ordinary]
    folded = ordinary[:-_IN_FULL] if len(told) > _MOST_STEPS else []
    if len(folded) < 2:
        return told
    first = folded[0]
    left_out = {id(step) for step in folded}
    short = Step(
        first.t_ns, first.event, "routine", f"{len(folded)} steps, from: {first.text}", first.side, "both"
    )
    return [short, *(step for step in told if id(step) not in left_out)]


def _step(index: int, event: Any) -> Step | None:
    match event:
        case SideEnded():
            text = event.status + (f": {event.reason}" if event.reason else "")
            return Step(event.t_ns, index, "end", text, event.side)
        case Told():
            kind, arrow = ("message", "over") if event.over else ("note", "")
            return Step(event.t_ns, index, cast(Any, kind), event.words(), event.side, cast(Any, arrow))
        case ev.FaultInjected():
            return Step(event.t_ns, index, "fault", event.what, event.side)
        case ev.HostDied():
            return Step(event.t_ns, index, "fault", "its host is dead", event.side)
        case ev.Stalled():
            return Step(event.t_ns, index, "error", "waits for what never comes", event.side)
    return None


Occasions = Mapping[str, int]
_CALLS = tuple(f.VERBS_CALLS)


def _packet(what: Any) -> Callable[[Dice, Occasions], f.Fault]:
    def make(dice: Dice, occasions: Occasions) -> f.Fault:
        side = dice.one(SIDES)
        by_ns = 0 if what == "drop" else dice.one([500, 20_000, 3_000_000])
        return f.Packet(side, dice.below(max(1, occasions[f"{side} packet"])), what, by_ns)

    return make


def _call(dice: Dice, occasions: Occasions) -> f.Fault | None:
    side, call = dice.one(SIDES), dice.one(_CALLS)
    count = occasions.get(f"{side} call {call}", 0)
    return f.Call(side, call, dice.below(count), dice.one(f.VERBS_CALLS[call])) if count else None


def _event(dice: Dice, occasions: Occasions) -> int:
    return dice.below(max(1, occasions["event"]))


_MAKERS: dict[str, Callable[[Dice, Occasions], f.Fault | None]] = {
    "drop": _packet("drop"),
    "delay": _packet("delay"),
    "duplicate": _packet("duplicate"),
    "reorder": _packet("reorder"),
    "call": _call,
    "not-ready": lambda dice, there: f.NotReady(dice.one(SIDES), dice.below(20)),
    "dies": lambda dice, there: f.Dies(dice.one(SIDES), _event(dice, there)),
    "hangs": lambda dice, there: f.Hangs(dice.one(SIDES), _event(dice, there)),
    "link-down": lambda dice, there: f.LinkDown(_event(dice, there), dice.one([None, 1_000, 1_000_000])),
    "disconnect": lambda dice, there: f.Disconnect(dice.one(SIDES), _event(dice, there)),
}
