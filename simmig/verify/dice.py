"""Chance that is the same everywhere: draws from a seed, by nothing but `Random.random`."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws that are the same on every Python: nothing but `Random.random`."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed).random

    def one(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[int(self.random() * len(options))]

    def below(self, limit: int) -> int:
        """A number from 0, below `limit`, small ones more often than large ones."""
        return int(limit ** self.random()) - 1 if self.random() < 0.3 else int(self.random() * limit)

    def chance(self, likelihood: float) -> bool:
        """Whether it happens."""
        return self.random() < likelihood
