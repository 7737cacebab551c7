"""simmig send and receive, given what they cannot use. With devices: tests/device/test_ends.py."""

from pathlib import Path
from typing import Any

import pytest

from simmig.cli.main import main
from simmig.experiment.runs import ends
from simmig.verbs.rdma.errors import RdmaUnavailable

SCENARIO = """# A small guest.
[guest]
memory = "4 MiB"
[link]
bandwidth = "1 Gbit/s"
latency = "1 us"
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.mark.parametrize("where", ["192.0.2.7", "192.0.2.7:", ":4444", "192.0.2.7:0", "192.0.2.7:70000", "h:p"])
def test_an_address_that_is_none(scenario: str, capsys: pytest.CaptureFixture[str], where: str) -> None:
    assert main(["send", scenario, "--to", where]) == 2
    assert f"simmig: --to {where}: write ADDRESS:PORT, e.g. 192.0.2.7:4444" in capsys.readouterr().err
    assert main(["receive", scenario, "--listen", where]) == 2
    assert f"simmig: --listen {where}: write ADDRESS:PORT" in capsys.readouterr().err


def test_a_scenario_is_checked_before_anything_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.toml")
    assert main(["send", missing, "--to", "192.0.2.7:4444"]) == 2
    assert f"{missing}: cannot be read" in capsys.readouterr().err
    assert main(["receive", missing]) == 2
    assert f"{missing}: cannot be read" in capsys.readouterr().err


def test_a_device_that_does_not_exist(scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["receive", scenario, "--device", "nosuch0", "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("simmig: ")
    assert "nosuch0" in told.err or "pyverbs" in told.err
    assert not out.exists()


def test_a_script_hears_on_standard_error_that_receive_listens(
    scenario: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def receive(*arguments: Any) -> None:
        _, at, _, listening, *_ = arguments
        listening(at)
        raise RdmaUnavailable("the test ends here")

    monkeypatch.setattr(ends, "receive", receive)
    for where in ("192.0.2.7:4444", "[2001:db8::7]:4444"):
        assert main(["receive", scenario, "--listen", where, "--json"]) == 2
        told = capsys.readouterr()
        assert told.out == "", "standard output is the figures' alone"
        assert told.err.splitlines()[0] == f"waiting for a source on {where}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["send", "--to", "192.0.2.7:4444"], "name a SCENARIO, or the machine to send: --load DIR"),
        (["send", "--load", "none", "--to", "192.0.2.7:4444"], "--load none/machine.json: No such file"),
        (["receive", "--save", "."], "--save .: holds results already"),
        (["receive", "--set", "guest.memory=4 GiB"], "without a SCENARIO only migration.KEY can be set"),
    ],
)
def test_a_machine_that_is_none(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err
