"""The same property test of each policy, in simulation and on two RDMA devices."""

import pytest
from my_policy import HalfBudget, before_stop

from simmig.verify.testing import every_migration


def ends_well(verdict):
    """A migration fails only when something was broken. What simmig itself asks of each is asked before this."""
    assert verdict.status != "failed" or verdict.happened, verdict.reason


test_half_budget = every_migration(HalfBudget)(ends_well)
test_half_budget_on_devices = every_migration(HalfBudget, on="devices")(ends_well)


@every_migration(lambda: HalfBudget(most=1 << 20))
def test_one_mebibyte_at_most(verdict):
    """With another parameter; the promise follows it."""
    ends_well(verdict)


def test_a_plain_function(check_policy):
    """`check_policy` is `every_migration` in a test of one's own making."""
    check_policy(before_stop)


@pytest.mark.simmig_devices
def test_a_plain_function_on_devices(check_policy):
    """Where simmig cannot know before the test runs that it needs devices, a mark says so."""
    check_policy(before_stop, on="devices", examples=5)
