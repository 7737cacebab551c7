"""What was observed of a VM is a workload that a scenario takes as it is."""

from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.experiment.runs.observe import Observation
from simmig.experiment.scenario.load import load_scenario
from simmig.experiment.scenario.machine import machine_of
from simmig.guest.api import RamBlock

MS = 1_000_000
BLOCKS = (RamBlock("pc.ram", 0, 1 << 20, 0, 0), RamBlock("/rom@etc/acpi/tables", 0, 1 << 16, 1 << 20, 256))
SEEN = Observation(
    BLOCKS, [(100 * MS, 3, 2), (100 * MS, 260, 1), (200 * MS, 0, 0), (300 * MS, 4, 1)], 300 * MS, 4, 4 * 4096
)


def test_a_recording_and_its_guest_table_make_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "vm.csv").write_text(SEEN.csv())
    scenario = tmp_path / "vm.toml"
    scenario.write_text(SEEN.guest_table(Path("vm.csv")) + '[link]\nbandwidth = "1 Gbit/s"\nlatency = "2 us"\n')
    machine = machine_of(load_scenario(scenario))
    assert machine.blocks == (("pc.ram", 1 << 20), ("/rom@etc/acpi/tables", 1 << 16))
    workload = machine.workload
    assert [workload.writes_by(at * MS) for at in (0, 100, 200, 300)] == [0, 3, 3, 4]
    assert workload.batch(0)[:4].tolist() == [3, 4, 260, 4]


def test_the_rate_is_of_what_was_written() -> None:
    assert SEEN.rate_bytes_s == 4 * 4096 * 10 // 3
    assert "working" not in SEEN.words
    assert SEEN.words.startswith("watched for 0.3 s: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "5"], "--for"),
        (["--every", "1 ms"], "--every"),
        (["--for", "1 s", "--every", "2 s"], "--every"),
        (["--qemu", "none"], "No such file"),
    ],
)
def test_what_cannot_be_observed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["observe", "--qemu", str(tmp_path / "qmp"), "--out", str(tmp_path / "vm.csv"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "vm.csv").exists()


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    qmp = str(tmp_path / "qmp")
    for command in (["observe", "--out", str(tmp_path / "vm.csv")], ["send", "--to", "127.0.0.1:4444"]):
        assert main([*command, "--qemu", qmp]) == 2
        assert "pip install 'simmig[qemu]'" in capsys.readouterr().err
