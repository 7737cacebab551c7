"""simmig run A --against B: each row is what a run of its own gives, and what did not complete is not drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.patches import Rectangle

from simmig.cli.main import main
from simmig.experiment.reports.plots.against import figure
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides
from simmig.experiment.studies.against import carry_out, sides
from tests.cli.test_run import SCENARIO


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SCENARIO)
    Path("idle.toml").write_text(SCENARIO.replace("50 MiB/s", "1 MiB/s"))
    return "small.toml"


ASKED = {
    "migration.transport=tcp": ["--set", "migration.transport=tcp"],
    "link.latency=1 ms; link.bandwidth=1 Gbit/s": [
        "--set",
        "link.latency=1 ms",
        "--set",
        "link.bandwidth=1 Gbit/s",
    ],
    "pending-limit,limit=1 MiB": ["--policy", "pending-limit,limit=1 MiB"],
    "idle.toml": [],
}


def test_each_row_is_the_run_of_its_own(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    against = [word for what in ASKED for word in ("--against", what)]
    assert main(["run", scenario, *against, "--seed", "5", "--out", "compared", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row.pop("name") for row in rows] == ["small", *list(ASKED)[:3], "idle"]
    for row, (what, options) in zip(rows, {"": [], **ASKED}.items(), strict=True):
        alone = what if what.endswith(".toml") else scenario
        main(["run", alone, *options, "--seed", "5", "--json"])
        assert json.loads(capsys.readouterr().out) == row
    assert {file.name for file in Path("compared").iterdir()} == {
        "comparison.txt",
        "comparison.json",
        "comparison.png",
    }
    told = Path("compared/comparison.txt").read_text()
    assert all(what.split(",")[0].split(";")[0].removesuffix(".toml") in told for what in ASKED)


def test_what_does_not_complete_has_no_bar(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    never = "guest.workload.rate=20 GiB/s; migration.downtime_limit=100 us; migration.max_rounds=6"
    assert main(["run", scenario, "--against", never]) == 1
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "not-converging" in line)
    assert " none " in row
    ran = carry_out(sides(Path(scenario), Overrides(), [never]), run, lambda _: None)
    total, downtime = figure([(each.side.name, each.result) for each in ran]).axes[:2]
    assert len(total.patches) == 1
    widths = [bar.get_width() for bar in downtime.patches if isinstance(bar, Rectangle)]
    downtime_ns = ran[0].result.metrics.downtime_ns
    assert sum(widths) == pytest.approx(downtime_ns / (1e6 if downtime_ns >= 1_000_000 else 1e3))
    assert [text.get_text() for text in total.texts].count("\u2717 not-converging") == 1


def test_settings_that_begin_alike_are_told_apart_in_the_picture(scenario: str) -> None:
    alike = [f"migration.transport=tcp; migration.max_bandwidth={most}" for most in ("unlimited", "1 GiB/s")]
    ran = carry_out(sides(Path(scenario), Overrides(), alike), run, lambda _: None)
    drawn = figure([(each.side.name, each.result) for each in ran])
    labels = [label.get_text().replace("\n", " ") for label in drawn.axes[0].get_yticklabels()]
    assert labels == ["small", *alike]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--against", "per-chunks"], "no policy, no table.key=value, and as a scenario"),
        (["--against", "link.bandwith=1 Gbit/s"], "did you mean 'bandwidth'?"),
        (["--against", "pending-limit,limit=3"], "has no unit"),
        (["--against", "per-chunk", "--backend", "rdma"], "compares simulations"),
        (["--against", "per-chunk", "--report", "it.html"], "--out DIR leaves its table and picture"),
        (["--against", "per-chunk"] * 10, "are a sweep"),
    ],
)
def test_mistakes_are_told(
    scenario: str, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", scenario, *arguments]) == 2
    assert told in capsys.readouterr().err
