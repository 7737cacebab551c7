"""Fixtures of the verbs tests."""

from __future__ import annotations

import pytest

from simmig.verbs.sim.profiles import PROFILES, Profile
from tests.verbs.rig import Rig


@pytest.fixture(params=list(PROFILES))
def profile(request: pytest.FixtureRequest) -> Profile:
    return PROFILES[request.param]


@pytest.fixture
def rig(profile: Profile) -> Rig:
    """Two connected ends, once on each profile."""
    return Rig(profile)
