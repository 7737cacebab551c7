"""Names beside points, placed so that none hides another, a point or a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

_SAME_PT = 5.0  # points nearer than this look like one
_BESIDE_PT = 6.0  # from a point to its name
_WIDER = 1.08  # PDF and SVG have unhinted type, which may be wider than what is measured here


class Named(NamedTuple):
    """A point in the axes' own coordinates, its name, the group it belongs to, and the colour of its name."""

    name: str
    group: str
    x: float
    y: float
    color: str


def label_points(
    axes: Axes, points: Sequence[Named], lines: Sequence[tuple[float, float, float, float]] = (), size: float = 6.0
) -> None:
    """Name every point; those that a reader would take for one share a label.

    Args:
        axes: with its final limits and place in the figure.
        points: what to name.
        lines: level and upright lines that a name should not cross, from x, y to x, y.
        size: of the type, in points.
    """
    drawn = _Drawn([], [], [])
    drawn.lines = [
        Bbox.null().union([Bbox([_pixels(axes, *line[:2]), _pixels(axes, *line[2:])])]) for line in lines
    ]
    for merged in _merged(axes, points):
        names = [point.name for point in merged]
        of_group = [point.name for point in points if point.group == merged[0].group]
        marks = [_mark(axes, point, merged[0]) for point in points]
        _place(axes, _text(names, of_group), merged[0], marks, drawn, size)


@dataclass
class _Drawn:
    """What is there already, in pixels: boxes of lines and of names, and the lines from points to their names."""

    lines: list[Bbox]
    boxes: list[Bbox]
    leaders: list[Path]


def _mark(axes: Axes, point: Named, named: Named) -> Bbox:
    """The place of a point, with room beside one further away: a name there would be taken for that one's."""
    (px, py), (own_px, own_py) = (_pixels(axes, each.x, each.y) for each in (point, named))
    width = height = _pixels_of(axes, 3.0)
    if max(abs(px - own_px), abs(py - own_py)) > 4 * height:
        width = _pixels_of(axes, _BESIDE_PT + 2)
    return Bbox.from_extents(px - width, py - height, px + width, py + height)


def _text(names: list[str], of_group: list[str]) -> str:
    """The names, or, where that is shorter, those of the group that are not among them."""
    others = [name for name in of_group if name not in names]
    if len(of_group) > 2 and not others:
        return "every policy"
    if len(names) > 3 and 2 * len(others) < len(names):
        return "\n".join(["all but", *others])
    return "\n".join(names)


def _place(axes: Axes, text: str, point: Named, marks: Sequence[Bbox], drawn: _Drawn, size: float) -> None:
    """Write a label at the nearest free place, and keep where it is.

    Free is where its own line crosses nothing either; else where the label alone covers nothing; else beside it.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = RendererAgg(*figure.canvas.get_width_height(), figure.dpi)  # type: ignore[no-untyped-call]
    inside = axes.get_window_extent(renderer)
    at = _pixels(axes, point.x, point.y)
    own = next(mark for mark in marks if mark.contains(*at))
    crossable = [*drawn.boxes, *(mark for mark in marks if not mark.overlaps(own))]
    taken = [*drawn.lines, *drawn.boxes, *marks]
    for is_strict in (True, False):
        for dx, dy, across in _offsets():
            label = _annotate(axes, text, point, (dx, dy), across, size)
            box = _box_of(label, renderer)
            leader = Path([at, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)])
            fits = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
            free = fits and not any(box.overlaps(other) for other in taken)
            if free and not (is_strict and _crosses(leader, box, crossable, drawn.leaders)):
                drawn.boxes.append(box)
                drawn.leaders.append(leader)
                return
            label.remove()
    drawn.boxes.append(_box_of(_annotate(axes, text, point, (_BESIDE_PT, 0), "left", size), renderer))


def _annotate(
    axes: Axes, text: str, point: Named, offset: tuple[float, float], across: str, size: float
) -> Annotation:
    label = axes.annotate(
        text,
        (point.x, point.y),
        xytext=offset,
        textcoords="offset points",
        ha=across,
        va="center",
        fontsize=size,
        color=point.color,
        linespacing=1.1,
        arrowprops={"arrowstyle": "-", "color": point.color, "alpha": 0.5, "lw": 0.5, "shrinkB": 2},
    )
    label.set_in_layout(False)
    return label


def _box_of(label: Annotation, renderer: RendererAgg) -> Bbox:
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer).expanded(_WIDER, 1.0)


def _crosses(leader: Path, box: Bbox, boxes: Sequence[Bbox], leaders: Sequence[Path]) -> bool:
    """Whether the line to a name goes through another name or point, or the name lies on another's line."""
    return (
        any(leader.intersects_bbox(other) for other in boxes)
        or any(other.intersects_bbox(box) for other in leaders)
        or any(other.intersects_path(leader, filled=False) for other in leaders)
    )


def _offsets() -> Iterator[tuple[float, float, str]]:
    """Where a label may stand, in points from its own, nearest first."""
    for distance in range(0, 150, 4):
        for dy in (distance, -distance):
            yield _BESIDE_PT + distance / 6, float(dy), "left"
            yield -_BESIDE_PT - distance / 6, float(dy), "right"


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    px, py = axes.transData.transform((x, y))
    return float(px), float(py)


def _pixels_of(axes: Axes, points: float) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return points * figure.dpi / 72


def _merged(axes: Axes, points: Sequence[Named]) -> list[list[Named]]:
    """The points of a group that look like one, together."""
    same = _pixels_of(axes, _SAME_PT)
    merged: list[list[Named]] = []
    for point in points:
        px, py = _pixels(axes, point.x, point.y)
        for others in merged:
            other_px, other_py = _pixels(axes, others[0].x, others[0].y)
            near = abs(px - other_px) < same and abs(py - other_py) < same
            if near and others[0].group == point.group:
                others.append(point)
                break
        else:
            merged.append([point])
    return merged
