"""Exploring on all cores: many cases, one count of what was checked, and the cases that broke something."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from simmig.verify import faults as f
from simmig.verify.case import Case
from simmig.verify.generate import generate
from simmig.verify.play import Verdict, play

_BATCH = 25


@dataclass
class Found:
    """A case that broke an invariant, with its schedule spelled out, and the seed it came from."""

    seed: int | None
    case: Case
    invariant: str
    words: str


@dataclass
class Tally:
    """What was checked, in numbers."""

    cases: int = 0
    with_fault: int = 0
    points: int = 0
    choices: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)

    def count(self, seed: int | None, case: Case, verdict: Verdict) -> None:
        """Take one more case in."""
        self.cases += 1
        self.with_fault += bool(verdict.happened)
        self.points += verdict.points
        self.choices.update(choice.kind for choice in verdict.choices)
        self.faults.update(f.kind_of(fault) for fault in verdict.happened)
        self.outcomes[verdict.status] += 1
        if verdict.broken:
            spelled = msgspec.structs.replace(case, schedule=verdict.choices)
            self.found.append(Found(seed, spelled, verdict.broken[0].invariant, verdict.broken[0].words))

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        self.cases += other.cases
        self.with_fault += other.with_fault
        self.points += other.points
        self.choices.update(other.choices)
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.found.extend(other.found)


def check_seeds(seeds: Iterable[int], policy: tuple[str, dict[str, Any]] | None) -> Tally:
    """These seeds, one after another."""
    tally = Tally()
    for seed in seeds:
        case, drawn = generate(seed, policy)
        tally.count(seed, case, play(case, drawn))
    return tally


def by_seed(
    seeds: Iterable[int],
    policy: tuple[str, dict[str, Any]] | None = None,
    jobs: int = 1,
    deadline: float | None = None,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Seeds until they are used up, `deadline` (of time.monotonic) has passed or something is found.

    A batch that has begun is finished, so which seeds were checked can be told exactly: the first `cases` ones.
    """
    work = ((check_seeds, batch, policy) for batch in _batches(seeds))
    return spread(work, jobs, deadline, progress)


def spread(
    work: Iterator[tuple[Any, ...]], jobs: int, deadline: float | None, progress: Callable[[Tally], None]
) -> Tally:
    """Do pieces of work, (function, arguments...) that give a Tally each, on that many processes."""
    total = Tally()

    def over() -> bool:
        return bool(total.found) or (deadline is not None and time.monotonic() >= deadline)

    if jobs == 1:
        for function, *arguments in work:
            total.add(function(*arguments))
            progress(total)
            if over():
                break
        return total
    with ProcessPoolExecutor(jobs) as pool:
        running: list[Future[Tally]] = [pool.submit(*piece) for piece in islice(work, 2 * jobs)]
        while running:
            wait(running, return_when=FIRST_COMPLETED)
            while running and running[0].done():  # in order, so that the count stays exact
                total.add(running.pop(0).result())
                progress(total)
                if not over():
                    running += [pool.submit(*piece) for piece in islice(work, 1)]
    return total


def _batches(seeds: Iterable[int]) -> Iterator[list[int]]:
    iterator = iter(seeds)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
