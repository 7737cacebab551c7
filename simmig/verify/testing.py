"""Property tests of a drain policy of your own, with pytest and Hypothesis (`pip install 'simmig[testing]'`).

Hypothesis draws small migrations, fault plans and schedules; each is played on the simulated device with your
policy, and every invariant must hold. A failure is shrunk and told with its chart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simmig.migration.policies import Policy
    from simmig.verify.migration.case import Case
    from simmig.verify.verdict import Verdict

EXAMPLES = 50
_AT_FAULT = ("the policy raised ", "the policy answered ")


def every_migration(
    policy: Callable[[], Policy], *, examples: int = EXAMPLES, with_faults: bool = True
) -> Callable[[Callable[[Verdict], None]], Callable[[], None]]:
    """Run the test below for many migrations under a policy.

    Args:
        policy: makes a policy, a new one for each migration: its class, or a function without arguments.
        examples: how many migrations.
        with_faults: whether packets are lost, calls fail, hosts die and so on.

    The test takes one argument, the `Verdict` of a migration in which all invariants held: what it asserts comes
    on top of them. A policy that raises, or answers what is no number of bytes, fails the test.
    """

    def decorate(test: Callable[[Verdict], None]) -> Callable[[], None]:
        from hypothesis import HealthCheck, Phase, given, settings  # noqa: PLC0415  (not needed to run simmig)

        from simmig.verify.migration.strategies import cases  # noqa: PLC0415

        phases = set(Phase) - {Phase.explain}  # which traces every line, and the chart explains more

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)
        @given(case=cases(with_faults))
        def run(case: Case) -> None:
            test(played(case, policy()))

        run.__name__, run.__qualname__ = test.__name__, test.__qualname__
        run.__module__, run.__doc__ = test.__module__, test.__doc__
        checked: Callable[[], None] = run
        return checked

    return decorate


def played(case: Case, policy: Policy) -> Verdict:
    """Play one case; raises AssertionError, with the chart, when an invariant breaks or the policy is at fault."""
    from simmig.verify.migration.play import play  # noqa: PLC0415  (light to import: pytest loads this with its plugin)
    from simmig.verify.migration.subject import MIGRATION  # noqa: PLC0415
    from simmig.verify.report import described  # noqa: PLC0415

    verdict = play(case, policy=policy)
    if verdict.broken or verdict.reason.startswith(_AT_FAULT):
        raise AssertionError("\n".join([verdict.reason, *described(MIGRATION, case, verdict)]))
    return verdict
