"""The chart of `simmig.verify.chart` as a picture: the same rows as SVG, with no font or script from elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from simmig.verify.chart import Finding, Row, rows, title
from simmig.verify.story import Step, Story, time_text

_WIDTH, _LEFT, _RIGHT = 1000, 130, 970
_LINE, _PAD, _TOP = 18, 14, 64
_COLUMNS = 108
_FONTS = "DejaVu Sans, Helvetica, Arial, sans-serif"
_INK, _FAINT, _GUEST, _BAD, _FAULT = "#1f2933", "#8a949e", "#2b6cb0", "#c0262d", "#b7600a"
_COLORS = {"routine": _FAINT, "guest": _GUEST, "fault": _FAULT, "error": _BAD}


def chart_svg(story: Story, events: Sequence[Any], violation: Finding | None = None) -> str:
    """The trace as a message-sequence chart, an SVG document."""
    body: list[str] = []
    y, before = _TOP, story.runs
    for row in rows(story, events, violation):
        drawn, height = _row(row, y, violation)
        body += [_lifeline(x, y, height, runs) for x, runs in zip((_LEFT, _RIGHT), before, strict=True)]
        body += drawn
        y, before = y + height, row.runs
    body += [_lifeline(x, y, 16, runs) for x, runs in zip((_LEFT, _RIGHT), before, strict=True)]
    height = y + 56
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" font-family="{_FONTS}" font-size="13">',
            "<defs>",
            *(_marker(name, color) for name, color in (("ink", _INK), ("faint", _FAINT), ("bad", _BAD))),
            "</defs>",
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            _text(_LEFT, 40, story.names[0], _INK, "middle", "bold"),
            _text(_RIGHT - 30, 40, story.names[1], _INK, "middle", "bold"),
            *body,
            _text(_LEFT, height - 14, story.caption, _FAINT),
            "</svg>",
            "",
        ]
    )


def _row(row: Row, y: int, violation: Finding | None) -> tuple[list[str], int]:
    """What is drawn of a row whose top is at `y`, and how high it is."""
    if row.step is None:
        assert violation is not None
        return _box(title(violation), violation.t_ns, y)
    step = row.step
    when = _text(_LEFT - 14, y + _LINE, time_text(step.t_ns), _FAINT, "end")
    drawn, height = _arrow(step, y) if step.arrow else _note(step, y)
    return [when, *drawn], height


def _note(step: Step, y: int) -> tuple[list[str], int]:
    color = _COLORS.get(step.kind, _INK)
    text = f"fault: {step.text}" if step.kind == "fault" else step.text
    lines = textwrap.wrap(text, _COLUMNS) or [""]
    weight = "normal" if step.kind == "note" else "bold"
    source = step.side == "source"
    x, anchor = (_LEFT + 16, "start") if source else (_RIGHT - 16, "end")
    drawn = [_text(x, y + _LINE * (i + 1), line, color, anchor, weight) for i, line in enumerate(lines)]
    if step.kind != "note":
        at = _LEFT if source else _RIGHT
        drawn.append(f'<circle cx="{at}" cy="{y + _LINE - 5}" r="5" fill="{color}" stroke="white"/>')
    return drawn, _LINE * len(lines) + _PAD


def _arrow(step: Step, y: int) -> tuple[list[str], int]:
    bad = step.lost or step.kind == "error"
    color = _BAD if bad else _COLORS.get(step.kind, _INK)
    marker = "bad" if bad else "faint" if step.kind == "routine" else "ink"
    lines = textwrap.wrap(step.text, _COLUMNS - 8) or [""]
    middle = (_LEFT + _RIGHT) // 2
    drawn = [_text(middle, y + _LINE * (i + 1), line, color, "middle") for i, line in enumerate(lines)]
    at = y + _LINE * len(lines) + 7
    begin, end = (_LEFT + 6, _RIGHT - 6) if step.side == "source" else (_RIGHT - 6, _LEFT + 6)
    if step.lost:
        end += (begin - end) // 12
    style = 'stroke-dasharray="4 5"' if step.kind == "routine" else ""
    width = 3 if step.kind == "writes" else 1.4
    ends = "" if step.lost else f' marker-end="url(#{marker})"'
    if step.arrow == "both":
        ends += f' marker-start="url(#{marker})"'
    place = f'x1="{begin}" y1="{at}" x2="{end}" y2="{at}"'
    drawn.append(f'<line {place} stroke="{color}" stroke-width="{width}" {style}{ends}/>')
    if step.lost:
        drawn.append(
            f'<path d="M{end - 6} {at - 6} l12 12 m0 -12 l-12 12" stroke="{color}" stroke-width="2" fill="none"/>'
        )
    return drawn, _LINE * len(lines) + _PAD


def _box(text: str, t_ns: int, y: int) -> tuple[list[str], int]:
    lines = textwrap.wrap(text, _COLUMNS - 6)
    height = _LINE * len(lines) + 16
    drawn = [
        f'<rect x="{_LEFT + 10}" y="{y + 2}" width="{_RIGHT - _LEFT - 20}" height="{height}" rx="4" '
        f'fill="#fdecec" stroke="{_BAD}" stroke-width="1.5"/>',
        _text(_LEFT - 14, y + _LINE + 4, time_text(t_ns), _BAD, "end"),
        *(
            _text(_LEFT + 24, y + 4 + _LINE * (i + 1), line, _BAD, "start", "normal" if i else "bold")
            for i, line in enumerate(lines)
        ),
    ]
    return drawn, height + 10


def _lifeline(x: int, y: int, height: int, runs: bool) -> str:
    color, width = (_GUEST, 5) if runs else (_FAINT, 1.4)
    return f'<line x1="{x}" y1="{y}" x2="{x}" y2="{y + height}" stroke="{color}" stroke-width="{width}"/>'


def _marker(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" markerUnits="userSpaceOnUse" markerWidth="12" markerHeight="12" refX="9" refY="6" '
        f'orient="auto-start-reverse"><path d="M1 1 L11 6 L1 11 z" fill="{color}"/></marker>'
    )


def _text(x: int, y: int, text: str, color: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
    )
