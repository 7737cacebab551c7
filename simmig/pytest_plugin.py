"""pytest's way in: property tests of a drain policy, in simulation, on devices, in the lab; devices for programs.

Light: always loaded. `--simmig-devices A,B` names the devices and requires them; `--simmig-lab` has the tests that
need devices run in the lab, and reports them here (`simmig.pytest_lab`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from simmig.verbs.sim.link import LinkSpec
    from simmig.verify.testing import On

_PROPERTY = "simmig"
"""Of a report: what its test did on devices."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Our options."""
    group = parser.getgroup("simmig")
    group.addoption(
        "--simmig-devices",
        metavar="A,B",
        help="two RDMA devices of this host for tests on devices, the source's first; required then",
    )
    group.addoption(
        "--simmig-lab",
        action="store_true",
        help="run tests on devices in a virtual machine with two soft-RoCE devices (see `simmig lab check`)",
    )
    group.addoption("--simmig-reports", metavar="FILE", help="(for --simmig-lab: where the lab's side reports to)")


def pytest_configure(config: pytest.Config) -> None:
    """Take the options."""
    config.addinivalue_line("markers", "simmig_devices: needs two RDMA devices; with --simmig-lab it runs there")
    if asked := config.getoption("--simmig-devices"):
        from simmig.verify.migration.on_devices import wanted  # noqa: PLC0415

        names = tuple(name.strip() for name in asked.split(","))
        if len(names) != 2 or not all(names) or names[0] == names[1]:
            raise pytest.UsageError(f"--simmig-devices {asked}: names of two devices, like rxe0,rxe1")
        wanted.devices, wanted.required = (names[0], names[1]), True
    if config.getoption("--simmig-reports"):
        from simmig.pytest_lab import Inside  # noqa: PLC0415

        config.pluginmanager.register(Inside(config), "simmig-inside-the-lab")
    elif config.getoption("--simmig-lab"):
        from simmig.pytest_lab import Outside  # noqa: PLC0415

        config.pluginmanager.register(Outside(config), "simmig-lab")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Keep with the test what it did on devices."""
    from simmig.verify.testing import accounts  # noqa: PLC0415

    accounts.clear()
    try:
        return (yield)
    finally:
        item.user_properties.extend((_PROPERTY, account) for account in accounts)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many migrations each test on devices was: time may have been over before all were carried out."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, account in report.user_properties:
                    if name == _PROPERTY:
                        terminalreporter.write_line(f"simmig: {report.nodeid}: {account}")


@pytest.fixture
def check_policy(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function: ``check_policy(MyPolicy, on="devices")`` plays many migrations, fails on the first broken.

    See `simmig.verify.testing.every_migration`, the decorator, for its arguments. A test that calls it with
    ``on="devices"`` is marked ``@pytest.mark.simmig_devices``, so that `--simmig-lab` takes it there.
    """
    from simmig.verify.testing import MARK, every_migration  # noqa: PLC0415

    def check(policy: Any, *, on: On = "simulation", **how: Any) -> None:
        def holds(verdict: object) -> None:
            """The invariants are all that is asked for."""

        if on == "devices" and request.config.getoption("--simmig-lab"):
            inside = request.config.getoption("--simmig-reports")
            if not inside and request.node.get_closest_marker(MARK) is None:
                pytest.fail(
                    f"on devices: mark this test @pytest.mark.{MARK}, and --simmig-lab takes it to the lab"
                )
        every_migration(policy, on=on, **how)(holds)()

    return check


@pytest.fixture
def pyverbs_devices() -> Iterator[Callable[..., list[str]]]:
    """A function: ``left, right = pyverbs_devices(2, profile="rxe")`` makes simulated devices, and names them.

    From then to the test's end `import pyverbs` is theirs, in this process and all its threads. What a module of
    tests imports at its top it has before that: run such as ``simmig pyverbs -- python -m pytest``. `devices` is a
    number or names, `link` a `simmig.verbs.sim.link.LinkSpec`, `seed` decides what a lossy link loses.
    """
    from simmig.verbs.pyverbs.launch import simulated  # noqa: PLC0415
    from simmig.verbs.pyverbs.world import DEFAULT_LINK  # noqa: PLC0415
    from simmig.verbs.sim.profiles import PROFILES  # noqa: PLC0415

    with ExitStack() as stack:

        def make(
            devices: int | list[str] = 2, *, profile: str = "ideal", link: LinkSpec = DEFAULT_LINK, seed: int = 0
        ) -> list[str]:
            world = stack.enter_context(simulated(devices, PROFILES[profile], link, seed))
            return list(world.fabric.devices)

        yield make
