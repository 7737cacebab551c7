"""simmig init: what comes with simmig is found by name, copied, never over a file, and works as its copy says."""

from __future__ import annotations

import json
import os
import shlex
import tomllib
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.experiment.reference.settable import keys
from simmig.experiment.scenario.load import load_scenario
from simmig.experiment.scenario.starters import Starter, _starters, starters
from simmig.experiment.studies.sweep.spec import load_sweep

SMALL = ["--set", "guest.memory=16 MiB", "--set", "guest.workload={ kind = 'idle' }"]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(arguments) == status
    out, err = capsys.readouterr()
    return out if status == 0 else err


def test_what_there_is_is_listed_and_no_name_means_two_things(capsys: pytest.CaptureFixture[str]) -> None:
    listed = printed(capsys, "init")
    kinds = {each.kind for each in starters().values()}
    assert kinds == {"scenario", "sweep", "link", "host", "workload", "policy", "protocol", "project"}
    assert all(f" {name} " in listed for name in starters())
    names = [each.name for each in _starters()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("starter", starters().values(), ids=lambda each: each.name)
def test_every_copy_is_used_by_the_command_that_is_printed(
    starter: Starter, capsys: pytest.CaptureFixture[str]
) -> None:
    told = printed(capsys, "init", starter.name, "its own place")
    command = shlex.split(told.splitlines()[-1])
    assert command[0] == "simmig"
    copy = Path("its own place") / starter.file_name
    assert copy.is_dir() if starter.kind == "project" else copy.is_file()
    assert any(str(copy) in word for word in command)
    if starter.kind in ("link", "host", "policy", "project"):
        figures = json.loads(printed(capsys, *command[1:], *SMALL, "--json"))
        assert figures["status"] == "completed"
    elif starter.kind == "protocol":
        assert main([*command[1:-1], "5", "--jobs", "1"]) == 0
        assert "all invariants hold" in capsys.readouterr().out
    elif starter.kind == "workload":
        assert main([*command[1:], "--set", "guest.memory=8 MiB"]) == 2  # a working set of more than all memory
        assert "working_set" in capsys.readouterr().err
    else:
        (load_scenario if starter.kind == "scenario" else load_sweep)(copy)


def test_an_edited_model_is_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "init", "roce-100g")
    copy = Path("roce-100g.toml")
    assert "link" in tomllib.loads(copy.read_text())
    arguments = ("run", "quickstart", *SMALL, "--set", "link.model=roce-100g.toml", "--json")
    before = json.loads(printed(capsys, *arguments))
    copy.write_text(copy.read_text().replace('"100 Gbit/s"', '"1 Gbit/s"'))
    after = json.loads(printed(capsys, *arguments))
    assert after["total_time_ns"] > 2 * before["total_time_ns"]


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "init", "quickstart")
    Path("quickstart.toml").write_text("mine")
    assert "exists already" in printed(capsys, "init", "quickstart", status=2)
    printed(capsys, "init", "my-policy")
    Path("my-policy/my_policy.py").write_text("mine")
    assert "exists already" in printed(capsys, "init", "my-policy", status=2)
    assert Path("my-policy/my_policy.py").read_text() == "mine"
    assert Path("quickstart.toml").read_text() == "mine"


def test_a_name_is_the_shipped_scenario_and_a_file_of_that_name_goes_before_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_name = printed(capsys, "run", "quickstart", *SMALL, "--json")
    printed(capsys, "init", "quickstart")
    assert printed(capsys, "run", "quickstart.toml", *SMALL, "--json") == by_name
    Path("quickstart").write_text("seed = 7")
    assert "guest: missing" in printed(capsys, "run", "quickstart", status=2)


@pytest.mark.parametrize("command", ["run", "sweep", "advise"])
def test_a_name_that_is_none_is_told_with_the_nearest(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = "quik" if command == "sweep" else "quikstart"
    options = ["--downtime", "1 ms"] if command == "advise" else []
    told = printed(capsys, command, given, *options, status=2)
    assert "did you mean 'quick" in told
    assert "simmig init" in told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("simmig ru", {"run"}),
        ("simmig run quick", {"quickstart", "quick"}),
        ("simmig sweep drain", {"drain-question", "drain"}),
        ("simmig run quickstart --policy per-", {"per-round", "per-iteration", "per-chunk"}),
        ("simmig run quickstart --policy pending-limit,", {"pending-limit,limit="}),
        ("simmig advise quickstart --policies per-chunk,fin", {"per-chunk,final-only"}),
        ("simmig run quickstart --set link.mo", {"link.model="}),
        ("simmig run quickstart --set link.model=roce", {"link.model=roce-25g", "link.model=roce-100g"}),
        ("simmig run quickstart --set guest.workload.ra", {"guest.workload.rate="}),
        (
            "simmig run quickstart --set migration.control_q",
            {"migration.control_qp="},
        ),
        (
            "simmig run quickstart --set migration.control_qp=",
            {"migration.control_qp=shared", "migration.control_qp=own"},
        ),
        ("simmig run quickstart --against per-r", {"per-round", "per-r"}),
        ("simmig run quickstart --against link.la", {"link.latency=", "link.la"}),
        ("simmig run quickstart --against link.mtu=;link.la", {"link.mtu=;link.latency="}),
        ("simmig explain migration.downtime_l", {"migration.downtime_limit"}),
        ("simmig init my_", {"my_policy"}),
        ("simmig verify --policy at", {"at-switch"}),
        ("simmig predict trace --set migration.pin_all=", {"migration.pin_all=true", "migration.pin_all=false"}),
    ],
)
def test_the_shell_completes(
    line: str, expected: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = line.split(" ")
    monkeypatch.setitem(os.environ, "_SIMMIG_COMPLETE", "bash_complete")
    monkeypatch.setitem(os.environ, "COMP_WORDS", line)
    monkeypatch.setitem(os.environ, "COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        main([])
    assert {each.partition(",")[2] for each in capsys.readouterr().out.splitlines()} == expected


def test_every_key_that_is_completed_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(keys()) > 40
    for key in keys():
        assert main(["run", "quickstart", "--set", f"{key}=?"]) == 2
        assert "unknown key" not in (told := capsys.readouterr().err) or "guest.workload" in key, told
