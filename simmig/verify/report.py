"""What a check says: what exactly was covered, and of a failure everything that is needed to understand it."""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from simmig.verify.case import Case, Small
from simmig.verify.chart import chart, rows
from simmig.verify.chart_svg import chart_svg
from simmig.verify.explore import Found, Tally
from simmig.verify.invariants import CATALOGUE
from simmig.verify.judge import RULES
from simmig.verify.play import Verdict
from simmig.verify.replay import encode, record
from simmig.verify.shrink import DoesNotBreak, shrink
from simmig.whole_file import write_new

ANSWERS_REPEAT = "answers_repeat"


def coverage(tally: Tally) -> list[str]:
    """What was checked, a line each."""
    names = _names()
    happened = sum(tally.faults.values())
    lines = [
        f"{tally.cases} runs, {tally.with_fault} of them with {happened} faults; {tally.points} points of choice,"
        f" {sum(tally.choices.values())} taken otherwise than usual",
        f"outcomes: {_counted(tally.outcomes)}",
    ]
    if tally.faults:
        lines.append(f"faults: {_counted(tally.faults)}")
    if tally.choices:
        lines.append(f"choices: {_counted(tally.choices)}")
    lines.append(f"{len(names)} invariants of every run that has what they are about: {', '.join(names)}")
    return lines


def as_json(tally: Tally) -> dict[str, Any]:
    """The same for a program."""
    return {
        "runs": tally.cases,
        "runs_with_faults": tally.with_fault,
        "choice_points": tally.points,
        "choices": dict(sorted(tally.choices.items())),
        "faults": dict(sorted(tally.faults.items())),
        "outcomes": dict(sorted(tally.outcomes.items())),
        "invariants": _names(),
    }


def counterexample(
    found: Found, directory: Path, deadline: float | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Shrink what was found and write it to the directory, beside what is there; figures and lines about it.

    Shrinking ends with the deadline (of time.monotonic), but is given a second.
    """
    if found.invariant == ANSWERS_REPEAT:
        return _not_repeating(found, found.words)
    until = None if deadline is None else max(deadline, time.monotonic() + 1)
    try:
        if found.verdict is None:
            case, verdict = shrink(found.case, found.invariant, deadline=until)
        else:
            case, verdict = found.case, found.verdict
    except DoesNotBreak:
        return _not_repeating(
            found, f"{found.invariant} broke ({found.words}), and the same case played again does not break it"
        )
    verdict = reorder(verdict, found.invariant)
    broken = verdict.broken[0]
    stem = f"{broken.invariant}-{verdict.digest()[:8]}"
    replay, picture = None, None
    lines = described(case, verdict)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        replay = _written(directory, stem, ".json", encode(record(case, verdict)))
        lines += ["", f"  replay: simmig verify --replay {shlex.quote(str(replay))}"]
        picture = _written(directory, replay.stem, ".svg", chart_svg(verdict.events, broken).encode())
        lines.append(f"  picture: {picture}")
    except OSError as error:
        lines += ["", f"  NOT written to {directory}: {error.strerror}"]
    figures = {
        "invariant": broken.invariant,
        "rule": broken.rule,
        "words": broken.words,
        "seed": found.seed,
        "replay": None if replay is None else str(replay),
        "svg": None if picture is None else str(picture),
        "trace_sha256": verdict.digest(),
        "events": len(verdict.events),
        "steps": chart_steps(verdict),
        "case": msgspec.to_builtins(case),
    }
    return figures, lines


def _not_repeating(found: Found, words: str) -> tuple[dict[str, Any], list[str]]:
    """What cannot be shrunk, for no two runs of it are the same."""
    lines = [
        f"BROKEN: {ANSWERS_REPEAT} (the same case, the same run)",
        f"  {words}",
        f"  migration: {told(found.case.migration) or 'the usual one'}",
        *(f"  fault planned: {fault}" for fault in found.case.faults),
        "  A policy keeps no state outside of itself and draws no unseeded chance: else nothing can be replayed.",
        "",
    ]
    return {"invariant": ANSWERS_REPEAT, "words": words, "seed": found.seed}, lines


def described(case: Case, verdict: Verdict) -> list[str]:
    """A run in words and as a chart."""
    lines = []
    for broken in verdict.broken[:1]:
        lines.append(f"BROKEN: {broken.invariant}" + (f" ({broken.rule})" if broken.rule else ""))
        lines.append(f"  {broken.words}")
    return [
        *lines,
        f"  migration: {told(case.migration) or 'the usual one'}",
        *(f"  fault: {fault}" for fault in verdict.happened),
        *(f"  choice: {choice.kind} number {choice.number}: option {choice.option}" for choice in verdict.choices),
        f"  ended: {verdict.status}{f' ({verdict.reason})' if verdict.reason else ''}",
        "",
        chart(verdict.events, verdict.broken[0] if verdict.broken else None),
    ]


def reorder(verdict: Verdict, invariant: str) -> Verdict:
    """The same with that invariant first."""
    verdict.broken.sort(key=lambda broken: broken.invariant != invariant)
    return verdict


def told(small: Small) -> str:
    """What of a migration is not as usual."""
    usual = Small()
    return ", ".join(
        f"{name} {getattr(small, name)}"
        for name in small.__struct_fields__
        if getattr(small, name) != getattr(usual, name)
    )


def chart_steps(verdict: Verdict) -> int:
    """How many rows a reader has to follow."""
    return len(rows(verdict.events, verdict.broken[0] if verdict.broken else None))


def _names() -> list[str]:
    """All that a run is held to."""
    return list(dict.fromkeys([*(kind.name for kind in CATALOGUE), *RULES]))


def _written(directory: Path, stem: str, suffix: str, content: bytes) -> Path:
    """A file with that content, under a name in the directory that was not taken."""
    for number in count(1):
        path = directory / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        with suppress(FileExistsError):
            write_new(path, content)
            return path
    raise AssertionError("numbers do not end")


def _counted(counter: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))
