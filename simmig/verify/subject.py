"""What is checked, as the explorers see it: something that makes cases of seeds, plays them, and knows its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from simmig.verify import faults as f
from simmig.verify.choices import Choice, Choices, Drawn
from simmig.verify.story import Story
from simmig.verify.verdict import Verdict


class Case(Protocol):
    """One run to the last detail: a frozen msgspec structure with a scenario of the subject's own, and these two.

    `schedule` lists every choice that was not the usual one.
    """

    @property
    def __struct_fields__(self) -> tuple[str, ...]:
        """It is a structure."""

    @property
    def faults(self) -> tuple[f.Fault, ...]:
        """The plan."""

    @property
    def schedule(self) -> tuple[Choice, ...]:
        """What the world is to choose."""


class Subject(Protocol):
    """A protocol to check. It can be pickled, for it goes to worker processes; the engine knows nothing else."""

    @property
    def kind(self) -> str:
        """What a scenario is called in reports: "migration"."""

    @property
    def command(self) -> str:
        """How it is named on the command line, behind `simmig verify`; empty for what needs no name."""

    @property
    def invariants(self) -> Mapping[str, str]:
        """All that a run is held to: names, and what holds in words."""

    @property
    def story(self) -> Story:
        """How its traces are told."""

    @property
    def bound(self) -> str:
        """What `roots` are, in words, with what the exhaustive search does to them left out."""

    @property
    def case_type(self) -> type[Any]:
        """The structure that a replay file is read into."""

    @property
    def must_repeat(self) -> str:
        """What it takes for two runs of a case to be the same, as a sentence for whoever broke it."""

    @property
    def can_cancel(self) -> bool:
        """Whether a side can be told by its user to stop."""

    def generate(self, seed: int) -> tuple[Any, Drawn]:
        """The case of a seed, its schedule still to be drawn, and who draws it."""

    def play(self, case: Any, choices: Choices | None = None) -> Verdict:
        """Run a case to its end; `choices` replace its own schedule. Raises ValueError for what cannot be."""

    def differing(self, seed: int, verdict: Verdict) -> str:
        """Whether the seed, if it is one to be played twice, gives something else: words, empty for the same."""

    def roots(self) -> list[Any]:
        """The cases whose every fault and schedule an exhaustive search plays."""

    def more_faults(self, occasions: Mapping[str, int]) -> Iterator[f.Fault]:
        """Faults of the subject's own beside those of any, where the usual run has a place for them."""

    def plainer(self, case: Any) -> Iterator[Any]:
        """The same with one more thing of its scenario as usual, or smaller."""

    def told(self, case: Any) -> str:
        """What of its scenario is not as usual; empty for nothing."""
