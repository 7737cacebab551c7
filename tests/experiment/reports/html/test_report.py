"""The HTML report: everything in it, nothing outside it, and a real browser shows it."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from simmig.cli.main import main
from simmig.experiment.reports.html.page import write
from simmig.experiment.reports.html.sweep import page_of_sweep
from simmig.experiment.reports.plots.kinds import pictures
from simmig.experiment.reports.plots.results import Results
from simmig.experiment.reports.plots.space import is_input
from tests.experiment.reports.plots.frames import failed, frame, lost, row

SCENARIO = """# A small guest.
[guest]
memory = "8 MiB"
workload = { kind = "sweep", working_set = "1 MiB", rate = "10 MiB/s" }
[link]
bandwidth = "10 Gbit/s"
latency = "5 us"
"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Seen(HTMLParser):
    """The tags that ask for something, and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(path: Path) -> Seen:
    page = Seen()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture
def run_report(tmp_path: Path) -> Path:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    report = tmp_path / "run.html"
    assert main(["run", str(tmp_path / "scenario.toml"), "--report", str(report), "--json"]) == 0
    return report


@pytest.fixture
def sweep_report(tmp_path: Path) -> Path:
    rows = frame(
        row("per-chunk", 20, 4000), lost("final-only") | {"reason": "<b>& never</b>"}, row("at-switch", 9)
    )
    results = Results(tmp_path / "results.parquet", rows, {"versions": {"simmig": "1.2.3"}, "sweep": "[axes]\n"})
    report = tmp_path / "sweep.html"
    write(page_of_sweep(results, pictures(results), "Sweep <i>mine</i>"), report)
    return report


def test_nothing_outside_the_file_is_asked_for(run_report: Path, sweep_report: Path) -> None:
    for report in (run_report, sweep_report):
        page = seen(report)
        assert page.asked
        assert all(url.startswith("data:image/svg+xml;base64,") for url in page.asked)
        assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
        text = report.read_text()
        assert "@import" not in text
        assert "url(" not in text
        for url in page.asked:
            picture = base64.b64decode(url.partition(",")[2]).decode()
            assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', picture))
            assert "<image" not in picture or "data:image/png" in picture


def test_a_run_s_figures_have_units_and_sources(run_report: Path) -> None:
    text = seen(run_report).text
    for words in (
        "total time",
        "downtime",
        "identical",
        "Gbit/s",
        "trace (sha256)",
        "holds",
        "per-iteration",
        "seed",
    ):
        assert words in text
    assert "BROKEN" not in text
    assert '"working_set_bytes": 1048576' in text


def test_a_sweep_tells_what_did_not_complete_and_escapes_it(sweep_report: Path) -> None:
    page = seen(sweep_report)
    assert "2 of 3 points completed; 1 not-converging" in page.text
    assert "<b>& never</b>" in page.text
    assert "Sweep <i>mine</i>" in page.text
    assert {"b", "i"} & set(page.tags) == {"b"}  # the page's own, for figures
    assert "<i>" not in sweep_report.read_text()
    assert "1.2.3" in page.text


def test_a_broken_invariant_is_told(tmp_path: Path) -> None:
    rows = frame(row("per-chunk", 20), row("at-switch", 9) | {"invariants_held": False})
    rows["invariants_broken"] = [None, "memory_identical"]
    results = Results(tmp_path / "results.parquet", rows, {})
    page = page_of_sweep(results, pictures(results), "x")
    assert not page.good
    assert "BROKEN at 1 points: memory_identical" in dict(page.invariants)["every invariant"]
    assert "1 broke an invariant" in page.verdict


def test_points_that_could_not_be_simulated_have_a_number_a_place_and_a_reason(tmp_path: Path) -> None:
    error = "values that do not go together"
    rows = frame(row("per-chunk", 20), failed("final-only", error), failed("at-switch", error), failed("x", error))
    rows["point"] = range(10, 14)
    inputs = [name for name in rows.columns if is_input(name)]
    rows.loc[3, inputs] = None
    results = Results(tmp_path / "results.parquet", rows, {})
    page = page_of_sweep(results, pictures(results), "x")
    reasons = next(table for table in page.tables if table.title == "Points that did not complete")
    assert [list(cells) for cells in reasons.rows] == [
        ["11", "final-only", "not simulated", error],
        ["12", "at-switch", "not simulated", error],
        ["13", "not known", "not simulated", error],
    ]
    assert dict(page.invariants) == {
        "every invariant": "holds at 1 of 4 points; the others could not be simulated"
    }
    none = Results(results.path, rows.iloc[1:3], {})
    assert dict(page_of_sweep(none, {}, "x").invariants) == {"every invariant": "nothing could be simulated"}


def test_a_report_is_never_overwritten(run_report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run_report.read_bytes()
    scenario = run_report.parent / "scenario.toml"
    assert main(["run", str(scenario), "--report", str(run_report)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert run_report.read_bytes() == before


def test_runs_that_were_kept_are_reported(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    for policy in ("final-only", "per-chunk"):
        arguments = [str(tmp_path / "scenario.toml"), "--policy", policy, "--out", str(tmp_path / "runs" / policy)]
        assert main(["run", *arguments]) == 0
    assert main(["plot", str(tmp_path / "runs"), "--report", str(tmp_path / "both.html")]) == 0
    assert main(["plot", str(tmp_path / "runs" / "per-chunk"), "--report", str(tmp_path / "one.html")]) == 0
    assert "2 runs side by side" in seen(tmp_path / "both.html").text
    assert "completed: 8 MiB guest, sweep" in seen(tmp_path / "one.html").text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the report with")
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_it(sweep_report: Path, tmp_path: Path, width: int) -> None:
    """Chromium paints the page: the picture has the verdict's green bar and colours of the plots in it."""
    assert CHROMIUM is not None
    shot = tmp_path / f"{width}.png"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    size = f"--window-size={max(width, 500)},1600"
    command = [CHROMIUM, *QUIET, profile, size, f"--screenshot={shot}", sweep_report.as_uri()]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    image = Image.open(shot).convert("RGB")
    colors = {color for _, color in image.getcolors(1 << 24) or ()}
    assert (0x00, 0x9E, 0x73) in colors  # the bar beside the verdict
    assert len(colors) > 50  # and a picture, with its soft edges
