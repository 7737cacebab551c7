"""The link loses, delays, is cut: the migration ends well, or fails in time and leaves the guest where it was."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simmig.experiment.result import Result
from simmig.trace.events import AnyEvent, PagesSaved
from tests.device import link
from tests.device.test_migration import check_completed, migrate

BOUND_NS = 120_000_000_000
"""Six times 2.1 s until a queue pair gives its peer up, 30 s for a control message; with room for emulation."""
AWAY_S = 2.0


@pytest.fixture(autouse=True)
def _lab_link(verbs: object) -> Iterator[None]:
    link.need()
    before = link.objects()
    yield
    link.netem("")
    link.assert_no_more_than(before)


class Break:
    """Breaks the link when the third chunk is under way; and mends it later, where there is a way `back`."""

    def __init__(self, away: Callable[[], None], back: Callable[[], None] | None = None) -> None:
        self.broken = False
        self._away = away
        self._timer = threading.Timer(AWAY_S, back) if back is not None else None

    def __call__(self, event: AnyEvent) -> None:
        if isinstance(event, PagesSaved) and event.page >= 512 and not self.broken:
            self.broken = True
            self._away()
            if self._timer is not None:
                self._timer.start()

    def finish(self, result: Result) -> None:
        assert self.broken, result.reason
        if self._timer is not None:
            self._timer.join()


def check_failed(result: Result) -> None:
    assert result.status == "failed"
    check_stayed(result)


def check_stayed(result: Result) -> None:
    """In time, saying why, the guest running where it was and nowhere else."""
    assert result.reason
    assert result.figures()["total_time_ns"] < BOUND_NS
    assert (result.source_running, result.destination_running) == (True, False)
    assert [name for name, held in result.invariants.items() if not held] == []


@pytest.mark.parametrize("loss", ["0.1%", "1%", "5%"])
@pytest.mark.parametrize("transport", ["rdma", "tcp"])
def test_loss(tmp_path: Path, loss: str, transport: str) -> None:
    link.netem(f"loss {loss}")
    result = migrate(tmp_path, [f"migration.transport={transport}"])
    if result.status in ("failed", "not-converging") and loss == "5%":
        check_stayed(result)  # retries may be used up, and TCP slower than the guest writes
    else:
        check_completed(result)


def test_a_far_destination(tmp_path: Path) -> None:
    link.netem("delay 50ms")
    check_completed(migrate(tmp_path))


def test_a_cable_is_pulled_for_a_while(tmp_path: Path) -> None:
    """The queue pairs' retries last longer than that."""
    broken = Break(link.cut, lambda: link.netem(""))
    result = migrate(tmp_path, policy="per-chunk", live=[broken])
    broken.finish(result)
    check_completed(result)


@pytest.mark.parametrize("way", ["pin_all=true", "pin_all=false", "control_qp=own", "transport=tcp"])
def test_the_link_is_cut_for_good(tmp_path: Path, way: str) -> None:
    broken = Break(link.cut)
    result = migrate(tmp_path, [f"migration.{way}"], policy="per-chunk", live=[broken])
    broken.finish(result)
    check_failed(result)
