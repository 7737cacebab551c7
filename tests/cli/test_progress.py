"""What somebody who waits is told of a long run."""

from __future__ import annotations

import pytest

from simmig.cli import progress
from simmig.trace import events as ev


def test_the_rest_of_a_round_is_estimated_at_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("simmig.cli.progress.time.monotonic", lambda: now_s)
    monkeypatch.setattr(progress, "_LOOK_EVERY", 1)
    said: list[str] = []
    reader = progress.Progress(said.append)
    reader(ev.RoundBegan(t_ns=0, side="source", index=1, dirty_pages=1000))
    now_s = 100.5
    reader(ev.PagesSaved(t_ns=1, side="source", page=0, count=100, how="zero"))
    assert "about" not in said[-1]
    now_s = 102.0
    reader(ev.PagesSaved(t_ns=1, side="source", page=100, count=100, how="zero"))
    assert said[-1].endswith("about 8 s more for this round")
    reader(ev.RoundBegan(t_ns=2, side="source", index=2, dirty_pages=50))
    now_s = 103.0
    reader(ev.PagesSaved(t_ns=3, side="source", page=0, count=50, how="zero"))
    assert "about" not in said[-1]
