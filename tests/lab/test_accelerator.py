"""Which of KVM and emulation the lab takes: asked of stand-ins for QEMU that behave as hosts were seen to."""

from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.lab import accelerator, machine
from simmig.lab.accelerator import choose, remember
from simmig.lab.errors import LabError
from simmig.lab.kernel import Kernel
from simmig.lab.machine import Boot, LabLink, Size

CONSOLE = 'for word; do case $word in file:*) console=${word#file:};; esac; done; echo >> "$0.runs"; '
PRINTS = CONSOLE + 'echo "[    0.000000] Linux version 6.1.0" > "$console"; exec sleep 60'
FIRMWARE_ONLY = CONSOLE + 'echo "Probing EDD (edd=off to disable)... ok" > "$console"; exec sleep 60'
FAILS = CONSOLE + "echo 'qemu: Assertion failed' >&2; exit 134"
PRINTS_AND_ENDS = CONSOLE + 'echo "Linux version 6.1.0" > "$console"'


class Host:
    """A /dev/kvm, a cache, a kernel, and a program that behaves as QEMU does there."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.booted = Kernel(directory / "kernel", "6.1.0-9-amd64")
        self.device = directory / "kvm"
        self.device.touch()
        self.boot_id = directory / "boot_id"
        self.boot_id.write_text("one boot\n")
        self._program = directory / "qemu"
        monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
        monkeypatch.setattr(accelerator, "_DEVICE", self.device)
        monkeypatch.setattr(accelerator, "_BOOT_ID", self.boot_id)

    def qemu(self, script: str) -> str:
        self._program.write_text(f"#!/bin/sh\n{script}\n")
        self._program.chmod(0o755)
        return str(self._program)

    @property
    def boots(self) -> int:
        runs = Path(f"{self._program}.runs")
        return len(runs.read_text().splitlines()) if runs.exists() else 0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.mark.parametrize("script", [PRINTS, PRINTS_AND_ENDS])
def test_a_kernel_that_prints_its_first_line_is_kvm_that_works(host: Host, script: str) -> None:
    assert choose("auto", host.booted, host.qemu(script)).kvm
    assert choose("kvm", host.booted, host.qemu(script)).kvm


@pytest.mark.parametrize(
    ("script", "why"), [(FIRMWARE_ONLY, "prints nothing within"), (FAILS, "qemu: Assertion failed")]
)
def test_a_kvm_that_gets_no_kernel_to_its_first_line_is_none(
    host: Host, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    if script == FIRMWARE_ONLY:
        monkeypatch.setattr(accelerator, "PATIENCE_S", 0.5)
    found = choose("auto", host.booted, host.qemu(script))
    assert not found.kvm
    assert why in found.why
    with pytest.raises(LabError, match=why):
        choose("kvm", host.booted, host.qemu(script))


def test_the_answer_costs_its_seconds_once_a_boot_of_the_host(host: Host) -> None:
    qemu = host.qemu(FAILS)
    other = Kernel(host.booted.root, "6.12.0-1-amd64")
    for booted in (host.booted, other):
        assert choose("auto", booted, qemu).news
    for booted in (host.booted, other):
        assert not choose("auto", booted, qemu).news
    assert host.boots == 2
    host.boot_id.write_text("another\n")
    assert choose("auto", host.booted, qemu).news
    assert host.boots == 3
    assert choose("auto", host.booted, host.qemu(PRINTS)).kvm, "another QEMU is asked anew"


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"host": 1}'])
def test_a_memory_that_cannot_be_read_is_asked_anew(host: Host, kept: str) -> None:
    memory = accelerator._memory()
    memory.parent.mkdir(parents=True)
    memory.write_text(kept)
    assert choose("auto", host.booted, host.qemu(PRINTS)).kvm
    assert host.boots == 1


def test_only_so_many_answers_are_kept(host: Host) -> None:
    for number in range(40):
        remember(Kernel(host.booted.root, f"6.1.0-{number}-amd64"), host.qemu(PRINTS), kvm=True, why="it does")
    assert len(accelerator._remembered()) == accelerator._ANSWERS


def test_a_cache_that_cannot_be_written_costs_only_time(host: Host, tmp_path: Path) -> None:
    (tmp_path / "simmig").write_text("no directory")
    assert choose("auto", host.booted, host.qemu(PRINTS)).kvm


def test_without_the_device_nothing_is_booted(host: Host) -> None:
    host.device.unlink()
    found = choose("auto", host.booted, host.qemu(PRINTS))
    assert not found.kvm
    assert "there is no" in found.why
    assert host.boots == 0


def test_emulation_asked_for_asks_nobody(host: Host) -> None:
    assert not choose("tcg", host.booted, host.qemu(PRINTS)).kvm
    assert host.boots == 0


class Told:
    """Keeps what a log would show."""

    def __init__(self) -> None:
        self.urgent: list[str] = []

    def __call__(self, text: str, *, urgent: bool = False) -> None:
        if urgent:
            self.urgent.append(text)


class Boots:
    """The machine itself, with stand-ins for what it boots: under KVM it never comes up, emulated it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
        qemu = host.qemu(PRINTS)
        self.silent = "exec sleep 600"
        self.panics = 0
        self.tried: list[bool] = []
        monkeypatch.setattr(machine, "require_all", lambda: None)
        monkeypatch.setattr(machine, "kernel", lambda tell, series: host.booted)
        monkeypatch.setattr(machine, "program", lambda name: qemu)
        monkeypatch.setattr(machine, "_machine", self._machine)
        monkeypatch.setattr(machine, "KVM_BOOT_PATIENCE_S", 0.5)

    def _machine(self, booted: Kernel, job: Path, shared: bool, size: Size, qemu: str, fast: bool) -> list[str]:
        self.tried.append(fast)
        if self.panics:
            self.panics -= 1
            return ["sh", "-c", f"echo 'Oops: int3: 0000\nKernel panic' > {job}/console; exit 0"]
        return ["sh", "-c", self.silent if fast else f"touch {job}/started; echo 7 > {job}/status"]


@pytest.mark.parametrize("silent", ["exec sleep 600", "exit 3"])
def test_a_kvm_that_stalls_later_is_given_up_for_good(
    host: Host, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    boots = Boots(monkeypatch, host)
    boots.silent = silent
    told = Told()
    assert machine.run(["true"], LabLink(), Size(), told) == 7
    assert machine.run(["true"], LabLink(), Size(), told) == 7
    assert boots.tried == [True, False, False]
    assert len(told.urgent) == 1
    assert "emulation instead" in told.urgent[0]


def test_a_kvm_of_no_use_is_told_once_also_off_a_terminal(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Boots(monkeypatch, host)
    host.qemu(FAILS)
    for said in ("lab: booting 6.1.0-9-amd64 under emulation (TCG): KVM is there and cannot start the kernel", ""):
        assert main(["lab", "true"]) == 7
        assert capsys.readouterr().err.startswith(said)


def test_a_kernel_that_panics_on_its_way_up_is_booted_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, host)
    boots.panics = 2
    told = Told()
    assert machine.run(["true"], LabLink(), Size(), told, boot=Boot(accel="tcg")) == 7
    assert boots.tried == [False] * 3
    assert len(told.urgent) == 2
    assert "Oops: int3" in told.urgent[0]
    assert "booting again" in told.urgent[0]


def test_a_kernel_that_panics_on_every_boot_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, host)
    boots.panics = 9
    with pytest.raises(LabError, match="Kernel panic"):
        machine.run(["true"], LabLink(), Size(), Told(), boot=Boot(accel="tcg"))
    assert len(boots.tried) == machine.BOOTS


def test_kvm_asked_for_is_not_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, host)
    with pytest.raises(LabError, match="did not boot"):
        machine.run(["true"], LabLink(), Size(), Told(), boot=Boot(accel="kvm"))
    assert boots.tried == [True]


def test_remembered_answers_name_their_reason(host: Host) -> None:
    qemu = host.qemu(PRINTS)
    remember(host.booted, qemu, kvm=False, why="it stalled")
    assert str(choose("auto", host.booted, qemu)) == "emulation (TCG): it stalled"


def test_the_choice_reaches_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def run(*arguments: object) -> int:
        asked.append(arguments[-1])
        return 0

    monkeypatch.setattr(machine, "run", run)
    assert main(["lab", "--accel", "tcg", "true"]) == 0
    assert main(["lab", "--kernel", "6.12", "true"]) == 0
    assert main(["lab", "--accel", "xen", "true"]) == 2
    assert main(["lab", "--kernel", "newest", "true"]) == 2
    assert asked == [Boot(accel="tcg"), Boot("6.12")]
