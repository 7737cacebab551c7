"""Property tests of a drain policy of your own, with pytest and Hypothesis (`pip install 'simmig[testing]'`).

Hypothesis draws small migrations, for the simulated device with fault plans and schedules; on devices
(`on="devices"`) two RDMA devices of this host carry the migration out. Either way every invariant must hold. A
failure is shrunk and told with its chart, and one on devices with what a simulation makes of the same migration.
"""

from __future__ import annotations

import inspect
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from simmig.migration.policies import Point, Policy, Sender
    from simmig.verify.migration.case import Case
    from simmig.verify.verdict import Verdict

EXAMPLES = 50
DEVICE_EXAMPLES = 20
DEVICE_SECONDS = 60.0
MARK = "simmig_devices"
_AT_FAULT = ("the policy raised ", "the policy answered ")

On = Literal["simulation", "devices"]
Test = Callable[["Verdict"], None]

accounts: list[str] = []
"""What the tests on devices have done, in words, since somebody last looked (the plugin does after each test)."""


def every_migration(
    policy: Callable[[], Policy] | Callable[[Point, Sender], int | None],
    *,
    on: On = "simulation",
    examples: int | None = None,
    with_faults: bool = True,
    seconds: float | None = None,
) -> Callable[[Test], Callable[[], None]]:
    """Run the test below for many migrations under a policy.

    Args:
        policy: makes a policy, a new one for each migration: its class, or a function without arguments. A
            function of two arguments is a policy as it is: its `drain(point, sender)`.
        on: "simulation", or "devices": two RDMA devices of this host. Where they are not the test is skipped, with
            the reason; where pytest was asked for them (`--simmig-devices A,B`, `--simmig-lab`) it fails.
        examples: how many migrations; 50 by default, 20 on devices.
        with_faults: whether packets are lost, calls fail, hosts die and so on; in simulation only.
        seconds: after which no new migration is begun; a failure may be shrunk as long again. No limit by
            default, 60 on devices. One migration takes milliseconds in simulation, on devices some tenths of a
            second, and some seconds where these are emulated.

    The test takes one argument, the `Verdict` of a migration in which all invariants held: what it asserts comes
    on top of them. A policy that raises, or answers what is no number of bytes, fails the test.
    """
    if on not in ("simulation", "devices"):
        raise ValueError(f'on={on!r}: "simulation" or "devices"')
    make = _maker(policy)

    def decorate(test: Test) -> Callable[[], None]:
        if on == "simulation":
            return _named(_run(test, _Simulation(make, with_faults), examples or EXAMPLES, seconds), test)

        def on_devices() -> None:
            began = time.monotonic()
            world = _OnDevices(make, _devices(), test)
            limit = DEVICE_SECONDS if seconds is None else seconds
            try:
                _named(_run(test, world, examples or DEVICE_EXAMPLES, limit), test)()
            finally:
                took_s = time.monotonic() - began
                migrations = f"{world.count} migration{'s' * (world.count != 1)}"
                accounts.append(f"{migrations} on {', '.join(world.devices)} in {took_s:.0f} s")

        return _marked(_named(on_devices, test), test)

    return decorate


def _maker(policy: Any) -> Callable[[], Policy]:
    """Who makes the policies."""
    from simmig.migration.policies import of_function  # noqa: PLC0415  (light to import: pytest loads this)

    if not isinstance(policy, types.FunctionType):
        made: Callable[[], Policy] = policy
        return made
    try:
        inspect.signature(policy).bind()
    except TypeError:
        return of_function(policy, policy.__name__)
    return policy


def _named(run: Callable[[], None], test: Test) -> Callable[[], None]:
    run.__name__, run.__qualname__ = test.__name__, test.__qualname__
    run.__module__, run.__doc__ = test.__module__, test.__doc__
    return run


def _marked(run: Callable[[], None], test: Test) -> Callable[[], None]:
    import pytest  # noqa: PLC0415  (not needed in simulation)

    marks = list(getattr(test, "pytestmark", []))
    vars(run)["pytestmark"] = [*marks, getattr(pytest.mark, MARK).mark]
    return run


def _devices() -> tuple[str, str]:
    """Two to test on; skips, or fails, where there are none."""
    import pytest  # noqa: PLC0415

    from simmig.verbs.rdma.errors import RdmaUnavailable  # noqa: PLC0415
    from simmig.verify.migration import on_devices  # noqa: PLC0415

    try:
        return on_devices.devices()
    except RdmaUnavailable as reason:
        if on_devices.wanted.required:
            raise AssertionError(f"needs two RDMA devices: {reason}") from None
        pytest.skip(f"needs two RDMA devices: {reason}")


@dataclass
class _Simulation:
    """Plays a case; the text of what is wrong, empty for nothing."""

    make: Callable[[], Policy]
    with_faults: bool

    def cases(self) -> Any:
        from simmig.verify.migration.strategies import cases  # noqa: PLC0415

        return cases(self.with_faults)

    def __call__(self, case: Case) -> tuple[Verdict, str]:
        from simmig.verify.migration.play import play  # noqa: PLC0415

        verdict = play(case, policy=self.make())
        return verdict, _told(case, verdict)

    def explain(self, case: Case, verdict: Verdict) -> str:
        """What to add to a failure of the test's own."""
        return ""


@dataclass
class _OnDevices:
    """The same on devices; a failure is played in simulation as well."""

    make: Callable[[], Policy]
    devices: tuple[str, str]
    test: Test
    count: int = field(default=0, init=False)

    def cases(self) -> Any:
        from simmig.verify.migration.strategies import real_cases  # noqa: PLC0415

        return real_cases()

    def __call__(self, case: Case) -> tuple[Verdict, str]:
        from simmig.verify.migration.on_devices import carry_out  # noqa: PLC0415

        self.count += 1
        verdict = carry_out(case, self.make(), self.devices)
        told = _told(case, verdict)
        return verdict, told and f"on devices {', '.join(self.devices)}: {told}\n{self._simulated(case)}"

    def explain(self, case: Case, verdict: Verdict) -> str:
        from simmig.verify.migration.subject import MIGRATION  # noqa: PLC0415
        from simmig.verify.report import described  # noqa: PLC0415

        lines = [
            f"on devices {', '.join(self.devices)}:",
            *described(MIGRATION, case, verdict),
            self._simulated(case),
        ]
        return "\n".join(lines)

    def _simulated(self, case: Case) -> str:
        """What a simulation makes of the same migration."""
        from simmig.verify.migration.subject import MIGRATION  # noqa: PLC0415
        from simmig.verify.report import described  # noqa: PLC0415

        verdict, told = _Simulation(self.make, False)(case)
        small = case.migration
        what = (
            f"the same migration in simulation ({small.bandwidth_bit_s / 1e9:g} Gbit/s, {small.latency_ns} ns): "
        )
        if told:
            return f"{what}{told}"
        try:
            self.test(verdict)
            held = "all holds there"
        except Exception as error:
            held = f"the test fails there, too ({type(error).__name__}: {str(error)[:200]})"
        return "\n".join([what + held, *described(MIGRATION, case, verdict)])


def _told(case: Case, verdict: Verdict) -> str:
    """What is wrong with a run, and its chart; empty when nothing is."""
    from simmig.verify.migration.subject import MIGRATION  # noqa: PLC0415
    from simmig.verify.report import described  # noqa: PLC0415

    if verdict.broken or verdict.reason.startswith(_AT_FAULT):
        return "\n".join([verdict.reason, *described(MIGRATION, case, verdict)])
    return ""


def _run(test: Test, world: _Simulation | _OnDevices, examples: int, seconds: float | None) -> Callable[[], None]:
    """The property test. Each case is played once: what devices did once they need not do again.

    When time is over, what was not played passes: then nothing more is found, and nothing left to shrink.
    """
    from hypothesis import HealthCheck, Phase, given, settings  # noqa: PLC0415  (not needed to run simmig)

    from simmig.verify.migration.case import to_json  # noqa: PLC0415

    phases = set(Phase) - {Phase.explain}  # which traces every line, and the chart explains more
    budget = _Budget(seconds)
    seen: dict[bytes, tuple[Verdict, str]] = {}

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)
    @given(case=world.cases())
    def run(case: Case) -> None:
        key = to_json(case)
        if key not in seen:
            if budget.over:
                return
            played = world(case)
            if seconds is not None or played[1]:
                seen[key] = played
        else:
            played = seen[key]
        verdict, told = played
        if told:
            budget.failed()
            raise AssertionError(told)
        try:
            test(verdict)
        except Exception as error:
            budget.failed()
            seen[key] = played
            if explained := world.explain(case, verdict):
                error.add_note(explained)
            raise

    return run


class _Budget:
    """Time for new cases, and from the first failure on as much for shrinking it."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._has_failed = False

    @property
    def over(self) -> bool:
        """Whether no case may be begun; the first may in any case."""
        if self._seconds is None:
            return False
        if self._until is None:
            self._until = time.monotonic() + self._seconds
            return False
        return time.monotonic() >= self._until

    def failed(self) -> None:
        """Note a failure."""
        if self._seconds is not None and not self._has_failed:
            self._has_failed = True
            self._until = time.monotonic() + self._seconds
