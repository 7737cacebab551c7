"""The examples of protocols of one's own, on real devices by the same files."""

from pathlib import Path

import pytest

from simmig.verbs.rdma.binding import Binding
from simmig.verify.own import Case, Own
from simmig.verify.own_devices import play_on_devices
from tests.device.conftest import DESTINATION, PATIENCE_S, SOURCE

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "scenario", "event", "count"),
    [
        ("ring_rpc.py", {}, "Served", 4),
        ("ring_rpc.py", {"slots": 4, "calls": 12}, "Served", 12),
        ("rendezvous.py", {}, "Received", 2),
        ("rendezvous.py", {"buffers": 3, "transfers": 6, "size_bytes": 16_384}, "Received", 6),
    ],
)
def test_an_example_runs_and_holds(
    verbs: Binding, name: str, scenario: dict[str, int], event: str, count: int
) -> None:
    verdict = play_on_devices(Own(f"{EXAMPLES}/{name}"), Case(scenario), (SOURCE, DESTINATION), PATIENCE_S)
    assert (verdict.status, verdict.reason) == ("completed", "")
    assert not verdict.broken
    assert [type(each).__name__ for each in verdict.events].count(event) == count
