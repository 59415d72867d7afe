"""The two regions of a tumour, core and whole: on a grid, of a density, and how alike two of them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask

if TYPE_CHECKING:
    import SimpleITK as sitk

#: Densities above which a voxel belongs to the core (seen in T1Gd) and to the whole tumour (seen in FLAIR).
THRESHOLD_CORE = 0.6
THRESHOLD_WHOLE = 0.2
#: Lengths that differ by less (mm) are the same: formats write a voxel's edge with different digits.
ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class TumorMasks:
    """A tumour's two regions on one grid: what a query compares, and what a fit is counted on.

    Parameters
    ----------
    core : ndarray of bool, shape grid.shape
        Tumour core, what T1Gd shows: cell density above 0.6. May be empty.
    whole : ndarray of bool, shape grid.shape
        Whole tumour, what FLAIR shows: cell density above 0.2.
    grid : Grid
        The atlas's, the patient's anatomy's or the T1Gd image's; RAS mm.

    Raises
    ------
    InputError
        When a mask is not boolean or not of the grid's shape.
    """

    core: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    grid: Grid

    def __post_init__(self) -> None:
        for name, mask in (("core", self.core), ("whole", self.whole)):
            if mask.dtype != np.bool_:
                raise InputError(f"The {name} mask holds {mask.dtype}; a mask is a boolean array.")
            if mask.shape != self.grid.shape:
                raise InputError(f"The {name} mask has shape {mask.shape}, its grid {self.grid.shape}.")

    @classmethod
    def on_grid(cls, core: Volume, whole: Volume, grid: Grid, transform: sitk.Transform | None = None) -> TumorMasks:
        """Regions carried to another grid.

        Parameters
        ----------
        core, whole : Volume
            Boolean masks, each on any grid.
        grid : Grid
        transform : SimpleITK.Transform, optional
            Maps points of the grid to points of the masks, in LPS mm.

        Returns
        -------
        TumorMasks
            Small regions keep their volume (`resample_mask`); the core lies within the whole, which resampling each
            by itself does not see to.
        """
        moved_core = resample_mask(core, grid, transform).array
        moved_whole = resample_mask(whole, grid, transform).array
        return cls(core=moved_core, whole=moved_whole | moved_core, grid=grid)

    def volumes_ml(self) -> tuple[float, float]:
        """Volumes of core and whole tumour in millilitres."""
        voxel = self.grid.voxel_volume_ml
        return float(np.count_nonzero(self.core) * voxel), float(np.count_nonzero(self.whole) * voxel)


def dice_from_counts(intersection: ArrayLike, first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Dice from voxel counts: 2 |A and B| / (|A| + |B|); 1 where both sets are empty.

    All strategies compute their exact Dice here or with the same float64 operations
    in the same order, so that equal counts give equal scores to the last bit.
    """
    total = np.asarray(first, dtype=np.float64) + np.asarray(second, dtype=np.float64)
    both_empty = total == 0
    return np.where(both_empty, 1.0, 2.0 * np.asarray(intersection) / np.where(both_empty, 1.0, total))


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Dice coefficient of two boolean arrays: 1 when both are empty, 0 when one is."""
    intersection = np.count_nonzero(first & second)
    return float(dice_from_counts(intersection, np.count_nonzero(first), np.count_nonzero(second)))


def threshold_density(density: Volume, threshold_core: float, threshold_whole: float) -> tuple[Volume, Volume]:
    """Core and whole tumour of a density: where it strictly exceeds the thresholds."""
    return (
        Volume(density.array > threshold_core, density.grid),
        Volume(density.array > threshold_whole, density.grid),
    )


def bounding_box(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last index of a mask's voxels along each axis; the mask must not be empty."""
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return np.array([s[0] for s in spans]), np.array([s[-1] + 1 for s in spans])


def slices_between(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[slice, ...]:
    """What takes the voxels from `start` to before `stop`, along each axis, out of an array."""
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop))


def distance_from(mask: Volume) -> NDArray[np.float32]:
    """Distance of every voxel's centre from the nearest centre of a mask's voxels, float32, mm; 0 inside.

    The grid's axes are at right angles, as images' are. Infinite everywhere where the mask is empty.
    """
    if not mask.array.any():
        return np.full(mask.grid.shape, np.inf, np.float32)
    distance = ndimage.distance_transform_edt(~mask.array, sampling=mask.grid.spacing)
    return distance.astype(np.float32)


def dilated(mask: Volume, margin: float) -> NDArray[np.bool_]:
    """A mask and all voxels whose centre lies within `margin` mm of the centre of one of its voxels, boolean."""
    if not mask.array.any():
        return mask.array
    start, stop = bounding_box(mask.array)
    reach = np.ceil(margin / mask.grid.spacing).astype(int)
    start, stop = np.maximum(start - reach, 0), np.minimum(stop + reach, mask.grid.shape)
    box = slices_between(start, stop)
    grown = np.zeros_like(mask.array)
    grown[box] = distance_from(Volume(mask.array[box], mask.grid.cropped(start, stop))) <= margin + ROUNDING
    return grown
