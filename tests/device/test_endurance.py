"""A hundred migrations in a row leave nothing behind. Minutes under emulation: only when asked for."""

import gc
import os
from pathlib import Path

import pytest

from tests.device import link
from tests.device.test_migration import check_completed, migrate

MIGRATIONS = 100
WARM_UP = 10
GROWTH_KIB = 2 << 10
"""Of the process, over ninety migrations of a guest of 1 MiB: less than 23 KiB for each."""

pytestmark = pytest.mark.skipif(
    os.environ.get("SIMMIG_TEST_ENDURANCE") != "1", reason="takes minutes: set SIMMIG_TEST_ENDURANCE=1"
)


def resident() -> int:
    """KiB in memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0])


def test_a_hundred_migrations_leak_nothing(verbs: object, tmp_path: Path) -> None:
    ways = (["migration.pin_all=true"], ["migration.pin_all=false"], ["migration.control_qp=own"])
    small = ["guest.memory=1 MiB", "guest.workload.working_set=64 KiB", "guest.device_state=4 KiB"]
    objects = link.objects()
    descriptors: list[str] = []
    resident_kib = 0
    for index in range(MIGRATIONS):
        check_completed(migrate(tmp_path, [*small, *ways[index % len(ways)]]))
        gc.collect()  # what it frees is no leak, but would be room in the heap that counts as resident
        if index == WARM_UP:
            descriptors = sorted(os.listdir("/proc/self/fd"))
            resident_kib = resident()
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert resident() - resident_kib < GROWTH_KIB
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    link.assert_no_more_than(objects)
