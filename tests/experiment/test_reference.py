"""The reference is held to schema and code: nothing left out or made up, its defaults and bounds true."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from simmig.cli.main import main
from simmig.experiment.errors import InputError
from simmig.experiment.leap.envelope import outside
from simmig.experiment.reference import catalogue, json_schema, page
from simmig.experiment.reference.catalogue import words
from simmig.experiment.reference.keys import keys
from simmig.experiment.runs.run import run
from simmig.experiment.scenario import schema
from simmig.experiment.scenario.data import data_dir
from simmig.experiment.scenario.load import Overrides, build_scenario, load_scenario
from simmig.experiment.scenario.toml_file import read_toml
from simmig.experiment.studies.sweep import columns
from simmig.migration import policies

SCENARIOS = [path for path in sorted(data_dir("scenarios").rglob("*.toml")) if path.parent.name != "sweeps"]
KEYS = {key.name: key for key in keys()}
BASE: dict[str, Any] = {
    "guest": {"memory": "64 MiB"},
    "link": {"bandwidth": "1 Gbit/s", "latency": "5 us"},
}
WORKLOADS: dict[str, dict[str, Any]] = {
    "guest.workload.hot": {
        "kind": "hotspot",
        "working_set": "4 MiB",
        "rate": "1 MiB/s",
        "hot_set": "1 MiB",
        "hot_fraction": 0.5,
    },
    "guest.workload.page": {"kind": "recorded", "file": "none.csv"},
    "guest.workload": {"kind": "uniform", "working_set": "4 MiB", "rate": "1 MiB/s"},
}


def scenario(*settings: str) -> schema.Scenario:
    return build_scenario(copy.deepcopy(BASE), Path("base.toml"), Overrides(settings))


def settings_for(name: str, value: str) -> list[str]:
    """How a key is set to a value, with what else it takes to have it."""
    if name.startswith("guest.workload.") and name != "guest.workload.kind":
        kind = next((words for key, words in WORKLOADS.items() if name.startswith(key)), {})
        return [*(f"guest.workload.{key}={each}" for key, each in kind.items()), f"{name}={value}"]
    return [f"{name}={value}"]


def test_every_key_is_told_and_no_other() -> None:
    assert set(words()["key"]) == set(KEYS)
    assert all(about["meaning"] for about in words()["key"].values())


def test_every_policy_is_told_and_no_other() -> None:
    assert set(words()["policy"]) == set(policies.builtin())


def test_every_figure_is_told_and_no_other() -> None:
    result = run(scenario())
    told = set(words()["figure"])
    figures = {*result.figures(), *result.tables()}
    parts = {f"downtime_parts.{name}" for name in result.figures()["downtime_parts"]}
    assert told - {"devices", "guest_late_ns"} == figures | parts
    assert {*columns._CHECKS, "point", "error"} == set(words()["parquet"])
    assert set(columns._FIGURES) <= told


LISTED = (
    "guest.block.",
    "guest.workload.measured.",
    "migration.change.",
)  # whose tables --set does not reach into
DEFAULTED = [name for name, key in KEYS.items() if key.default is not None and not name.startswith(LISTED)]


@pytest.mark.parametrize("name", DEFAULTED)
def test_a_default_is_what_stands_where_nothing_is_written(name: str) -> None:
    default = KEYS[name].default
    assert default is not None
    *beside, set_to_it = settings_for(name, default)
    assert scenario(*beside, set_to_it) == scenario(*beside)


BOUNDED = [name for name, key in KEYS.items() if key.bounds[1] and not name.startswith(LISTED)]


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_are_those_that_are_kept(name: str) -> None:
    low, high = KEYS[name].bounds
    assert low is not None
    assert high is not None
    number, _, unit = high.partition(" ")
    beyond = f"{float(number) * 1.02:g} {unit}" if unit else str(int(float(number)) + 1)
    for value in [beyond, *([f"-1 {unit}"] if unit else ["-1"])]:
        with pytest.raises(InputError) as caught:
            scenario(*settings_for(name, value))
        assert name in str(caught.value)
    scenario(*settings_for(name, low))


EVENTS_ONLY = {
    "migration.transport": "tcp",
    "link.loss": "0.01",
}
ALIKE = {
    "guest.dirty_log_page": "2 MiB",
    "guest.workload.kind": "recorded",
    "migration.pin_all": "true",
    "migration.control_wait": "deferred",
    "migration.control_qp": "own",
    "migration.change": '[{ at = "1 s", downtime_limit = "1 s" }]',
    "migration.slice": "round",
}


def test_what_the_compiled_engine_does_not_know_is_marked() -> None:
    for name, value in EVENTS_ONLY.items():
        assert outside(scenario(f"{name}={value}")) is not None, name
        assert "compiled" in words()["key"][name]
    for name, value in ALIKE.items():
        more = ["guest.workload.file=none.csv"] if value == "recorded" else []
        assert outside(scenario(f"{name}={value}", *more)) is None, name
        assert "compiled" not in words()["key"][name]
    marked = {name for name, about in words()["key"].items() if "compiled" in about}
    assert marked == {*EVENTS_ONLY, "host.tcp_byte"}


def test_the_page_is_what_is_made_of_it() -> None:
    written = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == page(), "make it anew: python docs/reference.py"


# --- the JSON schema ---

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_json_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_json_schema_takes_every_shipped_scenario(path: Path) -> None:
    load_scenario(path)
    assert [error.message for error in VALIDATOR.iter_errors(read_toml(path))] == []


GOOD: list[dict[str, Any]] = [
    {"guest": {"block": [{"name": "pc.ram", "size": "8 MiB"}]}},
    {"link": {"model": "roce-100g"}},
    {"link": {"model": "roce-100g", "bandwidth": "40 Gbit/s"}},
    {"guest": {"memory": "8 GiB", "workload": {"model": "stress-7500m"}}},
    {"guest": {"memory": "8 GiB", "ballooned": 0.5}},
    {"guest": {"memory": "8 GiB", "ballooned": "50 %", "zero_fraction": "12.5%"}},
    {"link": {"model": "roce-100g", "loss": "0.1 %"}},
    {"migration": {"max_bandwidth": 0, "slice": "unlimited"}},
    {"migration": {"slice": "5 ms", "max_bandwidth": "1 Gbit/s"}},
    {"policy": {"name": "pending-limit", "limit": "8 MiB"}},
    {"host": {"post_byte": "0.2 ns"}},
    {"destination_host": {"model": "server-2020"}},
]
BAD: list[dict[str, Any]] = [
    {"gust": {}},
    {"guest": {"memory": "8"}},
    {"link": {"model": "roce-100g", "loss": "0.1"}},
    {"guest": {"memory": 8}},
    {"guest": {"memory": "8 GiB/s"}},
    {"guest": {"memory": "8 MiB", "zero_fraction": 1.5}},
    {"guest": {"memory": "8 MiB", "workload": {"kind": "walk"}}},
    {"guest": {"memory": "8 MiB", "workload": {"kind": "uniform", "rate": "1 MiB/s"}}},
    {"guest": {"memory": "8 MiB", "workload": {"kind": "idle", "rate": "1 MiB/s"}}},
    {"guest": {"block": [{"name": "pc.ram"}]}},
    {"link": {"bandwidth": "1 Gbit/s"}},
    {"link": {"bandwidth": "1 Gbit", "latency": "5 us"}},
    {"link": {"bandwidth": "1 Gbit/s", "latency": "5"}},
    {"link": {"bandwidth": "1 Gbit/s", "latency": "5 us", "loss": 1}},
    {"migration": {"pin_all": "yes"}},
    {"migration": {"transport": "udp"}},
    {"migration": {"max_rounds": 0}},
    {"migration": {"max_rounds": 1.5}},
    {"migration": {"slice": "for ever"}},
    {"policy": {"name": "pending-limit", "limits": "8 MiB"}},
    {"policy": {"name": "pending-limit", "limit": 8}},
    {"policy": {"name": "per-round", "limit": "8 MiB"}},
    {"host": {"post": "-1 ns"}},
    {"seed": -1},
]


def accepted(change: dict[str, Any]) -> bool:
    try:
        build_scenario(copy.deepcopy(BASE | change), Path("base.toml"))
    except InputError:
        return False
    return True


@pytest.mark.parametrize("change", GOOD, ids=str)
def test_schema_and_loader_take_it(change: dict[str, Any]) -> None:
    assert accepted(change)
    assert VALIDATOR.is_valid(BASE | change)


@pytest.mark.parametrize("change", BAD, ids=str)
def test_schema_and_loader_refuse_it(change: dict[str, Any]) -> None:
    assert not accepted(change)
    assert not VALIDATOR.is_valid(BASE | change)


# --- at the terminal ---


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    return status, *capsys.readouterr()


def test_every_word_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    status, listed, _ = said(capsys, "explain")
    assert status == 0
    for entry in catalogue():
        assert entry.name in listed
        status, out, _ = said(capsys, "explain", entry.name)
        assert (status, f"{entry.name} ({entry.kind})" in out) == (0, True)
        assert all(len(line) <= 130 for line in out.splitlines()), out


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("slice", "migration.slice (key)"),
        ("link", "link.bandwidth (key)"),
        ("policies", "per-chunk (policy)"),
        ("rules", "memory_identical (rule)"),
        ("destination_host.post", "host.post (key)"),
        ("recording", "time_ns,first_page,pages"),
        ("policy.limit", "pending-limit (policy)"),
        ("guest.workload.hot_set", "needed by hotspot"),
        ("guest.workload.working_set", "may be given to dirty-rate"),
        ("workload", "guest.workload.rate (key)"),
    ],
)
def test_parts_and_tables_are_found(capsys: pytest.CaptureFixture[str], word: str, told: str) -> None:
    status, out, _ = said(capsys, "explain", word)
    assert (status, told in out) == (0, True)


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("slise", "slice"),
        ("downtme_ns", "downtime_ns"),
        ("per-chunks", "per-chunk"),
        ("dirty", "said of guest."),
        ("", "lists all"),
    ],
)
def test_an_unknown_word_is_told_with_what_is_near(
    capsys: pytest.CaptureFixture[str], word: str, near: str
) -> None:
    status, out, error = said(capsys, "explain", word)
    assert (status, out) == (2, "")
    assert near in error


def test_schema_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "schema")
    assert status == 0
    assert json.loads(out) == json_schema()
