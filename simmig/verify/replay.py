"""Replay files: a case, what it broke, and the digest of its trace, so that playing it again proves the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import simmig
from simmig.verify.subject import Subject
from simmig.verify.verdict import Verdict

FORMAT = "simmig-replay-1"


class Replay(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replay file holds. `broken` names the invariant, empty for a case that must hold.

    `subject` says what is played, as on the command line; empty for the migration.
    """

    format: str
    simmig: str
    broken: str
    words: str
    trace_sha256: str
    case: Any
    subject: str = ""


class ReplayError(ValueError):
    """A file that is no replay file; the message names it and what is wrong."""


def record(subject: Subject, case: Any, verdict: Verdict) -> Replay:
    """The replay of a case that has been played."""
    first = verdict.broken[0] if verdict.broken else None
    return Replay(
        FORMAT,
        simmig.__version__,
        "" if first is None else first.invariant,
        "" if first is None else first.words,
        verdict.digest(),
        case,
        subject.command,
    )


def encode(replay: Replay) -> bytes:
    """The same bytes for the same replay, indented for a reader."""
    return msgspec.json.format(msgspec.json.encode(replay), indent=1) + b"\n"


def read(path: Path, subject_of: Callable[[str], Subject]) -> tuple[Replay, Subject]:
    """The file, and what it plays; `subject_of` finds that by what the file calls it.

    Raises ReplayError for a file that cannot be read or is no replay file.
    """
    try:
        replay = msgspec.json.decode(path.read_bytes(), type=Replay)
        subject = subject_of(replay.subject)
        replay = msgspec.structs.replace(replay, case=msgspec.convert(replay.case, subject.case_type, strict=True))
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ReplayError(f"{path}: no replay file: {error}") from error
    if replay.format != FORMAT:
        raise ReplayError(f"{path}: format {replay.format!r}, this simmig reads {FORMAT!r}")
    return replay, subject
