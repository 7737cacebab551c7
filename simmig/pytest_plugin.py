"""pytest's way in: a fixture that property-tests a drain policy. Light, for pytest loads it in every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simmig.migration.policies import Policy


@pytest.fixture
def check_policy() -> Callable[..., None]:
    """A function: ``check_policy(MyPolicy, examples=50)`` plays that many migrations, fails on the first broken.

    See `simmig.verify.testing.every_migration`, the decorator, for its arguments.
    """
    from simmig.verify.testing import EXAMPLES, every_migration  # noqa: PLC0415

    def check(policy: Callable[[], Policy], *, examples: int = EXAMPLES, with_faults: bool = True) -> None:
        def holds(verdict: object) -> None:
            """The invariants are all that is asked for."""

        every_migration(policy, examples=examples, with_faults=with_faults)(holds)()

    return check
