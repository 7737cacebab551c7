"""What a check says: what exactly was covered, and of a failure everything that is needed to understand it."""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from simmig.verify.chart import chart, rows
from simmig.verify.chart_svg import chart_svg
from simmig.verify.explore import ANSWERS_REPEAT, Found, Tally
from simmig.verify.replay import encode, record
from simmig.verify.shrink import DoesNotBreak, shrink
from simmig.verify.subject import Subject
from simmig.verify.verdict import Verdict
from simmig.whole_file import write_new


def coverage(subject: Subject, tally: Tally) -> list[str]:
    """What was checked, a line each."""
    names = list(subject.invariants)
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


def as_json(subject: Subject, tally: Tally) -> dict[str, Any]:
    """The same for a program."""
    return {
        "runs": tally.cases,
        "runs_with_faults": tally.with_fault,
        "choice_points": tally.points,
        "choices": dict(sorted(tally.choices.items())),
        "faults": dict(sorted(tally.faults.items())),
        "outcomes": dict(sorted(tally.outcomes.items())),
        "invariants": list(subject.invariants),
    }


def counterexample(
    subject: Subject, found: Found, directory: Path, deadline: float | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Shrink what was found and write it to the directory, beside what is there; figures and lines about it.

    Shrinking ends with the deadline (of time.monotonic), but is given a second.
    """
    if found.invariant == ANSWERS_REPEAT:
        return _not_repeating(subject, found, found.words)
    until = None if deadline is None else max(deadline, time.monotonic() + 1)
    try:
        if found.verdict is None:
            case, verdict = shrink(subject, found.case, found.invariant, deadline=until)
        else:
            case, verdict = found.case, found.verdict
    except DoesNotBreak:
        return _not_repeating(
            subject,
            found,
            f"{found.invariant} broke ({found.words}), and the same case played again does not break it",
        )
    verdict = reorder(verdict, found.invariant)
    broken = verdict.broken[0]
    stem = f"{broken.invariant}-{verdict.digest()[:8]}"
    replay, picture = None, None
    lines = described(subject, case, verdict)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        replay = _written(directory, stem, ".json", encode(record(subject, case, verdict)))
        lines += ["", f"  replay: simmig verify --replay {shlex.quote(str(replay))}"]
        picture = _written(
            directory, replay.stem, ".svg", chart_svg(subject.story, verdict.events, broken).encode()
        )
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
        "steps": chart_steps(subject, verdict),
        "case": msgspec.to_builtins(case),
    }
    return figures, lines


def _not_repeating(subject: Subject, found: Found, words: str) -> tuple[dict[str, Any], list[str]]:
    """What cannot be shrunk, for no two runs of it are the same."""
    lines = [
        f"BROKEN: {ANSWERS_REPEAT} (the same case, the same run)",
        f"  {words}",
        f"  {subject.kind}: {subject.told(found.case) or 'the usual one'}",
        *(f"  fault planned: {fault}" for fault in found.case.faults),
        f"  {subject.must_repeat}",
        "",
    ]
    return {"invariant": ANSWERS_REPEAT, "words": words, "seed": found.seed}, lines


def described(subject: Subject, case: Any, verdict: Verdict) -> list[str]:
    """A run in words and as a chart."""
    lines = []
    for broken in verdict.broken[:1]:
        lines.append(f"BROKEN: {broken.invariant}" + (f" ({broken.rule})" if broken.rule else ""))
        lines.append(f"  {broken.words}")
    return [
        *lines,
        f"  {subject.kind}: {subject.told(case) or 'the usual one'}",
        *(f"  fault: {fault}" for fault in verdict.happened),
        *(f"  choice: {choice.kind} number {choice.number}: option {choice.option}" for choice in verdict.choices),
        f"  ended: {verdict.status}{f' ({verdict.reason})' if verdict.reason else ''}",
        "",
        chart(subject.story, verdict.events, verdict.broken[0] if verdict.broken else None),
    ]


def reorder(verdict: Verdict, invariant: str) -> Verdict:
    """The same with that invariant first."""
    verdict.broken.sort(key=lambda broken: broken.invariant != invariant)
    return verdict


def chart_steps(subject: Subject, verdict: Verdict) -> int:
    """How many rows a reader has to follow."""
    return len(rows(subject.story, verdict.events, verdict.broken[0] if verdict.broken else None))


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
