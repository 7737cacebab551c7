"""A hundred migrations in a row leave nothing behind. Minutes under emulation: only when asked for."""

import os
import resource
from pathlib import Path

import pytest

from tests.device import link
from tests.device.test_migration import check_completed, migrate

MIGRATIONS = 100
WARM_UP = 10
GROWTH_KIB = 8 << 10
"""Of the process at its largest, over ninety migrations of a guest of 1 MiB: less than 100 KiB for each."""

pytestmark = pytest.mark.skipif(
    os.environ.get("SIMMIG_TEST_ENDURANCE") != "1", reason="takes minutes: set SIMMIG_TEST_ENDURANCE=1"
)


def test_a_hundred_migrations_leak_nothing(verbs: object, tmp_path: Path) -> None:
    ways = (["migration.pin_all=true"], ["migration.pin_all=false"], ["migration.control_qp=own"])
    small = ["guest.memory=1 MiB", "guest.workload.working_set=64 KiB", "guest.device_state=4 KiB"]
    objects = link.objects()
    descriptors: list[str] = []
    peak_kib = 0
    for index in range(MIGRATIONS):
        check_completed(migrate(tmp_path, [*small, *ways[index % len(ways)]]))
        if index == WARM_UP:
            descriptors = sorted(os.listdir("/proc/self/fd"))
            peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < GROWTH_KIB
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    link.assert_no_more_than(objects)
