"""``simmig run --backend rdma`` where there is no device; with devices, see tests/device."""

import pytest

from simmig.cli.main import main
from simmig.verbs.rdma import binding, device
from simmig.verbs.rdma.errors import RdmaUnavailable

SCENARIO = "scenarios/quickstart.toml"


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the devices that the host seems to have."""
    names: list[str] = []
    monkeypatch.setattr(binding, "load", lambda: None)
    monkeypatch.setattr(device, "devices", lambda _: names)
    return names


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "this host has none (`simmig lab -- COMMAND` has two"),
        (["a", "b", "c"], "this host has a, b, c: name two"),
    ],
)
def test_without_two_devices_it_says_what_would_help(
    present: list[str], capsys: pytest.CaptureFixture[str], names: list[str], says: str
) -> None:
    present += names
    assert main(["run", SCENARIO, "--backend", "rdma"]) == 2
    assert says in capsys.readouterr().err


def test_without_pyverbs_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> None:
        raise RdmaUnavailable("pyverbs is not installed")

    monkeypatch.setattr(binding, "load", load)
    assert main(["run", SCENARIO, "--backend", "rdma"]) == 2
    assert "pyverbs is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--device", "rxe0"], ["--backend", "rdma", "--device", "rxe0"]], ids=["simulated", "only one"]
)
def test_devices_are_named_in_pairs_and_for_real_runs(
    capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert main(["run", SCENARIO, *options]) == 2
    assert "--device" in capsys.readouterr().err
