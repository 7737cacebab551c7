"""Input that means harm, or was never looked at: one short message, exit status 2, in time and memory bounded."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.experiment.runs import memory_need
from simmig.experiment.scenario import machine
from tests.cli.test_errors import MINIMAL, refused

LINE = 520


def short(message: str) -> str:
    """The message, after a look at its length: one line."""
    assert message.count("\n") == 1
    assert len(message) < LINE
    return message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (MINIMAL + 'model = ["a.toml"]\n', "link.model: unknown model ['a.toml']"),
        (MINIMAL + 'model = "a\\u0000b.toml"\n', "cannot be read: embedded null byte"),
        ("seed = " + 5000 * "9", "malformed TOML: Exceeds the limit"),
        ("x = " + 500 * "[" + 500 * "]", "malformed TOML: nested too deeply"),
        ("x = " + 40 * "[" + 40 * "]", "malformed TOML: tables or arrays nested more than 32 deep"),
        (".".join(900 * "a") + " = 1", "malformed TOML: a key of more than 32 parts"),
        ("[" + " . ".join(['"a b"'] * 20_000) + "]", "malformed TOML: a key of more than 32 parts"),
        (MINIMAL + "loss = 5e-324\n", "link.loss: 5e-324 is out of bounds: 0, or from 1e-15 to below 1"),
        (MINIMAL + "[policy]\nname = '" + 5000 * "a" + "'\n", "unknown policy 'aaaa"),
        (MINIMAL + "[policy]\nname = '" + 5000 * "a" + ".py:X'\n", "no such file"),
        (MINIMAL.replace("8 MiB", 5000 * "8"), 'guest.memory: unknown unit "88888'),
        (MINIMAL + "[device]\nprofile = '" + 5000 * "\\" + "'\n", "device.profile: "),
        ('seed = "a\\nb\\u001b[31m"\n' + MINIMAL, r"seed: 'a\nb\x1b[31m': should be"),
    ],
)
def test_a_file_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    assert told in short(refused(capsys, "run", path))


def test_unknown_keys_without_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text("".join(f"k{number} = 1\n" for number in range(20_000)))
    lines = refused(capsys, "run", path).splitlines()
    assert any("k0: unknown key" in line for line in lines)
    assert len(lines) < 30
    path.write_text("".join(f"k{number} = 1\n" for number in range(700_000)))
    assert "more than 2 MiB" in short(refused(capsys, "run", path))


def test_a_file_that_never_ends(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "more than 2 MiB" in short(refused(capsys, "run", "/dev/zero"))


@pytest.mark.parametrize("option", ["--set=x.y=" + 9000 * "1", "--set=" + ".".join(9000 * "a") + "=1"])
def test_a_long_option(capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(MINIMAL)
    short(refused(capsys, "run", path, option))


@pytest.mark.parametrize("option", ["--set=guest.memory=\udcff", "--policy=\udcff"])
def test_an_option_that_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(MINIMAL)
    assert "is no text in UTF-8" in short(refused(capsys, "run", path, option))


def test_a_replay_of_a_policy_that_cannot_be_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    migration = {"policy": "pending-limit", "policy_parameters": {"limits": 3}}
    head = {"format": "simmig-replay-1", "simmig": "", "broken": "", "words": "", "trace_sha256": ""}
    path.write_text(json.dumps(head | {"case": {"migration": migration}}))
    assert "unexpected keyword argument 'limits'" in short(refused(capsys, "verify", "--replay", path))


def test_points_that_no_memory_holds_are_refused_before_they_are_built(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(MINIMAL)
    ten = "[1,2,3,4,5,6,7,8,9,10]"
    parameters = ", ".join(f"a{number} = {ten}" for number in range(9))
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(f'scenario = "base.toml"\n[axes]\npolicy = [{{ name = "pending-limit", {parameters} }}]\n')

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    command = [sys.executable, "-m", "simmig.cli", "sweep", str(sweep), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=little)
    assert done.returncode == 2
    assert "1000000000 combinations; an axis has 100000 values at most" in short(done.stderr)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys; sys.exit(0)", "raised SystemExit: 0 (mine.py, line 1)"),
        (
            "class M(type):\n    def __getattr__(self, name): raise SystemExit\nclass X(metaclass=M): pass\n",
            "raised SystemExit (mine.py, line 2)",
        ),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt (mine.py, line 1)"),
        ("class X:\n    def __init__(self): raise SystemExit\n    drain = 3\n", "is no class with a drain"),
        (
            "class X:\n    def __init__(self): raise SystemExit\n    def drain(self, p, s): return 0\n",
            "cannot be made: SystemExit (mine.py, line 2)",
        ),
        (
            "class X:\n    def __init__(self): self.drain = 3\n    def drain(self, p, s): return 0\n",
            "has no drain(point, sender) method once it is made",
        ),
        (
            "class X:\n    @property\n    def promise(self): raise ValueError('nope')\n"
            "    def drain(self, p, s): 0\n",
            "cannot be made: ValueError: nope (mine.py, line 3)",
        ),
        ("class X:\n    promise = 'much'\n    def drain(self, p, s): 0\n", "'much' is no promise"),
        ("class X:\n    promise = 1.5\n    def drain(self, p, s): 0\n", "1.5 is no promise"),
        ("class X:\n    promise = -1\n    def drain(self, p, s): 0\n", "-1 is no promise"),
        ("class X:\n    promise = True\n    def drain(self, p, s): 0\n", "True is no promise"),
        (
            "class X:\n    def drain(self, p, s): raise SystemExit(3)\n",
            "raised SystemExit: 3 (mine.py, line 2) at ",
        ),
        (
            "class X:\n    def drain(self, p, s): raise KeyboardInterrupt\n",
            "raised KeyboardInterrupt (mine.py, line 2) at ",
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass X:\n    a: 'Undefined' = 3\n"
            "    def drain(self, p, s): return 0\n",
            "NameError: name 'Undefined' is not defined (mine.py, line 4)",
        ),
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass X:\n"
            "    a: int = field(default=3, metadata={'unit': ['bytes']})\n    def drain(self, p, s): return 0\n",
            "a: its unit is ['bytes'] (mine.py, line 4)",
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass X:\n    a: int = 1 << 70\n"
            "    b: object = object\n    def drain(self, p, s): return 0\n",
            "its value cannot be written down",
        ),
    ],
)
def test_a_policy_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "scenario.toml").write_text(MINIMAL)
    policy = tmp_path / "mine.py"
    policy.write_text(text)
    assert told in short(refused(capsys, "run", tmp_path / "scenario.toml", "--policy", f"{policy}:X"))
    if "drain(self, p, s): raise" not in text:
        assert told in short(refused(capsys, "verify", "--seeds", 1, "--policy", f"{policy}:X"))


def test_what_a_policy_prints_is_no_result(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(MINIMAL)
    policy = tmp_path / "mine.py"
    policy.write_text(
        "print('imported')\nclass X:\n    def __init__(self): print('made')\n"
        "    def drain(self, p, s): print('asked')\n"
    )
    assert main(["run", str(tmp_path / "scenario.toml"), "--policy", f"{policy}:X", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("{")
    assert printed.out.endswith("}\n")
    for each in ("imported", "made", "asked"):
        assert each not in printed.out
        assert each in printed.err


def test_what_a_policy_prints_is_no_verdict(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    chatty = tmp_path / "chatty.py"
    chatty.write_text("class X:\n    def drain(self, p, s): print('asked')\n")
    assert main(["verify", "--policy", f"{chatty}:X", "--seeds", "2", "--seed", "1", "--jobs", "1", "--json"]) == 0
    told = capfd.readouterr()
    assert isinstance(json.loads(told.out), dict)
    assert "asked" in told.err


def test_a_function_is_a_policy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(MINIMAL)
    policy = tmp_path / "mine.py"
    policy.write_text("def fully(point, sender):\n    return 0\n")
    assert main(["run", str(tmp_path / "scenario.toml"), "--policy", f"{policy}:fully"]) == 0
    assert f"{policy}:fully" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("rdma:192.0.2.7:4444", "write it without the scheme, 192.0.2.7:4444"),
        ("tcp://192.0.2.7:4444", "write it without the scheme, 192.0.2.7:4444"),
        ("2001:db8::7", "[2001:db8::7]:4444"),
        ("fe80::1:4444", "[fe80::1]:4444 or [fe80::1:4444]:4444"),
        ("192.0.2.7", "write ADDRESS:PORT"),
        ("192.0.2.7:0", "write ADDRESS:PORT"),
        (300 * "a" + ":1", "label too long"),
    ],
)
def test_an_address_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, address: str, told: str
) -> None:
    (tmp_path / "scenario.toml").write_text(MINIMAL)
    assert told in short(refused(capsys, "send", tmp_path / "scenario.toml", "--to", address))


def test_a_recording_that_never_ends(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scenario.toml").write_text(
        MINIMAL.replace("[link]", 'workload = { kind = "recorded", file = "/dev/zero" }\n[link]')
    )
    assert "a line of more than 200 characters" in short(refused(capsys, "run", tmp_path / "scenario.toml"))
    monkeypatch.setattr(machine, "MAX_RECORDING_ROWS", 3)
    recording = tmp_path / "writes.csv"
    recording.write_text("time_ns,first_page,pages\n" + "".join(f"{1 + row},0,1\n" for row in range(5)))
    setting = f"guest.workload.file={recording}"
    assert "more than 3 rows" in short(refused(capsys, "run", tmp_path / "scenario.toml", "--set", setting))


@pytest.mark.parametrize("setting", ["guest.memory=8 TiB", "guest.device_state=1 GiB"])
def test_a_guest_for_which_memory_does_not_suffice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr(memory_need, "available_bytes", lambda: 1 << 30)
    (tmp_path / "scenario.toml").write_text(MINIMAL)
    message = short(refused(capsys, "run", tmp_path / "scenario.toml", "--set", setting))
    assert "of memory, and 1 GiB are free here" in message


def test_memory_that_is_free_is_known() -> None:
    free_bytes = memory_need.available_bytes()
    assert free_bytes is not None
    assert free_bytes > 1 << 20
