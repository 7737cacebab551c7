"""A link that becomes slower on the way: recorded logs whose clock is stretched from a moment on."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.experiment.fit.link_speed import link_speeds, slowdowns
from simmig.trace.qemu_attempts import read_log

DATA = Path(__file__).parents[2] / "data"
LOGS = sorted(DATA.glob("qemu-*-rxe/*.src.trace.gz"))
STAMP = re.compile(r"@(\d+)\.(\d{6}):")


def slower_from(log: Path, place: Path, at_s: float, factor: int) -> Path:
    """Everything that is logged later than that takes so many times as long."""
    text = gzip.decompress(log.read_bytes()).decode()
    first = STAMP.search(text)
    assert first is not None
    since = int(first[1]) * 10**6 + int(first[2]) + round(at_s * 10**6)

    def moved(found: re.Match[str]) -> str:
        at = int(found[1]) * 10**6 + int(found[2])
        seconds, micros = divmod(at if at < since else since + factor * (at - since), 10**6)
        return f"@{seconds}.{micros:06}:"

    path = place / "slower.trace"
    path.write_text(STAMP.sub(moved, text))
    return path


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_no_recording_is_said_to_have_changed(log: Path) -> None:
    assert not link_speeds(read_log(log).recording)
    assert not slowdowns(read_log(log).recording)


@pytest.mark.parametrize(
    ("run", "at_s"), [("net200-idle-256-pinall", 9.0), ("dirty64-256-pinall", 6.0), ("dirty64-256-pinall", 12.0)]
)
def test_a_slower_link_is_seen_since_when_and_by_how_much(tmp_path: Path, run: str, at_s: float) -> None:
    log = next(each for each in LOGS if each.name.startswith(run))
    (_, before), (at_ns, after) = link_speeds(read_log(slower_from(log, tmp_path, at_s, 3)).recording)
    assert before / after == pytest.approx(3, rel=0.15)
    assert at_ns / 1e9 == pytest.approx(at_s, abs=1.5)


def test_the_range_contains_what_the_slower_link_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slower for the second half: more than the first round's costs alone would have it, and it is said."""
    log = next(each for each in LOGS if each.name.startswith("net60-dirty6-96-pinall"))
    path = slower_from(log, tmp_path, 9.0, 3)
    assert main(["predict", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "THE LINK'S SPEED CHANGED on the way" in out
