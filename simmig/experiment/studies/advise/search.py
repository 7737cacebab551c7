"""The search: Optuna's TPE over policies and parameters for short total times and downtimes, then fresh seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import optuna

from simmig.experiment.studies.advise.confidence import kept_share
from simmig.experiment.studies.advise.effort import Effort, effort
from simmig.experiment.studies.advise.pace import Pace
from simmig.experiment.studies.advise.space import Candidate, Space
from simmig.experiment.studies.advise.trial import Outcome, Question, depends_on_seed, look, try_out
from simmig.experiment.studies.sweep.pool import compile_if_worthwhile

GENERATION = 8
"""Trials asked for before any outcome is told: so many on any number of processors, so that all find the same."""
FINALISTS = 5
"""Of the search's front at most as many are put to the test, one after the other, until one passes."""

SAME_TIME = 1.01
"""Who takes at most so many times the shortest total time is as short: of these the least downtime is the best."""

Tell = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Choice:
    """A candidate, and what came of it."""

    candidate: Candidate
    outcome: Outcome


@dataclass(frozen=True)
class Advice:
    """What the search found.

    Attributes:
        downtime_ns: what was asked for.
        winner: the shortest that kept it with every seed, with its outcome over those; None when none did.
        searched: the winner, with its outcome over the seeds of the search, which are those of the front.
        front: those of the search that no other beats in both total time and downtime, by total time.
        nearest: of the tested the one with the least downtime then; where none was worth a test, of all completed.
        tried: candidates tried.
        completed: candidates that completed with every seed.
        seeds: fresh seeds that the winner was tested with; 1 where nothing depends on the seed.
        finalists: candidates that stood by for that test.
        tested: how many of them were put to it.
        confidence: asked for.
        certain: nothing in the scenario depends on the seed.
        effort: what was tried, and with how many seeds.
        ties: of the search those that keep the downtime too, and of which the winner is shorter by no more than
            1 % or than the repeats of either differ.
        pace: where a migration that never waits got stuck; None where it did not.
        pinned: the same with all memory pinned at the start, where nothing keeps it without.
    """

    downtime_ns: int
    winner: Choice | None
    searched: Choice | None
    front: tuple[Choice, ...]
    nearest: Choice | None
    tried: int
    completed: int
    seeds: int
    finalists: int
    tested: int
    confidence: float
    certain: bool
    effort: Effort
    ties: tuple[Choice, ...] = ()
    pace: Pace | None = None
    pinned: Advice | None = None

    @property
    def kept_share(self) -> float:
        """At least this share of all seeds keeps the downtime, with the confidence asked for."""
        return 1.0 if self.certain else kept_share(self.seeds, self.confidence, self.finalists)


def search(
    question: Question,
    space: Space,
    workers: tuple[Executor, int],
    trials: int | None,
    seeds: int | None,
    confidence: float,
    tell: Tell = lambda what, done, of: None,
) -> Advice:
    """Search, then test the best with seeds that the search has not seen. The same on any machine.

    `trials` and `seeds`: as many as `effort` leaves room for where they are None. Where nothing keeps the downtime
    it is searched again with all memory pinned, if that is left open.
    """
    advice = _search(question, space, workers[0], trials, seeds, confidence, tell)
    migration = question.scenario(None).migration
    if advice.winner is None and migration.transport == "rdma" and not migration.pin_all and question.may_pin:
        pinned = _search(question.pinned(), space, workers[0], trials, seeds, confidence, tell)
        advice = replace(advice, pinned=pinned)
    return advice


def _search(
    question: Question,
    space: Space,
    executor: Executor,
    trials: int | None,
    seeds: int | None,
    confidence: float,
    tell: Tell,
) -> Advice:
    scenario = question.scenario(None)
    first, certain = scenario.seed, not depends_on_seed(scenario)
    tell("looking whether it converges", 0, 1)
    pages, pace = executor.submit(look, question, space.never_waits()).result()
    much = effort(scenario, pages, trials, seeds, len(space.first()))
    compile_if_worthwhile(executor, [scenario], much.trials)
    found: dict[Candidate, Outcome] = {}
    search_seeds = range(first, first + (1 if certain else much.search_seeds))
    if pace is None or not pace.hopeless:
        for done in _explore(question, space, executor, much.trials, search_seeds, found, first):
            tell("searching", done, much.trials)
    choices = [Choice(candidate, outcome) for candidate, outcome in found.items() if outcome.completed]
    choices.sort(key=lambda choice: (choice.outcome.total_time_ns, choice.outcome.downtime_ns))
    finalists = to_test([choice for choice in choices if choice.outcome.downtime_ns <= space.downtime_ns])
    fresh = list(search_seeds) if certain else list(range(search_seeds.stop, search_seeds.stop + much.seeds))
    winner, searched = None, None
    tested: list[Choice] = []
    for choice in finalists:
        tell("testing", len(tested) + 1, len(finalists))
        outcome = choice.outcome if certain else _over_seeds(question, choice.candidate, executor, fresh)
        tested.append(Choice(choice.candidate, outcome))
        if outcome.completed and outcome.downtime_ns <= space.downtime_ns:
            winner, searched = tested[-1], choice
            break
    nearest = min(
        tested or choices,
        key=lambda choice: (not choice.outcome.completed, choice.outcome.downtime_ns),
        default=None,
    )
    return Advice(
        space.downtime_ns,
        winner,
        searched,
        tuple(_front(choices)),
        nearest,
        len(found),
        len(choices),
        len(fresh),
        len(finalists),
        len(tested),
        confidence,
        certain,
        much,
        () if searched is None else tuple(_ties(searched, choices, space.downtime_ns)),
        pace,
    )


def _explore(
    question: Question,
    space: Space,
    executor: Executor,
    trials: int,
    seeds: Sequence[int],
    found: dict[Candidate, Outcome],
    seed: int,
) -> Iterator[int]:
    """Ask for a generation, try it, tell how it went; yields, now and then, how many trials are done.

    The first trials give every policy its defaults and the highest downtime limit. It ends with them when none of
    them completes and all have rounds that do not shrink.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed % 2**32,
            constant_liar=True,
        )
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        for start in space.first():
            study.enqueue_trial(start)
        done = 0
        while done < trials:
            asked = [study.ask() for _ in range(min(GENERATION, trials - done))]
            candidates = [space.ask(trial) for trial in asked]
            futures = {
                candidate: executor.submit(try_out, question, candidate, seeds)
                for candidate in dict.fromkeys(candidates)
                if candidate not in found
            }
            for number, (candidate, future) in enumerate(futures.items(), done):
                yield number
                found[candidate] = future.result()
            for trial, candidate in zip(asked, candidates, strict=True):
                outcome = found[candidate]
                if outcome.completed:
                    trial.set_constraint("over_ns", float(outcome.downtime_ns - space.downtime_ns))
                    study.tell(trial, (outcome.total_time_ns, outcome.downtime_ns))
                else:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
            done += len(asked)
            yield done
            if done >= len(space.first()) and all(outcome.flat for outcome in found.values()):
                return  # no policy sends as fast as the guest writes, and a lower limit only asks for more


def _ties(winner: Choice, choices: Sequence[Choice], downtime_ns: int) -> Iterator[Choice]:
    """Those that keep it as well, and are longer by less than counts; each policy once."""
    seen = {winner.candidate.policy}
    for choice in choices:
        more_ns = choice.outcome.total_time_ns - winner.outcome.total_time_ns
        counts_ns = max(
            (SAME_TIME - 1) * winner.outcome.total_time_ns, winner.outcome.spread_ns, choice.outcome.spread_ns
        )
        keeps = choice.outcome.downtime_ns <= downtime_ns
        if keeps and more_ns <= counts_ns and choice.candidate.policy not in seen:
            seen.add(choice.candidate.policy)
            yield choice


def to_test(keepers: Sequence[Choice]) -> list[Choice]:
    """Of those that keep the downtime, in order of total time, the ones to test; of the same outcome only one.

    First those of their front, with its end, the least downtime: what undoes one undoes its near copies, too.
    """
    front = list(_front(keepers))
    as_short_ns = round(SAME_TIME * front[0].outcome.total_time_ns) if front else 0
    as_short = [choice for choice in front if choice.outcome.total_time_ns <= as_short_ns]
    front = [*as_short[-1:], *front[len(as_short) :]]
    outcomes = {choice.outcome for choice in front}
    others = {choice.outcome: choice for choice in reversed(keepers) if choice.outcome not in outcomes}
    chosen = [*front[: FINALISTS - 1], *front[FINALISTS - 1 :][-1:], *reversed(others.values())][:FINALISTS]
    return sorted(
        chosen, key=lambda choice: (max(choice.outcome.total_time_ns, as_short_ns), choice.outcome.downtime_ns)
    )


def _over_seeds(question: Question, candidate: Candidate, executor: Executor, seeds: Sequence[int]) -> Outcome:
    """One candidate with many seeds, spread over the workers."""
    outcomes = [future.result() for future in [executor.submit(try_out, question, candidate, [s]) for s in seeds]]
    return Outcome(
        all(outcome.completed for outcome in outcomes),
        sum(outcome.total_time_ns for outcome in outcomes) // len(outcomes),
        max(outcome.downtime_ns for outcome in outcomes),
    )


def _front(choices: Sequence[Choice]) -> Iterator[Choice]:
    """Of choices in order of total time, those with less downtime than all before."""
    least_ns = None
    for choice in choices:
        if least_ns is None or choice.outcome.downtime_ns < least_ns:
            least_ns = choice.outcome.downtime_ns
            yield choice
