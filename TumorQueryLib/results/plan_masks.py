"""The masks that plans are made of: margins, the densest voxels, and how far two outlines lie apart."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import ROUNDING, bounding_box, distance_from, slices_between


def margin_plan(
    target: NDArray[np.bool_], distance: NDArray[np.floating], margin: float, within: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """A target, and what lies within a margin around it where a plan may lie.

    Parameters
    ----------
    target : ndarray of bool
        Always part of the plan.
    distance : ndarray
        Of each voxel's centre from the target, mm (`distance_from`).
    margin : float
        mm.
    within : ndarray of bool
        Where a plan may lie: the brain, perhaps without CSF.
    """
    return target | ((distance <= margin + ROUNDING) & within)


def densest_of(
    order: NDArray[np.int64], shape: tuple[int, ...], count: int, smallest_part: int = 0
) -> NDArray[np.bool_]:
    """The first voxels of an order, without small parts.

    Parameters
    ----------
    order : ndarray of int
        Flat indices of where they may lie, see `ranked`.
    shape : tuple of int
        Of the grid.
    count : int
        How many; at most as many as the order has.
    smallest_part : int
        Parts (connected by faces) of fewer voxels are left out, and the next voxels of the order that belong to larger
        parts take their place. Where there is no part so large, or too little beside the large ones, the order alone
        decides.

    Returns
    -------
    ndarray of bool, shape `shape`
        With exactly `count` voxels.

    Raises
    ------
    InputError
        When the order has fewer voxels.
    """
    if count > order.size:
        raise InputError(f"A plan of {count:,} voxels was asked for, and where it may lie there are {order.size:,}.")

    def large_parts(number: int) -> NDArray[np.bool_]:
        return without_small_parts(_first(order, shape, number), smallest_part)

    kept = large_parts(count)
    have = np.count_nonzero(kept)
    if have == count or not have:
        # Where no part is large enough, the volume that was asked for is itself a small part.
        return kept if have else _first(order, shape, count)
    # What is kept of the first n grows with n: the least n that keeps enough lies between these two.
    too_few, enough = count, count
    while have < count and enough < order.size:
        too_few, enough = enough, min(order.size, enough + count - have)
        kept = large_parts(enough)
        have = np.count_nonzero(kept)
    while have > count and enough - too_few > 1:
        middle = (too_few + enough) // 2
        if np.count_nonzero(large_parts(middle)) < count:
            too_few = middle
        else:
            enough = middle
    kept = large_parts(enough)
    if np.count_nonzero(kept) == count:
        return kept
    # The last voxel brought a whole part with it, or all large parts are too little: the rest grows from what is there.
    return _grown(large_parts(too_few) if have > count else kept, order, count)


def _first(order: NDArray[np.int64], shape: tuple[int, ...], count: int) -> NDArray[np.bool_]:
    chosen = np.zeros(shape, bool)
    chosen.ravel()[order[:count]] = True
    return chosen


def ranked(
    density: NDArray[np.floating], distance: NDArray[np.floating], within: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Flat indices of the voxels of `within`, densest first, then nearest, then of lowest index."""
    index = np.flatnonzero(within)
    index = index[np.argsort(distance.ravel()[index], kind="stable")]
    return index[np.argsort(-density.ravel()[index], kind="stable")]


def without_small_parts(mask: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    """A mask without its parts (connected by faces) of fewer than `smallest` voxels."""
    if smallest <= 1 or not mask.any():
        return mask
    box = slices_between(*bounding_box(mask))
    labels, _ = ndimage.label(mask[box])
    large = np.bincount(labels.ravel()) >= smallest
    large[0] = False
    kept = np.zeros_like(mask)
    kept[box] = large[labels]
    return kept


def _grown(mask: NDArray[np.bool_], order: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """A mask and, one after the other, the voxel beside it that comes first in an order, until it has `count`.

    Where none lies beside it, the one that comes first.
    """
    place = np.full(mask.shape, order.size, np.int64)
    place.ravel()[order] = np.arange(order.size)
    grown, edge = mask.copy(), ndimage.binary_dilation(mask) & ~mask
    waiting = [(int(place[voxel]), voxel) for voxel in map(tuple, np.argwhere(edge & (place < order.size)).tolist())]
    heapq.heapify(waiting)
    have, seen = int(np.count_nonzero(mask)), {voxel for _, voxel in waiting}
    others = iter(order)
    while have < count:
        if waiting:
            _, voxel = heapq.heappop(waiting)
        else:
            voxel = next(at for at in (np.unravel_index(one, mask.shape) for one in others) if not grown[at])
            voxel = tuple(map(int, voxel))
        grown[voxel] = True
        have += 1
        for neighbour in _neighbours(voxel, mask.shape):
            if not grown[neighbour] and neighbour not in seen and place[neighbour] < order.size:
                seen.add(neighbour)
                heapq.heappush(waiting, (int(place[neighbour]), neighbour))
    return grown


def _neighbours(voxel: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for axis in range(3):
        for step in (-1, 1):
            moved = voxel[axis] + step
            if 0 <= moved < shape[axis]:
                yield (*voxel[:axis], moved, *voxel[axis + 1 :])


def outline_distances(first: NDArray[np.bool_], second: NDArray[np.bool_], grid: Grid) -> dict[str, float] | None:
    """Distances between two masks' outlines, both ways: `mean`, `p95`, `max` in mm; None where a mask is empty.

    An outline are the voxels of a mask with a face towards the outside, and distances lie between voxel centres.
    """
    if not (first.any() and second.any()):
        return None
    start, stop = bounding_box(first | second)
    box, near = slices_between(start, stop), grid.cropped(start, stop)
    outlines = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (first, second)]
    there, back = (distance_from(Volume(outline, near)) for outline in outlines)
    distances = np.concatenate([back[outlines[0]], there[outlines[1]]])
    return {
        "mean": float(distances.mean()),
        "p95": float(np.percentile(distances, 95)),
        "max": float(distances.max()),
    }
