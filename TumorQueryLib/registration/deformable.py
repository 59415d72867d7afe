"""The deformable part: a stationary velocity field after the affine transform."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from TumorQueryLib.base.progress import Progress
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import dilated
from TumorQueryLib.geometry.transforms import displacement_transform
from TumorQueryLib.registration.prepared import COST_RING, SPACING, PreparedImage
from TumorQueryLib.registration.velocity_field import exponential, refined, register_by_velocity_field

FIELD_SPACING = 3.0  # mm; of the displacement fields in the result: 6 MB each


def deformable_transforms(
    reference: PreparedImage, patient: PreparedImage, affine: sitk.AffineTransform, *, progress: Progress
) -> tuple[sitk.Transform, sitk.Transform]:
    """Atlas to patient and back: an affine transform and a displacement field in the atlas's space."""
    grid = reference.image.grid
    moving, _, moving_weight = patient.on(grid, affine)
    ring = dilated(reference.brain, COST_RING).astype(np.float32)
    velocity = register_by_velocity_field(
        reference.image.array, moving, ring, (moving_weight > 0.999).astype(np.float32), progress=progress
    )
    stored = refined(velocity, 2 * SPACING / FIELD_SPACING)
    stored_affine = grid.affine.copy()
    stored_affine[:3, :3] *= FIELD_SPACING / SPACING
    stored_grid = Grid(stored.shape[1:], stored_affine)
    displacement, inverse = (displacement_transform(exponential(v), stored_grid) for v in (stored, -stored))
    # A composite applies its last transform first.
    forward = sitk.CompositeTransform([affine, displacement])
    backward = sitk.CompositeTransform([inverse, affine.GetInverse()])
    return forward, backward
