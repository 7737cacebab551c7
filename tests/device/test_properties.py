"""Whatever the policy, the guest, the registration and the link: a real migration ends as a simulated one must."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.device import link
from tests.device.test_migration import POLICIES, check_completed, migrate

guests = st.fixed_dictionaries(
    {
        "guest.memory": st.integers(2, 24).map(lambda quarters: f"{quarters * 256} KiB"),
        "guest.workload": st.one_of(
            st.just("{ kind = 'idle' }"),
            st.builds(
                "{{ kind = '{}', working_set = '{} KiB', rate = '{} KiB/s' }}".format,
                st.sampled_from(["sweep", "uniform"]),
                st.integers(1, 128).map(lambda pages: pages * 4),
                st.sampled_from([64, 512]),
            ),
        ),
        "guest.zero_fraction": st.sampled_from([0.0, 0.3, 1.0]),
        "guest.device_state": st.sampled_from(["1 KiB", "100 KiB"]),
    }
)
ways = st.fixed_dictionaries(
    {
        "migration.pin_all": st.sampled_from(["true", "false"]),
        "migration.registration_batch": st.sampled_from([1, 3, 4096]),
        "migration.slice": st.sampled_from(["50 ms", "round", "unlimited"]),
        "migration.control_wait": st.sampled_from(["completion", "deferred"]),
        "migration.control_qp": st.sampled_from(["shared", "own"]),
    }
)
links = st.sampled_from(["", "rate 40mbit", "rate 100mbit delay 2ms", "rate 200mbit delay 10ms", "loss 0.1%"])


@pytest.fixture(autouse=True)
def _lab_link(verbs: object) -> Iterator[None]:
    link.need()
    before = link.objects()
    yield
    link.netem("")
    link.assert_no_more_than(before)


# The same examples each time, no more than a minute or two of them, none shrunk: emulated devices are slow.
@settings(
    phases=(Phase.explicit, Phase.generate),
    max_examples=12,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(guest=guests, way=ways, words=links, policy=st.sampled_from(POLICIES))
def test_every_migration_ends_well(
    tmp_path: Path, guest: dict[str, object], way: dict[str, object], words: str, policy: str
) -> None:
    link.netem(words)
    result = migrate(tmp_path, [f"{key}={value}" for key, value in (guest | way).items()], policy)
    note(f"{result.status}: {result.reason}")
    check_completed(result)
