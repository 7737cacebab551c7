"""What the lab makes of its options and of a machine that lacks things; the boot itself is in tests/device."""

import os
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.lab import machine, needs
from simmig.lab.machine import Boot, LabLink, Size


@pytest.mark.parametrize(
    ("link", "netem"),
    [
        (LabLink(), ""),
        (LabLink(rate_bit_s=100_000_000), "rate 100000000bit"),
        (LabLink(delay_ns=2_000_000), "delay 2000.000us"),
        (LabLink(loss=0.001), "loss 0.100000%"),
        (LabLink(40_000_000, 10_000_000, 0.05), "rate 40000000bit delay 10000.000us loss 5.000000%"),
    ],
)
def test_link_as_netem_is_told(link: LabLink, netem: str) -> None:
    assert link.netem() == netem


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    calls: list[tuple[object, ...]] = []

    def run(*arguments: object) -> int:
        calls.append(arguments)
        return 7

    monkeypatch.setattr(machine, "run", run)
    return calls


def test_command_and_link_reach_the_machine(recorded: list[tuple[object, ...]]) -> None:
    options = [
        "--rate",
        "100 Mbit/s",
        "--delay",
        "2 ms",
        "--loss",
        "1 %",
        "--memory",
        "2 GiB",
        "--timeout",
        "1 min",
    ]
    assert main(["lab", *options, "--", "ls", "--all", "-l"]) == 7
    command, link, size, _, timeout_s, boot = recorded[0]
    assert command == ["ls", "--all", "-l"]
    assert link == LabLink(100_000_000, 2_000_000, 0.01)
    assert size == Size(2, 2 << 30)
    assert timeout_s == 60.0
    assert boot == Boot()


@pytest.mark.parametrize("words", [["lab", "ls", "-l"], ["lab", "run", "ls", "-l"], ["lab", "--", "ls", "-l"]])
def test_the_word_run_may_be_left_out(recorded: list[tuple[object, ...]], words: list[str]) -> None:
    assert main(words) == 7
    assert recorded[0][:2] == (["ls", "-l"], LabLink())


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--rate", "100", "has no unit"),
        ("--rate", "0 bit/s", "carries nothing"),
        ("--delay", "2 MB", "no unit of time"),
        ("--loss", "1", 'written like "1 %"'),
        ("--loss", "101 %", 'written like "1 %"'),
        ("--memory", "1 MiB", "too little"),
    ],
)
def test_bad_options_are_bad_input(
    recorded: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], option: str, value: str, says: str
) -> None:
    assert main(["lab", option, value, "ls"]) == 2
    assert says in capsys.readouterr().err
    assert not recorded


def test_no_command_is_bad_input(recorded: list[tuple[object, ...]]) -> None:
    assert main(["lab", "run"]) == 2
    assert not recorded


def test_what_is_missing_is_named_with_the_commands_that_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(needs, "program", lambda name: None if name in {"tc", "virtme-run"} else f"/bin/{name}")
    assert main(["lab", "ls"]) == 125
    told = capsys.readouterr().err
    assert "tc " in told
    assert "iproute2" in told
    assert "apt-get install --no-install-recommends -y iproute2" in told
    assert "-m pip install 'virtme-ng>=" in told
    assert main(["lab", "check"]) == 1
    assert "MISSING  tc" in capsys.readouterr().out


@pytest.mark.parametrize(("here", "said"), [("", "venv"), ("venv", ""), ("elsewhere", "")])
def test_only_a_virtual_environment_below_the_current_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, said: str
) -> None:
    job = tmp_path / "job"
    for path in (job, tmp_path / "venv", tmp_path / "elsewhere"):
        path.mkdir()
    monkeypatch.chdir(tmp_path / here)
    monkeypatch.setattr("sys.prefix", str(tmp_path / "venv"))
    machine._write_job(job, ["true"], LabLink())
    expected = os.fsencode(tmp_path / said) if said else b""
    assert (job / "environment").read_bytes() == expected + b"\0"
