"""Images as the registration wants them: the brain found, intensities scaled, the tumour weighted out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import ROUNDING, bounding_box, dilated

SPACING = 2.0  # mm; the grid on which images are compared
PADDING = 24.0  # mm around the atlas brain: room for the velocity field to fall to zero
RING = 12.0  # mm of background around the brain that the affine sees: without it the brain's outline has no say
COST_RING = 6.0  # mm of background that the deformable part sees
TUMOUR_MARGIN = 3.0  # mm by which the tumour is dilated before it is left out


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the registration wants it: the brain between 0.05 and 1.05, 0 elsewhere, `weight` 0 in the tumour."""

    image: Volume
    brain: Volume
    weight: Volume
    has_skull: bool

    @classmethod
    def of_patient(cls, image: Volume, tumour: Volume | None, brain_mask: Volume | None) -> PreparedImage:
        """A patient's image; `tumour` and `brain_mask` are boolean masks on any grid."""
        values = np.nan_to_num(image.array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        has_skull = False
        if brain_mask is not None:
            brain = resample_mask(brain_mask, image.grid).array
            if not brain.any():
                raise InputError("The brain mask is empty or lies elsewhere in space than the image.")
        else:
            brain, has_skull = find_brain(Volume(values, image.grid))
        weight = np.ones(image.grid.shape, dtype=np.float32)
        if tumour is not None and tumour.array.any():
            weight[dilated(resample_mask(tumour, image.grid), TUMOUR_MARGIN)] = 0
        return cls._scaled(values, brain, weight, image.grid, has_skull)

    @classmethod
    def of_atlas(cls, atlas: Atlas) -> PreparedImage:
        """The atlas T1 on a grid of 2 mm along RAS, padded, of odd sizes so that every second voxel spans it."""
        brain = atlas.brain_mask
        start, stop = bounding_box(brain.array)
        corners = brain.grid.to_ras(np.array(list(itertools.product(*zip(start, stop - 1)))))
        low, high = corners.min(axis=0) - PADDING, corners.max(axis=0) + PADDING
        half = np.ceil((high - low) / (2 * SPACING)).astype(int)
        affine = np.diag([SPACING, SPACING, SPACING, 1.0])
        affine[:3, 3] = (low + high) / 2 - half * SPACING
        grid = Grid((int(2 * half[0] + 1), int(2 * half[1] + 1), int(2 * half[2] + 1)), affine)
        prepared = cls._scaled(atlas.t1.array, brain.array, np.ones(brain.grid.shape, np.float32), brain.grid, False)
        image, small_brain, _ = prepared.on(grid)
        return cls(Volume(image, grid), Volume(small_brain > 0.5, grid), Volume(np.ones_like(image), grid), False)

    @classmethod
    def _scaled(
        cls,
        values: NDArray[np.float32],
        brain: NDArray[np.bool_],
        weight: NDArray[np.float32],
        grid: Grid,
        has_skull: bool,
    ) -> PreparedImage:
        low, high = np.percentile(values[brain], (1, 99.5))
        if not high > low:
            raise InputError("The brain in the image has one intensity only; give the T1Gd or T1 image itself.")
        scaled = (np.clip(values, low, high) - low) / np.float32(high - low) + np.float32(0.05)
        scaled[~brain] = 0
        return cls(Volume(scaled, grid), Volume(brain, grid), Volume(weight, grid), has_skull)

    def stripped_by(self, reference: PreparedImage, patient_to_atlas: sitk.Transform) -> PreparedImage:
        """The same with the brain where the atlas's brain lies: a rough substitute for skull stripping."""
        brain = resample_mask(reference.brain, self.image.grid, patient_to_atlas).array & self.brain.array
        if not brain.any():
            return self
        return self._scaled(self.image.array, brain, self.weight.array, self.image.grid, True)

    def on(
        self, grid: Grid, transform: sitk.Transform | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Image, brain (share) and weight on another grid; all 0 outside the image."""
        # Axes finer than the grid are smoothed to its resolution first, thick slices are left as they are.
        spacing = self.image.grid.spacing
        sigma = 0.42 * np.sqrt(np.maximum(SPACING**2 - spacing**2, 0)) / spacing
        smooth = Volume(ndimage.gaussian_filter(self.image.array, sigma), self.image.grid)
        brain = Volume(self.brain.array.astype(np.float32), self.brain.grid)
        return (
            resample(smooth, grid, transform).array,
            resample(brain, grid, transform).array,
            resample(self.weight, grid, transform).array,
        )


def isotropic_around(brain: Volume) -> Grid:
    """A grid of 2 mm along the image's own axes around the brain and a ring of background."""
    box = brain.grid.cropped(*bounding_box(brain.array))
    return box.isotropic_like(SPACING, np.ceil((box.spacing * box.shape + 2 * RING - ROUNDING) / SPACING))
