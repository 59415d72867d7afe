"""Outlines of masks as contours of radiotherapy want them: between the voxels, holes joined to what is around them."""

from __future__ import annotations

import contourpy
import numpy as np
from numpy.typing import NDArray

#: Levels that an outline may lie at: nearer to 0 or 1 it would touch the centres of voxels.
LEVELS = (0.05, 0.95)


def outlines_of(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The outlines of a slice's mask: each once around, with the holes in it as keyholes.

    The line runs between the centres of the voxels within and without, so that whoever fills it by
    centres gets the mask; and just so far out that the lines of a slice enclose the area of its voxels.

    Parameters
    ----------
    mask : ndarray of bool, shape (n, m)

    Returns
    -------
    list of ndarray, shape (points, 2)
        Indices along both axes, fractional; the last point is joined to the first.
    """
    if not mask.any():
        return []
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    start = np.array([rows[0], columns[0]])
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(float)
    generator = contourpy.contour_generator(z=padded.T, fill_type=contourpy.FillType.OuterOffset)
    found = []
    for points, offsets in zip(*generator.filled(_level(padded > 0), 2.0)):
        # Each line ends where it begins.
        lines = [points[first : last - 1] for first, last in zip(offsets[:-1].astype(int), offsets[1:].astype(int))]
        found.append(_without_points_between(_with_keyholes(lines[0], lines[1:])) + start - 1)
    return found


def area_of(polygon: NDArray[np.float64]) -> float:
    """The area of a polygon, shape (points, 2), keyholes taken off; in squares of its unit."""
    x, y = polygon.T
    return float(abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2)


def _level(mask: NDArray[np.bool_]) -> float:
    """The level of a padded mask's values, linear between centres, whose lines enclose as much as its voxels."""
    quads = np.stack([mask[:-1, :-1], mask[1:, :-1], mask[1:, 1:], mask[:-1, 1:]]).astype(int)
    inside = quads.sum(axis=0)
    opposite = (inside == 2) & (quads[0] == quads[2])
    one, three, four = (np.count_nonzero(inside == count) for count in (1, 3, 4))
    two, saddles, wanted = np.count_nonzero((inside == 2) & ~opposite), np.count_nonzero(opposite), mask.sum()

    def area(level: float) -> float:
        out = 1 - level
        # The middle of a saddle, where the mean is one half, belongs to what is above the level.
        saddle = 1 - level**2 if level < 0.5 else out**2
        return float(one * out**2 / 2 + two * out + three * (1 - level**2 / 2) + saddles * saddle + four)

    low, high = LEVELS
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if area(middle) > wanted else (low, middle)
    # Where the middles of saddles change sides, at one half, no level may do; the nearer of both sides is taken.
    return min((low, high), key=lambda level: abs(area(level) - wanted))


def _with_keyholes(outer: NDArray[np.float64], holes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """An outline and the holes in it as one line, which runs into each hole and back where both are nearest.

    The nearest hole comes first, so that no way to one crosses another. A hole runs the other way
    round, so that filling by winding number leaves it open, too.
    """
    while holes:
        gaps = [np.linalg.norm(outer[:, None] - hole[None], axis=2) for hole in holes]
        nearest = int(np.argmin([gap.min() for gap in gaps]))
        hole = holes.pop(nearest)
        i, j = np.unravel_index(int(gaps[nearest].argmin()), gaps[nearest].shape)
        outer = np.concatenate([outer[: i + 1], hole[j:], hole[: j + 1], outer[i:]])
    return outer


def _without_points_between(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """A polygon without the points that lie on the straight way from the point before to the point after."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    straight = (np.abs(turn) < 1e-9) & ((before * after).sum(axis=1) > 0)
    return polygon[~straight]
