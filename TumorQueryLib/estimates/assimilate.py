"""Assimilation: a model's density corrected where the images contradict it.

Data assimilation's forecast and observation: the refined (or matched) density is the forecast,
the segmentation's outlines say where the density passes two levels. What the model misses there, in
log-odds, is spread into the tissue around by kriging; at last the density is held to the outlines on the T1Gd image's
grid, so that its thresholds give the segmentation back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.estimates.kriging import Kriging
from TumorQueryLib.estimates.outlines import OutlineResiduals, density_of_log_odds, log_odds, outline_residuals
from TumorQueryLib.geometry.grid import Grid, Volume, resample
from TumorQueryLib.geometry.regions import TumorMasks

#: Largest residual (log-odds) that the correction believes.
LARGEST_RESIDUAL = 1.0
#: mm; length of the Matern 3/2 correlation of what the model misses.
CORRELATION_LENGTH = 15.0
#: Standard deviation of a cluster's own error, as a share of the field's.
NUGGET = 0.5
#: mm from the whole tumour: the correction ends there, and falls to 0 over the last `TAPER` mm.
REACH, TAPER = 20.0, 5.0


def assimilate(
    model: Estimate, observed: TumorMasks, observed_in_anatomy: TumorMasks, thresholds: tuple[float, float]
) -> Estimate:
    """The estimate "assimilated" of a model's: it agrees with the outlines wherever they lie in tissue.

    Parameters
    ----------
    model : Estimate
        "match" or "refined", in any anatomy.
    observed : TumorMasks
        The segmentation on the T1Gd image's grid.
    observed_in_anatomy : TumorMasks
        The segmentation on the grid of the model's anatomy.
    thresholds : tuple of float
        Of core and whole tumour.

    Returns
    -------
    Estimate
        Without parameters of its own: no tumour of the growth model has this density. `density` is corrected,
        `in_patient` held to the outlines besides.
    """
    anatomy = model.anatomy
    corrected = Volume(_corrected(model, observed_in_anatomy, thresholds), anatomy.grid)
    in_patient = held_to_outlines(anatomy.in_patient(corrected, observed.grid), anatomy, observed, thresholds)
    return replace(
        model,
        name="assimilated",
        parameters=(),
        density=corrected,
        in_patient=in_patient,
        fit=Fit.of(in_patient, observed, thresholds),
        fit_in_anatomy=Fit.of(corrected, observed_in_anatomy, thresholds),
        residual_rms=outline_residuals(corrected, anatomy.tissue, observed_in_anatomy, thresholds).rms,
    )


def correction_of(residuals: OutlineResiduals, anatomy: Anatomy) -> Kriging:
    """The field of what a model misses, seen at clusters of the outlines' faces; lengths are the patient's."""
    return Kriging(residuals.points, CORRELATION_LENGTH / anatomy.length_scale, NUGGET)


def _corrected(model: Estimate, observed: TumorMasks, thresholds: tuple[float, float]) -> NDArray[np.float32]:
    """The density on the anatomy's grid with the outlines' residuals spread around."""
    tissue = model.anatomy.tissue
    seen = outline_residuals(model.density, tissue, observed, thresholds).limited(LARGEST_RESIDUAL).clustered()
    density = model.density.array.copy()
    if not len(seen.residuals):
        return density
    distance = distance_from(observed.whole, model.anatomy)
    near = tissue.mask & (distance < REACH)
    kriging = correction_of(seen, model.anatomy)
    added = kriging.mean(tissue.grid.to_ras(np.argwhere(near)), seen.residuals[:, None])[:, 0]
    density[near] = density_of_log_odds(log_odds(density[near]) + correction_share(distance[near]) * added)
    return density


def correction_share(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """What share of the correction is added at a distance (the patient's mm) from the whole tumour, in [0, 1]."""
    return np.clip((REACH - distance) / TAPER, 0, 1)


def distance_from(region: NDArray[np.bool_], anatomy: Anatomy) -> NDArray[np.float64]:
    """Distance (the patient's mm) of each voxel of an anatomy's grid from a region; infinite from an empty one."""
    if not region.any():
        return np.full(region.shape, np.inf)
    return ndimage.distance_transform_edt(~region, sampling=tuple(anatomy.grid.spacing * anatomy.length_scale))


def held_to_outlines(
    density: Volume, anatomy: Anatomy, observed: TumorMasks, thresholds: tuple[float, float]
) -> Volume:
    """A density on the T1Gd image's grid whose thresholds give the segmentation back wherever there is tissue.

    Parameters
    ----------
    density : Volume
        float32 in [0, 1].
    anatomy : Anatomy
        A voxel that holds some of its tissue is tissue: beyond it nothing is added.
    observed : TumorMasks
        On the density's grid.
    thresholds : tuple of float
        Of core and whole tumour.
    """
    tissue = anatomy.in_patient(Volume(anatomy.tissue.mask.astype(np.float32), anatomy.grid), observed.grid).array > 0
    sides = [(region & tissue, ~region) for region in (observed.core, observed.whole)]
    return Volume(_held(density.array, sides, thresholds), density.grid)


def held_alike(
    densities: Iterable[Volume], held: Volume, grid: Grid, thresholds: tuple[float, float]
) -> Iterator[Volume]:
    """Densities on one grid of the patient's, held to the outlines that another is held to (`held_to_outlines`).

    That one's nearest voxel tells on which side of each outline a voxel lies; beyond its grid none is known.
    """
    known = resample(held, grid, interpolation="nearest", outside=np.nan).array
    sides = [(known > threshold, known <= threshold) for threshold in thresholds]
    for density in densities:
        yield Volume(_held(density.array, sides, thresholds), grid)


def _held(
    density: NDArray[np.float32],
    sides: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    thresholds: tuple[float, float],
) -> NDArray[np.float32]:
    """A density above core's and whole tumour's threshold inside their outlines, and at most as large outside."""
    held = density.copy()
    for (inside, outside), threshold in reversed(list(zip(sides, thresholds))):
        below, above = (np.nextafter(np.float32(threshold), np.float32(bound)) for bound in (0, 1))
        np.maximum(held, above, out=held, where=inside)
        np.minimum(held, below, out=held, where=outside)
    return held
