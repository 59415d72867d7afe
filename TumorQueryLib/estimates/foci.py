"""Tumours with two foci: each half of a multifocal one is fitted by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.estimates.moments import best_exact_moment
from TumorQueryLib.estimates.search import ENDS, Search, Start, as_point
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import GrowthParameters

#: Solved at a region's centre too, where a large tumour's match may be far off; mm.
CENTRE_LENGTHS = (1.0, 2.0, 4.0)
#: A component of the core counts as a focus from this volume on, where the number of foci is left open.
SMALLEST_FOCUS_ML = 1.0


def halves(target: TumorMasks, smallest_ml: float) -> tuple[TumorMasks, TumorMasks] | None:
    """A tumour cut between the two largest components of its core; None where it has no two.

    Parameters
    ----------
    target : TumorMasks
    smallest_ml : float
        Volume (ml) that both components have at least.

    Returns
    -------
    tuple of TumorMasks, or None
        The half of the larger component first; every voxel belongs to the half whose component is nearer.
    """
    parts, count = ndimage.label(target.core)
    if count < 2:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    larger, smaller = np.argsort(-sizes, kind="stable")[:2] + 1
    if sizes[smaller - 1] * target.grid.voxel_volume_ml < smallest_ml:
        return None
    to_larger, to_smaller = (
        ndimage.distance_transform_edt(parts != part, sampling=tuple(target.grid.spacing)) for part in (larger, smaller)
    )
    first, second = (
        TumorMasks(target.core & side, target.whole & side, target.grid)
        for side in (to_larger <= to_smaller, to_larger > to_smaller)
    )
    return first, second


def search_two_foci(
    search: Search,
    sides: tuple[TumorMasks, TumorMasks],
    solves: int,
    proliferation: float,
    *,
    progress: Progress = no_progress,
) -> tuple[list[GrowthParameters], str]:
    """A tumour for each half; the search's path goes on.

    Parameters
    ----------
    search : Search
        Of the tumour as a whole.
    sides : tuple of TumorMasks
        See `halves`.
    solves : int
        Budget of both together.
    proliferation : float
        1/day, of both.
    progress : Progress

    Returns
    -------
    found : list of GrowthParameters
        Fewer than two where the time was up before.
    stopped : {"time", "budget", "converged"}
        Why the searches ended; of two, the one whose end says less.
    """
    found, ends = [], set()
    for number, side in enumerate(sides):
        if "time" in ends:
            break
        half = search.of_other(side, progress=part(progress, number / 2, (number + 1) / 2))
        best = half.run(centre_starts(side), max(1, solves // 2))
        search.take_over(half, f"focus {number + 1}")
        ends.add(half.stopped)
        rho_t = best_exact_moment(
            best.seed, best.infiltration_length, best.rho_t, search.tissue, side, search.thresholds
        )
        found.append(GrowthParameters.from_identifiable(best.seed, best.infiltration_length, rho_t, proliferation))
    return found, next(end for end in ENDS if end in ends)


def centre_starts(target: TumorMasks) -> list[Start]:
    """Starts at the centre of the core (of the whole tumour, where there is no core)."""
    region = target.core if target.core.any() else target.whole
    centre = as_point(target.grid.to_ras(np.argwhere(region).mean(axis=0)))
    return [(centre, length) for length in CENTRE_LENGTHS]


def combined_density(densities: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Density of tumours that grew apart: a cell's place is free where none of them has taken it."""
    free = np.ones_like(densities[0])
    for density in densities:
        free *= 1 - density
    return 1 - free
