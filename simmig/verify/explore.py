"""Exploring on all cores: many cases, one count of what was checked, and the cases that broke something."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from simmig.verify import faults as f
from simmig.verify.subject import Subject
from simmig.verify.verdict import Verdict
from simmig.verify.workers import abandon, worker_pool

ANSWERS_REPEAT = "answers_repeat"
"""Broken by what does not do the same when it is played again."""
_BATCH = 25
_GRACE_S = 8
"""What a run may take beyond the deadline: twice what a policy is given to answer, and to spare."""
_SLOW = ("policy_answers", "time_passes")
"""Each such run takes seconds: one is enough."""


@dataclass
class Found:
    """A case that broke an invariant, with its schedule spelled out, and the seed it came from."""

    seed: int | None
    case: Any
    invariant: str
    words: str
    verdict: Verdict | None = None
    """Of a run that took seconds, and would again."""


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
    cut: bool = False
    """Whether the deadline came before all of it was done."""
    pruned: int = 0
    """Schedules behind which nothing new was looked for, since another one had been the same."""

    def count(self, seed: int | None, case: Any, verdict: Verdict) -> None:
        """Take one more case in."""
        self.cases += 1
        self.with_fault += bool(verdict.happened)
        self.points += verdict.points
        self.choices.update(choice.kind for choice in verdict.choices)
        self.faults.update(f.kind_of(fault) for fault in verdict.happened)
        self.outcomes[verdict.status] += 1
        if verdict.broken:
            spelled = msgspec.structs.replace(case, schedule=verdict.choices)
            first = verdict.broken[0]
            self.found.append(
                Found(seed, spelled, first.invariant, first.words, verdict if first.invariant in _SLOW else None)
            )

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        self.cases += other.cases
        self.with_fault += other.with_fault
        self.points += other.points
        self.choices.update(other.choices)
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.found.extend(other.found)
        self.cut |= other.cut
        self.pruned += other.pruned

    def over(self, deadline: float | None) -> bool:
        """Whether to stop: the deadline (of time.monotonic) has passed, or runs like the last take seconds."""
        self.cut |= deadline is not None and time.monotonic() >= deadline
        return self.cut or any(found.invariant in _SLOW for found in self.found)


def check_seeds(subject: Subject, seeds: Iterable[int], deadline: float | None = None) -> Tally:
    """These seeds, one after another; those that the subject chooses are played twice."""
    tally = Tally()
    for seed in seeds:
        case, drawn = subject.generate(seed)
        verdict = subject.play(case, drawn)
        tally.count(seed, case, verdict)
        if not verdict.broken and (words := subject.differing(seed, verdict)):
            tally.found.append(Found(seed, case, ANSWERS_REPEAT, words))
        if tally.over(deadline):
            break
    return tally


def by_seed(
    subject: Subject,
    seeds: Iterable[int],
    jobs: int = 1,
    deadline: float | None = None,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Seeds until they are used up, `deadline` (of time.monotonic) has passed or something is found.

    Which seeds were checked can be told exactly: the first `cases` ones.
    """
    work = ((check_seeds, subject, batch, deadline) for batch in _batches(seeds))
    return spread(work, jobs, deadline, progress)


def spread(
    work: Iterator[tuple[Any, ...]], jobs: int, deadline: float | None, progress: Callable[[Tally], None]
) -> Tally:
    """Do pieces of work, (function, arguments...) that give a Tally each, on that many processes.

    Raises Unfinished when some do not even end with the deadline.
    """
    total = Tally()
    if jobs == 1:
        for function, *arguments in work:
            total.add(function(*arguments))
            progress(total)
            if total.found or total.over(deadline):
                break
        return total
    with worker_pool(jobs, "simmig.verify.explore") as pool:
        pieces = list(islice(work, 2 * jobs))
        running: list[tuple[Future[Tally], tuple[Any, ...]]] = [(pool.submit(*piece), piece) for piece in pieces]
        while running:
            left_s = None if deadline is None else max(0.0, deadline + _GRACE_S - time.monotonic())
            if not wait([running[0][0]], left_s).done:
                raise Unfinished(running[0][1], total)
            while running and running[0][0].done():  # in order, so that the count stays exact
                tally = running.pop(0)[0].result()
                if total.cut:
                    total.found.extend(tally.found)  # what else comes behind a piece that was cut does not count
                else:
                    total.add(tally)
                progress(total)
                if total.found:
                    abandon(pool)
                    return total
                if not total.over(deadline):
                    running += [(pool.submit(*piece), piece) for piece in islice(work, 1)]
    return total


class Unfinished(Exception):
    """A piece of work did not end in time, and its process was ended: `piece`, and what was checked before it."""

    def __init__(self, piece: tuple[Any, ...], tally: Tally) -> None:
        super().__init__()
        self.tally = tally
        seeds = piece[2] if piece[0] is check_seeds else None
        self.words = (
            f"a run did not end, and could not be interrupted: one of the seeds {seeds[0]} to {seeds[-1]}"
            if seeds
            else f"a run did not end, and could not be interrupted: {piece[2]}"
        )


def _batches(seeds: Iterable[int]) -> Iterator[list[int]]:
    iterator = iter(seeds)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
